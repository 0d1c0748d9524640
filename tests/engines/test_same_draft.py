"""One folder in both engines: the same text, the same rounds, the same drafted tokens."""

from __future__ import annotations

from typing import Any

import pytest

from eagle3_plugin.tiny import tiny_pair
from tests.engines.jobs import Job, run_jobs
from tests.engines.parity import prompts_of, starts_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]

VARIANTS = ("llama", "late_taps", "qwen3_everything")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Engine -> results: without a draft, then of each variant."""
    folder = tmp_path_factory.mktemp("same")
    prompts, max_tokens = prompts_of("qwen3")
    drafts = [None, *(tiny_pair(variant).draft for variant in VARIANTS)]
    jobs = [Job(tiny_pair("llama").target, draft, prompts, max_tokens) for draft in drafts]
    return {engine: run_jobs(engine, jobs, folder / engine) for engine in ("vllm", "sglang")}


def test_both_engines_write_the_same_text(results: dict[str, list[Any]]) -> None:
    texts = [result["outputs"] for engine in results.values() for result in engine]
    assert all(text == texts[0] for text in texts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_engines_draft_the_same_tokens(variant: str, results: dict[str, list[Any]]) -> None:
    ours, theirs = (results[engine][1 + VARIANTS.index(variant)] for engine in ("vllm", "sglang"))
    assert ours["rounds"] == theirs["rounds"]
    for output, drafts, trees in zip(ours["outputs"], ours["drafts"], theirs["trees"], strict=True):
        verified = drafts[: len(starts_of(drafts, output))]
        assert [tree["ids"][1:] for tree in trees] == verified
