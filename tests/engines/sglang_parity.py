"""Runs every variant in real SGLang with the plugin, and judges it by the oracle.

float32, temperature 0. The output is SGLang's own without a draft, and each round verifies the
nodes that the oracle drafts there; a round may differ only at a near-tie. SGLang runs on a CPU
here, with our stand-in for its kernels. Chains and trees have a test file each, since a worker of
pytest takes a file whole. Each file judges every variant at its first settings; at its second only
those of COVERING, and the others in `make test-matrix`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.settings import Settings
from eagle3_plugin.tiny import VARIANTS, tiny_moe_pair, tiny_pair
from tests.engines.jobs import Job, run_jobs
from tests.engines.parity import judge_trees, prompts_of, served_draft

Runs = dict[tuple[str, str], tuple[Job, Any]]


COVERING = ("llama", "norm_output", "two_layers", "narrow", "qwen3_everything")
"""Together they have every part that a draft can have."""


def cases(first: Settings, second: Settings) -> list[Any]:
    """The parameters (variant, shape) of a file's tests."""
    return [
        pytest.param(
            variant,
            shape,
            id=f"{variant}-{shape}",
            marks=[pytest.mark.matrix] if shape == second and variant not in COVERING else [],
        )
        for variant in VARIANTS
        for shape in (first, second)
    ]


def asked_for(request: pytest.FixtureRequest) -> list[tuple[str, Settings]]:
    """The (variant, shape) of the module's tests that will run."""
    items = [item for item in request.session.items if item.module is request.module]  # type: ignore[attr-defined]
    found = [getattr(item, "callspec", None) for item in items]
    params = [spec.params for spec in found if spec is not None and "shape" in spec.params]
    return [(p["variant"], p["shape"]) for p in params]


def run_variants(
    wanted: list[tuple[str, Settings]],
    moe_shape: Settings,
    folder: Path,
    more: dict[tuple[str, str], Job],
) -> Runs:
    """(variant or moe, settings or none) -> job and result, one SGLang import for all."""
    jobs: dict[tuple[str, str], Job] = {}
    longest, most = prompts_of("llama")
    jobs["no draft", ""] = Job(tiny_pair("llama").target, None, longest, most)
    for variant, shape in wanted:
        prompts, max_tokens = prompts_of(variant)
        target, draft = tiny_pair(variant).target, served_draft(variant, folder)
        options = {"settings": _numbers(shape)}
        jobs[variant, str(shape)] = Job(target, draft, prompts, max_tokens, options)
    moe = tiny_moe_pair()
    few = [list(p) for p in moe.prompts[:3]]
    jobs["moe, no draft", ""] = Job(moe.target, None, few, 64)
    options = {"settings": _numbers(moe_shape)}
    jobs["moe", str(moe_shape)] = Job(moe.target, moe.draft, few, 64, options)
    jobs |= more
    results = run_jobs("sglang", list(jobs.values()), folder / "runs")
    return {key: (job, found) for (key, job), found in zip(jobs.items(), results, strict=True)}


def judged(variant: str, shape: Settings, runs: Runs) -> str:
    """The figures of a variant; raises AssertionError where SGLang and the oracle differ."""
    job, result = runs[variant, str(shape)]
    assert "error" not in result, result
    without = "moe, no draft" if variant == "moe" else "no draft"
    rounds, expected, unexplained = judge_trees(job, result, runs[without, ""][1]["outputs"], shape)
    num_tokens = sum(len(o) - 1 for o in result["outputs"])
    assert unexplained == 0
    assert abs(rounds - expected) <= 0.002 * expected
    assert num_tokens / rounds > 1.3
    return (
        f"SGLang, {variant}, float32, {shape}: {rounds} rounds, oracle {expected}; "
        f"{num_tokens / rounds:.3f} tokens per verify; output equal to no speculation"
    )


def _numbers(shape: Settings) -> tuple[int, int, int]:
    return shape.num_steps, shape.topk, shape.num_draft_tokens
