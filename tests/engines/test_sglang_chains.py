"""Chains of 3 and of 5 in real SGLang, every variant; and bfloat16, printed but not judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eagle3_plugin.settings import chain
from eagle3_plugin.tiny import VARIANTS, tiny_pair
from tests.engines.jobs import Job
from tests.engines.parity import prompts_of
from tests.engines.sglang_parity import Runs, judged, run_variants

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CHAINS = [chain(3), chain(5)]
BFLOAT16 = ("llama", "qwen3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    jobs = {}
    for variant in BFLOAT16:
        prompts, max_tokens = prompts_of(variant)
        pair = tiny_pair(variant)
        jobs[variant, "bfloat16"] = Job(
            pair.target, pair.draft, prompts, max_tokens, {"dtype": "bfloat16"}
        )
    return run_variants(CHAINS, tmp_path_factory.mktemp("chains"), jobs)


@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_sglang_drafts_the_oracles_chains(
    variant: str, length: int, runs: Runs, record_property: Record
) -> None:
    record_property("figure", judged(variant, chain(length), runs))


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
