"""Every variant in real vLLM with the plugin, against no speculation and against the oracle.

float32, temperature 0. The output is vLLM's own without a draft, and each round drafts the tokens
that the oracle drafts there; a round may differ only where the oracle's two best logits are a
near-tie. bfloat16 is printed beside it, not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.tiny import VARIANTS, tiny_moe_pair, tiny_pair
from tests.engines.vllm_jobs import Expected, Job, oracle, run_jobs

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CHAIN = 3
NEAR_TIE = 1e-3
"""Logits are of order 10, and float32 sums of 128 products in another order differ by some 1e-5."""

WHOLE = ("llama",)
"""Judged on 12 prompts of 128 tokens; the others on fewer, to keep the matrix short."""

SETTLED = {"norm_output": Settle(feedback="postnorm")}
"""What the files alone leave open, as a user would say it to `eagle3 convert`."""


def prompts_of(variant: str) -> tuple[list[list[int]], int]:
    count, max_tokens = (12, 128) if variant in WHOLE else (5, 96)
    return [list(p) for p in tiny_pair(variant).prompts[:count]], max_tokens


def served_draft(variant: str, folder: Path) -> Path:
    """The folder as SpecForge writes it; converted only where it is ambiguous as it lies."""
    draft = tiny_pair(variant).draft
    if variant not in SETTLED:
        return draft
    from eagle3_plugin.draft.checkpoint import Checkpoint
    from eagle3_plugin.draft.convert import convert
    from eagle3_plugin.draft.read import read_draft
    from eagle3_plugin.hub import resolve

    out = folder / variant
    convert(read_draft(Checkpoint.open(resolve(str(draft))), SETTLED[variant]), out, "vllm")
    return out


@pytest.fixture(scope="module")
def runs(
    vllm_python: Path, tmp_path_factory: pytest.TempPathFactory
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
    results = run_jobs(vllm_python, list(jobs.values()), folder / "runs")
    return {key: (job, found) for (key, job), found in zip(jobs.items(), results, strict=True)}


def starts_of(drafts: list[list[int]], output: list[int]) -> list[int]:
    """Where each of the engine's own rounds began: generated tokens known, less 1.

    The drafts after the last token are never verified and have no round.
    """
    starts, known = [], 1
    for ids in drafts:
        if known >= len(output):
            break
        starts.append(known - 1)
        written = output[known : known + len(ids)]
        right = [a == b for a, b in zip(ids, written, strict=False)]
        known += right.index(False) + 1 if False in right else len(right) + 1
    return starts


def explained(found: list[int], expected: Expected, start: int) -> bool:
    """Whether the drafted ids are the oracle's, or part from them where two logits nearly tie.

    The oracle's ids end with its first wrong one; what follows is never looked at by the target.
    """
    for ours, theirs, margin in zip(
        found, expected.drafts[start], expected.margins[start], strict=False
    ):
        if theirs < 0:
            return True
        if ours != theirs:
            return margin < NEAR_TIE
    return True


def judge(job: Job, result: dict[str, Any], baseline: list[list[int]]) -> tuple[int, int, int]:
    """Rounds in vLLM, rounds of the oracle, and rounds that differ without being a near-tie."""
    outputs = result["outputs"]
    assert outputs == [one[: job.max_tokens] for one in baseline[: len(outputs)]]
    expected = oracle(job, outputs, chain=CHAIN)
    unexplained = 0
    for one, drafts, output in zip(expected, result["drafts"], outputs, strict=True):
        pairs = zip(drafts, starts_of(drafts, output), strict=False)
        unexplained += sum(not explained(ids, one, start) for ids, start in pairs)
    return sum(result["rounds"]), sum(len(e.rounds(job.max_tokens)) for e in expected), unexplained


@pytest.mark.parametrize("variant", VARIANTS)
def test_vllm_runs_the_variant_as_the_oracle_does(
    variant: str, runs: dict[Any, Any], record_property: Record
) -> None:
    job, result = runs[variant, "float32"]
    assert "error" not in result, result
    baseline = runs["no draft", "float32"][1]["outputs"]
    rounds, expected, unexplained = judge(job, result, baseline)
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
    rounds, expected, unexplained = judge(
        job, result, runs["moe, no draft", "float32"][1]["outputs"]
    )
    record_property("figure", f"vLLM, Qwen3-MoE, float32: {rounds} rounds, oracle {expected}")
    assert (rounds, unexplained) == (expected, 0)
