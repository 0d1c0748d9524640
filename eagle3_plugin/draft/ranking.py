"""Ranks ways to feed a draft by its own loss on the same texts: the one it was trained on is best.

A draft was trained to minimise that loss, and it moves with every token, where acceptance moves
only when a best token changes: so it tells neighbours apart with less text. Every chain start
counts once, not only those that a live run would reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.draft.chain import Chains
from eagle3_plugin.errors import Eagle3Error

MIN_PROMPTS_FOR_CONFIDENCE = 5
NUM_RESAMPLES = 2000

Sums = tuple[float, float, float, float]
"""Of one text: starts, tokens, starts whose token the draft has, and their loss in nats."""


@dataclass(frozen=True)
class Ranking:
    """Candidates by loss; all fields are by candidate, but `order` lists them, the best first.

    losses_nats: the draft's mean negative log probability of the token that the target wrote, over
        the starts where that token is in the draft's vocabulary.
    tokens_per_start: tokens that a verify would yield from a start, the bonus included.
    confidence: the share of resamplings of the prompts in which the best one is the best again;
        None with fewer than five prompts.
    """

    order: tuple[int, ...]
    losses_nats: tuple[float, ...]
    tokens_per_start: tuple[float, ...]
    confidence: float | None

    @property
    def margin_nats(self) -> float:
        """How much worse the second best is."""
        best, second = self.order[:2]
        return self.losses_nats[second] - self.losses_nats[best]

    @property
    def margin_tokens(self) -> float:
        """How many tokens per start fewer the second best yields."""
        best, second = self.order[:2]
        return self.tokens_per_start[best] - self.tokens_per_start[second]


def sums_of(chains: Chains) -> Sums:
    """What a text adds to the loss and the yield of a candidate."""
    known = chains.log_probs[~chains.log_probs.isnan()].double()
    num_starts = len(chains.num_matches)
    tokens = int(chains.num_matches.sum()) + num_starts
    return num_starts, tokens, len(known), -float(known.sum())


def rank(sums: Sequence[Sequence[Sums]]) -> Ranking:
    """sums: [prompts][candidates], two candidates or more."""
    table = np.array(sums)
    num_starts, tokens, num_known, nats = table.sum(axis=0).T
    if not num_known.all():
        raise Eagle3Error(
            "nothing to compare: no written token is in the draft's vocabulary",
            hint="Use other prompts, or check the draft's vocabulary map.",
        )
    losses = nats / num_known
    order = np.argsort(losses, kind="stable")
    return Ranking(
        order=tuple(order.tolist()),
        losses_nats=tuple(losses.tolist()),
        tokens_per_start=tuple((tokens / num_starts).tolist()),
        confidence=_confidence(table, int(order[0])),
    )


def _confidence(sums: NDArray[np.float64], winner: int) -> float | None:
    num_prompts = len(sums)
    if num_prompts < MIN_PROMPTS_FOR_CONFIDENCE:
        return None
    draws = np.random.default_rng(0).integers(num_prompts, size=(NUM_RESAMPLES, num_prompts))
    totals = sums[draws].sum(axis=1)
    losses = totals[:, :, 3] / np.maximum(totals[:, :, 2], 1)
    return float(np.mean(losses.argmin(axis=1) == winner))
