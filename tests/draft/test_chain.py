"""Chains of a random draft over a text that sometimes is what the draft would have written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eagle3_plugin.draft.chain import NUM_RANKS, simulate_chain
from eagle3_plugin.draft.reference import Cache
from eagle3_plugin.draft.rows import text_rows
from tests import drafts
from tests.random_text import (
    NUM_PROMPT_TOKENS,
    NUM_STEPS,
    NUM_TOKENS,
    VARIANTS,
    Text,
    num_right,
    write_text,
)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_all_chains_at_once_are_the_chains_drafted_alone(changes: dict[str, Any]) -> None:
    text = write_text(**changes)

    chains = simulate_chain(text.draft, text.taps[:-1], text.rows, text.starts, NUM_STEPS)

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

    chains = simulate_chain(text.draft, text.taps[:-1], text.rows, text.starts, NUM_STEPS)
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
    chains = simulate_chain(draft, text.taps[:-1], text.rows, text.starts, NUM_STEPS)
    embeds = draft.embed_tokens(text.ids[1:])[None]
    normed, _ = draft(embeds, draft.fuse(text.taps[:-1])[None], torch.arange(NUM_TOKENS - 1)[None])
    best = draft.logits(normed)[0, text.starts].topk(2).values

    torch.testing.assert_close(chains.margins[:, 0], best[:, 0] - best[:, 1], rtol=0, atol=1e-9)
    assert torch.equal(chains.margins.isnan(), chains.ids == -1)


def test_log_probs_are_of_the_written_token_and_absent_outside_the_draft_vocabulary() -> None:
    text = write_text()
    draft = text.draft
    chains = simulate_chain(draft, text.taps[:-1], text.rows, text.starts, NUM_STEPS)
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

    chains = simulate_chain(text.draft, text.taps[:-1], text_rows(ids), start, NUM_STEPS)

    drafted = text.chain(NUM_PROMPT_TOKENS - 2)[0]
    assert chains.num_matches.tolist() == [0]
    assert chains.ids.tolist() == [[drafted, -1, -1, -1]]


def known_ranks(text: Text, start: int) -> list[int]:
    """Where each written token stands among the draft's, fed the written ones before it."""
    draft, cache = text.draft, Cache()
    embeds = draft.embed_tokens(text.ids[1 : start + 2])[None]
    hidden, positions = draft.fuse(text.taps[: start + 1])[None], torch.arange(start + 1)[None]
    ranks = []
    for written in text.ids[start + 2 : start + 2 + NUM_STEPS]:
        normed, hidden = draft(embeds, hidden[:, -len(embeds[0]) :], positions, cache)
        order = draft.logits(normed[0, -1]).argsort(descending=True)
        ids = draft.to_target_ids(order)[:NUM_RANKS].tolist()
        ranks.append(ids.index(int(written)) if int(written) in ids else -1)
        embeds, positions = draft.embed_tokens(written)[None, None], positions[:, -1:] + 1
    return ranks


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_ranks_are_those_of_the_written_tokens_though_the_chain_was_wrong_before(
    changes: dict[str, Any],
) -> None:
    text = write_text(**changes)

    chains = simulate_chain(text.draft, text.taps[:-1], text.rows, text.starts, NUM_STEPS)

    assert chains.ranks.tolist() == [known_ranks(text, start) for start in text.starts.tolist()]
    after_a_wrong_one = chains.ranks[:, 1][chains.num_matches == 0]
    assert {rank >= 0 for rank in after_a_wrong_one.tolist()} == {True, False}


def test_no_start_makes_no_chain() -> None:
    text = write_text()

    chains = simulate_chain(text.draft, text.taps[:-1], text.rows, text.starts[:0], NUM_STEPS)

    assert [tuple(x.shape) for x in (chains.ids, chains.margins, chains.ranks)] == [(0, 4)] * 3
    assert (tuple(chains.num_matches.shape), tuple(chains.log_probs.shape)) == ((0,), (0,))
