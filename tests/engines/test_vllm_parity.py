"""Every variant in real vLLM with the plugin, against no speculation and against the oracle.

float32, temperature 0. The output is vLLM's own without a draft, and each round drafts the tokens
that the oracle drafts there; a round may differ only where the oracle's two best logits are a
near-tie. bfloat16 is printed beside it, not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eagle3_plugin.tiny import VARIANTS, tiny_moe_pair, tiny_pair
from tests.engines.jobs import Job, run_jobs
from tests.engines.parity import judge_chains, prompts_of, served_draft

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CHAIN = 3


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], tuple[Job, Any]]:
    """(variant, float32 | bfloat16 | none) -> job and result, one vLLM import for all."""
    folder = tmp_path_factory.mktemp("parity")
    jobs: dict[tuple[str, str], Job] = {}
    longest, most = prompts_of("llama")
    jobs["no draft", "float32"] = Job(tiny_pair("llama").target, None, longest, most)
    for variant in VARIANTS:
        prompts, max_tokens = prompts_of(variant)
        pair = tiny_pair(variant)
        jobs[variant, "float32"] = Job(
            pair.target, served_draft(variant, folder), prompts, max_tokens
        )
    jobs["llama", "bfloat16"] = Job(
        tiny_pair("llama").target, tiny_pair("llama").draft, longest, most, {"dtype": "bfloat16"}
    )
    moe = tiny_moe_pair()
    few = [list(p) for p in moe.prompts[:3]]
    jobs["moe, no draft", "float32"] = Job(moe.target, None, few, 64)
    jobs["moe", "float32"] = Job(moe.target, moe.draft, few, 64)
    results = run_jobs("vllm", list(jobs.values()), folder / "runs")
    return {key: (job, found) for (key, job), found in zip(jobs.items(), results, strict=True)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_vllm_runs_the_variant_as_the_oracle_does(
    variant: str, runs: dict[Any, Any], record_property: Record
) -> None:
    job, result = runs[variant, "float32"]
    assert "error" not in result, result
    baseline = runs["no draft", "float32"][1]["outputs"]
    rounds, expected, unexplained = judge_chains(job, result, baseline, CHAIN)
    num_tokens = sum(len(o) - 1 for o in result["outputs"])
    record_property(
        "figure",
        f"vLLM, {variant}, float32, chain of 3: {rounds} rounds, oracle {expected}; "
        f"{num_tokens / rounds:.3f} tokens per verify; output equal to no speculation",
    )
    assert unexplained == 0
    assert abs(rounds - expected) <= 0.002 * expected
    assert num_tokens / rounds > 1.3


def test_bfloat16_is_reported(runs: dict[Any, Any], record_property: Record) -> None:
    _, result = runs["llama", "bfloat16"]
    assert "error" not in result, result
    num_tokens = sum(len(o) - 1 for o in result["outputs"])
    tokens_per_verify = num_tokens / sum(result["rounds"])
    record_property(
        "figure",
        f"vLLM, llama, bfloat16: {sum(result['rounds'])} rounds, "
        f"{tokens_per_verify:.3f} tokens per verify",
    )
    assert tokens_per_verify > 1.5


def test_a_mixture_of_experts_target_runs_with_a_draft(
    runs: dict[Any, Any], record_property: Record
) -> None:
    job, result = runs["moe", "float32"]
    assert "error" not in result, result
    baseline = runs["moe, no draft", "float32"][1]["outputs"]
    rounds, expected, unexplained = judge_chains(job, result, baseline, CHAIN)
    record_property("figure", f"vLLM, Qwen3-MoE, float32: {rounds} rounds, oracle {expected}")
    assert (rounds, unexplained) == (expected, 0)
