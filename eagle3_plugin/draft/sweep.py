"""Which boundaries was this draft trained on? Tries the plausible ones on the same text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig, default_taps
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rounds import SCHEMA
from eagle3_plugin.draft.score import Dtype, Progress, continuations, draft_for, judge, num_rows
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error

Taps = tuple[int, ...]

MIN_PROMPTS_FOR_CONFIDENCE = 5
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class TapScore:
    """One candidate: every chain start counts once, not only those that a live run would reach.

    names: what the candidate is; tokens_per_start: tokens that a verify would yield from a start,
        the bonus included; loss_nats: the draft's mean negative log probability of the token that
        the target wrote, over the starts where that token is in the draft's vocabulary.
    """

    taps: Taps
    names: tuple[str, ...]
    tokens_per_start: float
    loss_nats: float


@dataclass(frozen=True)
class SweepResult:
    """The candidates by loss, the best first.

    A draft was trained to minimise that loss, and it moves with every token, where acceptance
    moves only when a best token changes: so it tells neighbouring layers apart with less text.

    margin_nats: how much worse the second best is; margin_tokens: how many tokens per start fewer.
    confidence: the share of resamplings of the prompts in which the best one is the best again;
        None with fewer than five prompts.
    """

    chain: int
    stated: Taps
    ranking: tuple[TapScore, ...]
    margin_nats: float
    margin_tokens: float
    confidence: float | None

    @property
    def best(self) -> TapScore:
        return self.ranking[0]

    def to_json(self) -> dict[str, Any]:
        """The public JSON form (schema 1)."""
        return {
            "schema": SCHEMA,
            "chain": self.chain,
            "stated": list(self.stated),
            "best": list(self.best.taps),
            "margin_nats": self.margin_nats,
            "margin_tokens": self.margin_tokens,
            "confidence": self.confidence,
            "ranking": [
                {
                    "taps": list(one.taps),
                    "names": list(one.names),
                    "tokens_per_start": one.tokens_per_start,
                    "loss_nats": one.loss_nats,
                }
                for one in self.ranking
            ],
        }


def candidate_taps(stated: Taps, num_layers: int) -> dict[Taps, tuple[str, ...]]:
    """Taps -> what they are: the stated ones, the default, and the mistakes that are made.

    Mistakes: the whole list one lower or higher (output ids read as boundaries, or the reverse),
    the low or the high tap one off (AngelSlim 2025 took the high one from n - 2).
    """
    named: list[tuple[str, Sequence[int]]] = [
        ("stated", stated),
        ("all one lower", [k - 1 for k in stated]),
        ("all one higher", [k + 1 for k in stated]),
        ("high one later", [*stated[:-1], stated[-1] + 1]),
        ("high one earlier", [*stated[:-1], stated[-1] - 1]),
        ("low one later", [stated[0] + 1, *stated[1:]]),
        ("low one earlier", [stated[0] - 1, *stated[1:]]),
    ]
    if len(stated) == 3:
        default = default_taps(num_layers)
        named += [("default", default), ("default, high one later", [*default[:2], default[2] + 1])]
    found: dict[Taps, tuple[str, ...]] = {}
    for name, taps in named:
        key = tuple(taps)
        if all(0 <= k <= num_layers for k in key) and len(set(key)) == len(set(stated)):
            found[key] = (*found.get(key, ()), name)
    return found


def sweep_taps(
    draft_config: DraftConfig,
    weights: Mapping[str, Tensor],
    vocab_map: Tensor | NDArray[Any] | None,
    target_folder: Path,
    prompts: Sequence[Prompt],
    *,
    chain: int = 7,
    max_new_tokens: int = 128,
    dtype: Dtype = "float32",
    device: str = "cpu",
    ignore_end: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """The plausible tap sets of a draft, ranked on one greedy text per prompt."""
    target = TargetModel.load(target_folder, dtype=getattr(torch, dtype), device=device)
    draft = draft_for(target, draft_config, weights, vocab_map)
    return sweep_on(
        target,
        draft,
        prompts,
        chain=chain,
        max_new_tokens=max_new_tokens,
        ignore_end=ignore_end,
        progress=progress,
    )


def sweep_on(
    target: TargetModel,
    draft: ReferenceDraft,
    prompts: Sequence[Prompt],
    *,
    chain: int = 7,
    max_new_tokens: int = 128,
    ignore_end: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """`sweep_taps` for a target and a draft that are in memory."""
    stated = draft.config.taps_for(target.num_layers)
    candidates = candidate_taps(stated, target.num_layers)
    if len(candidates) < 2:
        raise Eagle3Error(
            f"nothing to compare: {list(stated)} is the only plausible tap set of a target of "
            f"{target.num_layers} layers",
            hint="Score it without sweeping over taps.",
        )
    union = sorted({k for taps in candidates for k in taps})
    sums = []
    for _, text in continuations(
        target, prompts, chain, max_new_tokens, ignore_end=ignore_end, progress=progress
    ):
        states = target.states(text.ids[: num_rows(text)], union)
        chains = [judge(draft, text, states, taps, chain) for taps in candidates]
        sums.append([_sums(one.num_matches, one.log_probs) for one in chains])
    return _rank(chain, stated, candidates, np.array(sums))


def _sums(num_matches: Tensor, log_probs: Tensor) -> tuple[float, float, float, float]:
    """Of one text: starts, tokens, starts whose token the draft has, and their loss in nats."""
    known = log_probs[~log_probs.isnan()].double()
    tokens = int(num_matches.sum()) + len(num_matches)
    return len(num_matches), tokens, len(known), -float(known.sum())


def _rank(
    chain: int,
    stated: Taps,
    candidates: Mapping[Taps, tuple[str, ...]],
    sums: NDArray[np.float64],
) -> SweepResult:
    """sums: [prompts, candidates, 4], as `_sums` gives them."""
    num_starts, tokens, num_known, nats = sums.sum(axis=0).T
    if not num_known.all():
        raise Eagle3Error(
            "nothing to compare: no written token is in the draft's vocabulary",
            hint="Use other prompts, or check the draft's vocabulary map.",
        )
    losses, yields = nats / num_known, tokens / num_starts
    order = np.argsort(losses, kind="stable")
    listed = list(candidates.items())
    ranking = tuple(
        TapScore(listed[i][0], listed[i][1], float(yields[i]), float(losses[i])) for i in order
    )
    return SweepResult(
        chain=chain,
        stated=stated,
        ranking=ranking,
        margin_nats=ranking[1].loss_nats - ranking[0].loss_nats,
        margin_tokens=ranking[0].tokens_per_start - ranking[1].tokens_per_start,
        confidence=_confidence(sums, int(order[0])),
    )


def _confidence(sums: NDArray[np.float64], winner: int) -> float | None:
    num_prompts = len(sums)
    if num_prompts < MIN_PROMPTS_FOR_CONFIDENCE:
        return None
    draws = np.random.default_rng(0).integers(num_prompts, size=(NUM_RESAMPLES, num_prompts))
    totals = sums[draws].sum(axis=1)
    losses = totals[:, :, 3] / np.maximum(totals[:, :, 2], 1)
    return float(np.mean(losses.argmin(axis=1) == winner))
