"""Every variant in real SGLang with the plugin: chains and trees, against the oracle.

float32, temperature 0. The output is SGLang's own without a draft, and each round verifies the
nodes that the oracle drafts there; a round may differ only at a near-tie. bfloat16 is printed
beside it, not judged. SGLang runs on a CPU here, with our stand-in for its kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eagle3_plugin.settings import Settings
from eagle3_plugin.tiny import VARIANTS, tiny_moe_pair, tiny_pair
from tests.engines.jobs import Job, run_jobs
from tests.engines.parity import judge_trees, prompts_of, served_draft

Record = Callable[[str, object], None]
Runs = dict[tuple[str, str], tuple[Job, Any]]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SHAPES = [Settings(3, 1, 4), Settings(5, 1, 6), Settings(3, 4, 8), Settings(5, 4, 16)]
BFLOAT16 = ("llama", "qwen3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """(variant, shape | bfloat16 | none) -> job and result, one SGLang import for all."""
    folder = tmp_path_factory.mktemp("sglang-parity")
    jobs: dict[tuple[str, str], Job] = {}
    longest, most = prompts_of("llama")
    jobs["no draft", ""] = Job(tiny_pair("llama").target, None, longest, most)
    for variant in VARIANTS:
        prompts, max_tokens = prompts_of(variant)
        target, draft = tiny_pair(variant).target, served_draft(variant, folder)
        for shape in SHAPES:
            options = {"settings": _numbers(shape)}
            jobs[variant, str(shape)] = Job(target, draft, prompts, max_tokens, options)
    for variant in BFLOAT16:
        prompts, max_tokens = prompts_of(variant)
        pair = tiny_pair(variant)
        jobs[variant, "bfloat16"] = Job(
            pair.target, pair.draft, prompts, max_tokens, {"dtype": "bfloat16"}
        )
    moe = tiny_moe_pair()
    few = [list(p) for p in moe.prompts[:3]]
    jobs["moe, no draft", ""] = Job(moe.target, None, few, 64)
    for shape in (SHAPES[0], SHAPES[2]):
        jobs["moe", str(shape)] = Job(moe.target, moe.draft, few, 64, {"settings": _numbers(shape)})
    results = run_jobs("sglang", list(jobs.values()), folder / "runs")
    return {key: (job, found) for (key, job), found in zip(jobs.items(), results, strict=True)}


def _numbers(shape: Settings) -> tuple[int, int, int]:
    return shape.num_steps, shape.topk, shape.num_draft_tokens


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_sglang_runs_the_variant_as_the_oracle_does(
    variant: str, shape: Settings, runs: Runs, record_property: Record
) -> None:
    job, result = runs[variant, str(shape)]
    assert "error" not in result, result
    baseline = runs["no draft", ""][1]["outputs"]
    rounds, expected, unexplained = judge_trees(job, result, baseline, shape)
    num_tokens = sum(len(o) - 1 for o in result["outputs"])
    record_property(
        "figure",
        f"SGLang, {variant}, float32, {shape}: {rounds} rounds, oracle {expected}; "
        f"{num_tokens / rounds:.3f} tokens per verify; output equal to no speculation",
    )
    assert unexplained == 0
    assert abs(rounds - expected) <= 0.002 * expected
    assert num_tokens / rounds > 1.3


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


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
def test_a_mixture_of_experts_target_runs_with_a_draft(
    shape: Settings, runs: Runs, record_property: Record
) -> None:
    job, result = runs["moe", str(shape)]
    assert "error" not in result, result
    baseline = runs["moe, no draft", ""][1]["outputs"]
    rounds, expected, unexplained = judge_trees(job, result, baseline, shape)
    record_property("figure", f"SGLang, Qwen3-MoE, {shape}: {rounds} rounds, oracle {expected}")
    assert (rounds, unexplained) == (expected, 0)
    assert sum(len(o) - 1 for o in result["outputs"]) / rounds > 1.3
