"""Chains of 3 and of 5 in real SGLang, every variant; and bfloat16, printed but not judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.tiny import tiny_pair
from tests.engines.jobs import Job
from tests.engines.parity import prompts_of
from tests.engines.sglang_parity import Runs, asked_for, cases, judged, run_variants

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

BFLOAT16 = ("llama", "qwen3")


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    jobs = {}
    for variant in BFLOAT16:
        prompts, max_tokens = prompts_of(variant)
        pair = tiny_pair(variant)
        jobs[variant, "bfloat16"] = Job(
            pair.target, pair.draft, prompts, max_tokens, {"dtype": "bfloat16"}
        )
    folder = tmp_path_factory.mktemp("chains")
    return run_variants(asked_for(request), chain(3), folder, jobs)


@pytest.mark.parametrize(("variant", "shape"), cases(chain(3), chain(5)))
def test_sglang_drafts_the_oracles_chains(
    variant: str, shape: Settings, runs: Runs, record_property: Record
) -> None:
    record_property("figure", judged(variant, shape, runs))


def test_a_mixture_of_experts_target_runs_with_a_chain(runs: Runs, record_property: Record) -> None:
    record_property("figure", judged("moe", chain(3), runs))


@pytest.mark.parametrize("variant", BFLOAT16)
def test_bfloat16_is_reported(variant: str, runs: Runs, record_property: Record) -> None:
    _, result = runs[variant, "bfloat16"]
    assert "error" not in result, result
    tokens_per_verify = sum(len(o) - 1 for o in result["outputs"]) / sum(result["rounds"])
    record_property(
        "figure",
        f"SGLang, {variant}, bfloat16: {sum(result['rounds'])} rounds, "
        f"{tokens_per_verify:.3f} tokens per verify",
    )
    assert tokens_per_verify > 1.5
