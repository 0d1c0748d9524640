"""The terms of a step and of a round, with simple constants: every time is worked by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.constants import (
    CostConstants,
    Errors,
    Fitted,
    ModelError,
    fitted,
)
from eagle3_plugin.planning.cost import (
    Cost,
    Engine,
    Load,
    Machine,
    RoundCost,
    baseline_step,
    round_cost,
)
from eagle3_plugin.planning.gpus import find_gpu, parse_gpu
from eagle3_plugin.planning.settings import parse
from eagle3_plugin.planning.shapes import DraftShape, Experts, TargetShape, known_target
from eagle3_plugin.settings import Settings, chain

GPU = parse_gpu("mem_gib=24,mem_bw_gbps=1000,bf16_tflops=100")
TARGET = TargetShape(1000, 4000, 10, 8, 2, 125, 50000)
"""1000 * (10 * (2 * 1000 + 2 * 250 + 3 * 4000) + 50000) = 195 M weights; 10,000 bytes of KV."""

MOE = TargetShape(1000, 4000, 10, 8, 2, 125, 50000, Experts(4, 1, 1000, 10))
"""75.04 M weights in every step (40,000 of them route), 30 M in each expert."""

DRAFT = DraftShape(pass_params=20_000_000, fc_params=3_000_000, kv_bytes_per_token=1000)
CONSTANTS = CostConstants(1.25, 2.0, 1e-3, 10e-6, 100e-6, 200e-6, 300e-6, 20e-6, 0.5, 400e-6)
FIT = Fitted(
    CONSTANTS,
    Errors(ModelError(0.02, 0.03), ModelError(0.03, 0.04), ModelError(0.05, 0.06)),
    Errors(ModelError(0.1, 0.2), ModelError(0.2, 0.3), ModelError(0.3, 0.4)),
    max_requests=4,
)
ONE = Load(1, 1000)


def machine(engine: Engine = "sglang", num_gpus: int = 1) -> Machine:
    return Machine(GPU, num_gpus, engine)


def microseconds(cost: Cost) -> Mapping[str, float]:
    return {term.name: round(1e6 * term.seconds, 6) for term in cost.terms}


def round_of(settings: str, at: Machine, load: Load = ONE, **given: float) -> RoundCost:
    parsed = parse(settings)
    assert isinstance(parsed, Settings)
    return round_cost(TARGET, DRAFT, at, load, parsed, fit=FIT, **given)


def test_a_step_reads_weights_and_cache_and_computes_its_tokens() -> None:
    cost = baseline_step(TARGET, machine(), Load(4, 1000), fit=FIT)

    assert microseconds(cost) == {
        "target weights": 1.25 * 390.0,
        "KV cache": 1.25 * 40.0,
        "target compute": 2.0 * 15.6,
        "step": 1100.0,
    }
    assert cost.relative_error == 0.04


def test_gpus_share_the_bytes_and_talk_in_every_layer() -> None:
    """Ten layers with two all-reduces of 15 microseconds."""
    cost = baseline_step(TARGET, machine(num_gpus=2), ONE, fit=FIT)

    assert microseconds(cost) == {
        "target weights": 1.25 * 195.0,
        "KV cache": 1.25 * 5.0,
        "target compute": 2.0 * 1.95,
        "step": 1100.0,
        "target communication": 300.0,
    }
    assert cost.relative_error == 0.3


def test_a_round_over_a_chain_has_these_terms() -> None:
    """Three passes of 40 MB, fc of 6 MB; three further tokens to verify; the draft computes four
    accepted tokens and two more."""
    cost = round_of("3,1,4", machine(), baseline_s=2e-3)

    assert microseconds(cost) == {
        "baseline step": 2000.0,
        "verify compute": 2.0 * 11.7,
        "draft weights": 1.25 * 126.0,
        "draft KV cache": 1.25 * 3.0,
        "draft compute": 2.0 * 2.4,
        "draft passes": 300.0,
        "host": 500.0,
    }


def test_a_tree_adds_a_time_for_each_layer_of_the_target() -> None:
    tree = microseconds(round_of("3,2,8", machine(), baseline_s=2e-3))

    assert tree["tree"] == 200.0
    assert tree["verify compute"] == 2.0 * 27.3
    assert tree["draft compute"] == 2.0 * 3.2


def test_vllm_has_no_share_of_sglangs_host_time() -> None:
    assert microseconds(round_of("3,1,4", machine("vllm")))["host"] == 200.0


def test_several_gpus_take_longer_to_agree_on_a_round() -> None:
    terms = microseconds(round_of("3,1,4", machine(num_gpus=4)))

    assert terms["GPUs in step"] == 800.0
    assert terms["draft communication"] == 90.0


def test_further_tokens_touch_further_experts() -> None:
    """One token touches 1 of 4 experts; one and three halves 4 * (1 - 0.75 ** 2.5) = 2.0514."""
    cost = round_cost(MOE, DRAFT, machine(), ONE, chain(3), baseline_s=2e-3, fit=FIT)

    assert microseconds(cost)["further experts"] == pytest.approx(1.25 * 63.08, rel=1e-3)


def test_without_a_measured_step_the_round_starts_with_the_modelled_one() -> None:
    step = baseline_step(TARGET, machine(), ONE, fit=FIT)

    assert round_of("3,1,4", machine()).terms[:4] == step.terms


def test_the_error_depends_on_what_was_measured() -> None:
    measured = round_of("3,1,4", machine(), baseline_s=2e-3)
    modelled = round_of("3,1,4", machine())

    assert (measured.relative_error, measured.ratio_error) == (0.03, 0.03)
    assert modelled.relative_error == pytest.approx(0.05)
    assert modelled.ratio_error == 0.06


def test_the_error_of_experts_and_of_several_gpus_is_their_own() -> None:
    experts = round_cost(MOE, DRAFT, machine(), ONE, chain(3), baseline_s=2e-3, fit=FIT)

    assert experts.ratio_error == 0.2
    assert round_of("3,1,4", machine(num_gpus=2), baseline_s=2e-3).ratio_error == 0.2


def test_an_interval_holds_the_total() -> None:
    cost = Cost((), 0.25)

    assert (cost.low_s, cost.total_s, cost.high_s) == (0, 0, 0)
    step = baseline_step(TARGET, machine(), ONE, fit=FIT)
    assert step.total_s == pytest.approx(1607.8e-6)
    assert step.low_s == pytest.approx(1607.8e-6 / 1.04)
    assert step.high_s == pytest.approx(1672.112e-6)


def test_terms_name_what_they_rest_on() -> None:
    measured = round_of("3,2,8", machine(num_gpus=2), baseline_s=2e-3)
    assert {term.name: term.basis for term in measured.terms} == {
        "baseline step": "measured",
        "verify compute": "datasheet",
        "tree": "fitted",
        "draft weights": "datasheet",
        "draft KV cache": "datasheet",
        "draft compute": "datasheet",
        "draft passes": "fitted",
        "draft communication": "assumed",
        "host": "fitted",
        "GPUs in step": "fitted",
    }
    assert measured.terms[3].how == "0.13 GB at 1600 GB/s"


@pytest.mark.parametrize("name", ["L20", "H100 NVL"])
def test_an_unpublished_rate_is_an_assumption(name: str) -> None:
    cost = baseline_step(TARGET, Machine(find_gpu(name), 1, "vllm"), ONE, fit=FIT)

    assert [t.basis for t in cost.terms] == ["datasheet", "datasheet", "assumed", "fitted"]


def test_more_of_anything_costs_more() -> None:
    target, draft = known_target("Qwen3-8B")
    h100 = Machine(find_gpu("H100 SXM"), 1, "sglang")

    def seconds(settings: Settings, load: Load = ONE) -> float:
        return round_cost(target, draft, h100, load, settings).total_s

    chains = [seconds(chain(n)) for n in range(1, 8)]
    trees = [seconds(Settings(5, 4, n)) for n in (8, 16, 32)]
    loads = [seconds(chain(3), Load(n, 1000)) for n in (1, 8, 64)]
    contexts = [seconds(chain(3), Load(8, n)) for n in (100, 1000, 30000)]
    for times in (chains, trees, loads, contexts):
        assert times == sorted(set(times))
    assert all(math.isfinite(t) for t in chains)


def test_a_tree_on_vllm_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        round_of("5,4,16", machine("vllm"))

    assert str(caught.value) == (
        "settings 5,4,16 are a tree; vLLM drafts chains only\n"
        "hint: Choose topk 1, or --engine sglang."
    )


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_step_that_takes_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError) as caught:
        round_of("3,1,4", machine(), baseline_s=seconds)

    assert str(caught.value) == (
        f"the baseline step is {seconds} s, expected a positive time\n"
        "hint: A step takes requests / (tokens per second of all requests)."
    )


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="num_gpus is 0, expected at least 1"):
        Machine(GPU, 0, "vllm")
    with pytest.raises(UsageError, match="num_requests is 0, expected at least 1"):
        Load(0, 1)
    with pytest.raises(UsageError, match="context_tokens is -1, expected at least 1"):
        Load(1, -1)


def test_what_ships_has_errors_and_constants() -> None:
    shipped = fitted()

    assert 0 < shipped.dense.round.mean <= 0.05
    assert shipped.dense.round.p90 < shipped.other.round.p90 < 0.5
    assert 1 < shipped.constants.bandwidth_factor < 1.6


def test_a_prediction_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from eagle3_plugin.planning import constants, cost, gpus, local_gpus, settings, shapes\n"
        "constants.fitted(), gpus.gpu_profiles(), shapes.known_target('Qwen3-4B')\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'vllm', 'sglang'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "[]\n"


@pytest.mark.parametrize(("num_requests", "factor"), [(1, 1.0), (4, 1.0), (8, 1.55), (32, 2.65)])
def test_errors_grow_beyond_the_loads_of_the_fit(num_requests: int, factor: float) -> None:
    cost = baseline_step(TARGET, machine(), Load(num_requests, 1000), fit=FIT)
    made = round_of("3,1,4", machine(), Load(num_requests, 1000))

    assert cost.relative_error == pytest.approx(0.04 * factor)
    assert made.ratio_error == pytest.approx(0.06 * factor)
