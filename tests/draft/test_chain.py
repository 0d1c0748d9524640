"""Chains of a random draft over a text that sometimes is what the draft would have written."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from eagle3_plugin.draft.chain import draft_chain, simulate_chain
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from tests import drafts

NUM_STEPS = 4
NUM_PROMPT_TOKENS = 5
NUM_TOKENS = 90


@dataclass(frozen=True)
class Text:
    """ids [tokens], what a target is taken to write; taps [tokens, ...] of each."""

    draft: ReferenceDraft
    ids: Tensor
    taps: Tensor

    def chain(self, start: int, num_steps: int = NUM_STEPS) -> list[int]:
        """The chain from the row `start`, drafted alone."""
        embeds_of = self.draft.embed_tokens
        taps, ids = self.taps[: start + 1], self.ids[: start + 2]
        return draft_chain(self.draft, embeds_of, taps, ids, num_steps)

    @property
    def starts(self) -> Tensor:
        return torch.arange(NUM_PROMPT_TOKENS - 1, len(self.ids) - NUM_STEPS - 1)


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


VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3, normed residual": {"decoder": "qwen3", "residual": "normed"},
    "norm_output": {"feedback": "postnorm"},
    "two layers": {"num_layers": 2},
    "full vocabulary": {"draft_vocab_size": 512, "has_vocab_map": False},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_all_chains_at_once_are_the_chains_drafted_alone(changes: dict[str, Any]) -> None:
    text = write_text(**changes)

    chains = simulate_chain(text.draft, text.taps[:-1], text.ids, text.starts, NUM_STEPS)

    alone = [text.chain(start) for start in text.starts.tolist()]
    right = [num_right(c, text.ids[t + 2 :]) for c, t in zip(alone, text.starts, strict=True)]
    followed = [c[: n + 1] + [-1] * (NUM_STEPS - n - 1) for c, n in zip(alone, right, strict=True)]
    assert set(right) == {0, 1, 2, 3, 4}
    assert chains.num_matches.tolist() == right
    assert chains.ids.tolist() == followed


def test_rounds_counted_from_all_chains_are_those_of_a_live_loop() -> None:
    """Draft, verify, accept, until the text ends; the loop sees no token before it is verified."""
    text = write_text()
    last = len(text.ids) - NUM_STEPS - 2

    live, start = [], NUM_PROMPT_TOKENS - 1
    while start <= last:
        accepted = num_right(text.chain(start), text.ids[start + 2 :])
        live.append((start, accepted))
        start += accepted + 1

    chains = simulate_chain(text.draft, text.taps[:-1], text.ids, text.starts, NUM_STEPS)
    counted, start = [], NUM_PROMPT_TOKENS - 1
    while start <= last:
        accepted = int(chains.num_matches[start - NUM_PROMPT_TOKENS + 1])
        counted.append((start, accepted))
        start += accepted + 1

    assert counted == live
    assert len(live) < len(text.starts)


def test_a_chain_begins_with_what_a_shorter_one_drafts() -> None:
    text = write_text()

    assert text.chain(20, num_steps=2) == text.chain(20, num_steps=4)[:2]


def test_a_chain_feeds_back_the_last_state_at_the_next_position() -> None:
    """Written out by hand: two passes, the second of one row."""
    text = write_text()
    draft, cache = text.draft, Cache()
    ids, taps = text.ids[:12], text.taps[:11]
    normed, feedback = draft(
        draft.embed_tokens(ids[1:])[None], draft.fuse(taps)[None], torch.arange(11)[None], cache
    )
    first = draft.to_target_ids(draft.logits(normed[0, -1]).argmax())
    normed, _ = draft(
        draft.embed_tokens(first)[None, None], feedback[:, -1:], torch.tensor([[11]]), cache
    )
    second = draft.to_target_ids(draft.logits(normed[0, -1]).argmax())

    assert text.chain(10, num_steps=2) == [int(first), int(second)]


def test_margins_are_the_lead_of_the_best_logit_and_absent_after_a_wrong_token() -> None:
    text = write_text()
    draft = text.draft
    chains = simulate_chain(draft, text.taps[:-1], text.ids, text.starts, NUM_STEPS)
    embeds = draft.embed_tokens(text.ids[1:])[None]
    normed, _ = draft(embeds, draft.fuse(text.taps[:-1])[None], torch.arange(NUM_TOKENS - 1)[None])
    best = draft.logits(normed)[0, text.starts].topk(2).values

    torch.testing.assert_close(chains.margins[:, 0], best[:, 0] - best[:, 1], rtol=0, atol=1e-9)
    assert torch.equal(chains.margins.isnan(), chains.ids == -1)


def test_log_probs_are_of_the_written_token_and_absent_outside_the_draft_vocabulary() -> None:
    text = write_text()
    draft = text.draft
    chains = simulate_chain(draft, text.taps[:-1], text.ids, text.starts, NUM_STEPS)
    embeds = draft.embed_tokens(text.ids[1:])[None]
    normed, _ = draft(embeds, draft.fuse(text.taps[:-1])[None], torch.arange(NUM_TOKENS - 1)[None])
    log_probs = draft.logits(normed)[0].log_softmax(-1)
    known = drafts.vocab_map(draft.config).tolist()  # type: ignore[union-attr]
    expected = [
        log_probs[t, known.index(int(text.ids[t + 2]))] if int(text.ids[t + 2]) in known else None
        for t in text.starts.tolist()
    ]

    assert [p is None for p in expected] == chains.log_probs.isnan().tolist()
    inside = torch.stack([p for p in expected if p is not None])
    torch.testing.assert_close(chains.log_probs[~chains.log_probs.isnan()], inside)


def test_a_wrong_first_token_everywhere_ends_all_chains_after_one_step() -> None:
    text = write_text()
    other = (text.ids + 1) % 512
    ids = torch.where(torch.arange(NUM_TOKENS) < NUM_PROMPT_TOKENS, text.ids, other)
    start = torch.tensor([NUM_PROMPT_TOKENS - 2])

    chains = simulate_chain(text.draft, text.taps[:-1], ids, start, NUM_STEPS)

    drafted = text.chain(NUM_PROMPT_TOKENS - 2)[0]
    assert chains.num_matches.tolist() == [0]
    assert chains.ids.tolist() == [[drafted, -1, -1, -1]]
