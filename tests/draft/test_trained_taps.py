"""With well-trained pairs: what a wrong tap convention costs, and that the sweep finds the taps."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.encoded import Encoded
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.draft.reference import ReferenceDraft, read_weights
from eagle3_plugin.draft.score import draft_for, score
from eagle3_plugin.draft.sweep import sweep_taps
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import tiny_pair

pytestmark = pytest.mark.slow

TAPS = {"llama": (2, 4, 5), "late_taps": (1, 4, 7)}
NUM_SEEDS = 10
PROMPTS_PER_SEED = 16


@pytest.fixture(scope="module")
def target() -> TargetModel:
    """It writes each prompt's continuation once, however many seeds draw it."""
    model = TargetModel.load(tiny_pair("llama").target, dtype=torch.float32, device="cpu")
    write = model.continue_greedily
    written: dict[Any, Any] = {}

    def remembered(prompt: Encoded, *args: Any, **kwargs: Any) -> Any:
        key = (
            tuple(prompt.ids.tolist()),
            repr(args),
            repr({k: v for k, v in kwargs.items() if k != "progress"}),
        )
        if key not in written:
            written[key] = write(prompt, *args, **kwargs)
        return written[key]

    model.continue_greedily = remembered  # type: ignore[method-assign]
    return model


def read(variant: str) -> Draft:
    return read_draft(Checkpoint.open(resolve(str(tiny_pair(variant).draft))))


def with_taps(target: TargetModel, draft: Draft, taps: tuple[int, ...]) -> ReferenceDraft:
    config = draft.config.model_copy(update={"taps": taps})
    return draft_for(target, config, read_weights(draft), draft.vocab_map)


def prompts(variant: str) -> list[Prompt]:
    return [Prompt("prompt_token_ids", p) for p in tiny_pair(variant).prompts]


@pytest.mark.parametrize("variant", TAPS)
def test_the_wrong_convention_costs_acceptance(
    variant: str, target: TargetModel, record_property: Callable[[str, object], None]
) -> None:
    draft = read(variant)
    asked = prompts(variant)[:8]
    right = TAPS[variant]
    found = {}
    for taps in (right, tuple(k - 1 for k in right), tuple(k + 1 for k in right)):
        module = with_taps(target, draft, taps)
        result = score(target, module, asked, chain=3, max_new_tokens=128, ignore_end=True)
        found[taps] = result.tokens_per_verify[3]
    text = ", ".join(f"{list(taps)} {value:.3f}" for taps, value in found.items())
    record_property("figure", f"oracle, {variant}, tokens per verify by taps, chain of 3: {text}")
    assert all(found[right] > 1.01 * value for taps, value in found.items() if taps != right)


@pytest.mark.parametrize("variant", TAPS)
def test_the_sweep_finds_the_taps_over_ten_seeds(
    variant: str, target: TargetModel, record_property: Callable[[str, object], None]
) -> None:
    """A seed draws the prompts and what the draft claims: a wrong neighbour as often as not."""
    draft = read(variant)
    asked = prompts(variant)
    right = TAPS[variant]
    claims = [right, tuple(k - 1 for k in right), tuple(k + 1 for k in right)]
    margins = []
    for seed in range(NUM_SEEDS):
        drawn = random.Random(seed)
        module = with_taps(target, draft, drawn.choice(claims))
        chosen = drawn.sample(asked, PROMPTS_PER_SEED)
        result = sweep_taps(target, module, chosen, chain=3, max_new_tokens=128, ignore_end=True)
        assert result.best.taps == right, (seed, result.to_json())
        margins.append(result.margin_nats)
    record_property(
        "figure",
        f"oracle, {variant}: --sweep-taps finds {list(right)} in {NUM_SEEDS} of {NUM_SEEDS} seeds, "
        f"by {min(margins):.3f} to {max(margins):.3f} nats",
    )
