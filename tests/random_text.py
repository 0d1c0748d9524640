"""A random draft, and a text that sometimes is what the draft would have written."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eagle3_plugin.draft.chain import draft_chain
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rows import Rows, text_rows
from tests import drafts

NUM_STEPS = 4
NUM_PROMPT_TOKENS = 5
NUM_TOKENS = 90

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3, normed residual": {"decoder": "qwen3", "residual": "normed"},
    "norm_output": {"feedback": "postnorm"},
    "two layers": {"num_layers": 2},
    "full vocabulary": {"draft_vocab_size": 512, "has_vocab_map": False},
}


@dataclass(frozen=True)
class Text:
    """ids [tokens], what a target is taken to write; taps [tokens, ...] of each."""

    draft: ReferenceDraft
    ids: Tensor
    taps: Tensor

    def chain(self, start: int, num_steps: int = NUM_STEPS) -> list[int]:
        """The chain from the row `start`, drafted alone."""
        rows = self.rows.first(start + 2)
        return draft_chain(self.draft, self.taps[: start + 1], rows, num_steps)

    @property
    def rows(self) -> Rows:
        return text_rows(self.ids)

    @property
    def starts(self) -> Tensor:
        return torch.arange(NUM_PROMPT_TOKENS - 1, len(self.ids) - NUM_STEPS - 1)


@functools.cache
@torch.inference_mode(mode=False)
def write_text(**changes: Any) -> Text:
    """A text in which stretches of a few drafted tokens alternate with random tokens."""
    choose = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    config = drafts.draft_config(embedding="own", **changes)
    ids = drafts.vocab_map(config)
    draft = ReferenceDraft(config, None if ids is None else torch.tensor(ids)).double()
    for name, weight in draft.named_parameters():
        with torch.no_grad():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.copy_(noise * 0.2 + ("norm" in name))
    width = config.num_taps * config.target_hidden_size
    taps = torch.randn(NUM_TOKENS, width, generator=generator, dtype=torch.float64)
    text = Text(draft, torch.arange(NUM_PROMPT_TOKENS), taps)
    while len(text.ids) < NUM_TOKENS:
        drafted = text.chain(len(text.ids) - 2)[: choose.randint(0, NUM_STEPS)]
        tail = torch.tensor([*drafted, choose.randrange(config.vocab_size)])
        text = Text(draft, torch.cat([text.ids, tail])[:NUM_TOKENS], taps)
    return text


def num_right(drafted: list[int], written: Tensor) -> int:
    """How many tokens of the chain are the written ones."""
    for position, token in enumerate(drafted):
        if token != int(written[position]):
            return position
    return len(drafted)
