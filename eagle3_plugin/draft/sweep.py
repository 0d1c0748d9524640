"""Which boundaries was this draft trained on? Tries the plausible ones on the same text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eagle3_plugin.draft.config import default_taps
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.ranking import Ranking, rank, sums_of
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rounds import SCHEMA
from eagle3_plugin.draft.score import (
    Progress,
    assumptions,
    continuations,
    judge,
    num_rows,
)
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error

Taps = tuple[int, ...]


@dataclass(frozen=True)
class TapScore:
    """One candidate. names: what it is; the numbers are those of `Ranking`."""

    taps: Taps
    names: tuple[str, ...]
    tokens_per_start: float
    loss_nats: float


@dataclass(frozen=True)
class SweepResult:
    """The candidates by loss, the best first; the numbers are those of `Ranking`.

    assumed: what no file says, in words.
    """

    chain: int
    stated: Taps
    ranking: tuple[TapScore, ...]
    margin_nats: float
    margin_tokens: float
    confidence: float | None
    assumed: tuple[str, ...] = ()

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
            "assumed": list(self.assumed),
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
    target: TargetModel,
    draft: ReferenceDraft,
    prompts: Sequence[Prompt],
    *,
    chain: int = 7,
    max_new_tokens: int = 128,
    ignore_end: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """The plausible tap sets of a draft, ranked on one greedy text per prompt."""
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
        rows = target.rows(text.prompt, text.ids, draft)
        states = target.states(
            text.prompt, text.ids[: num_rows(text)], union, deepstack=draft.config.deepstack_tap
        )
        chains = [judge(draft, text, rows, states, taps, chain) for taps in candidates]
        sums.append([sums_of(one) for one in chains])
    assumed = assumptions(draft.config, target, union, prompts)
    return replace(_result(chain, stated, candidates, rank(sums)), assumed=assumed)


def _result(
    chain: int, stated: Taps, candidates: Mapping[Taps, tuple[str, ...]], found: Ranking
) -> SweepResult:
    listed = list(candidates.items())
    ranking = tuple(
        TapScore(*listed[i], found.tokens_per_start[i], found.losses_nats[i]) for i in found.order
    )
    return SweepResult(
        chain=chain,
        stated=stated,
        ranking=ranking,
        margin_nats=found.margin_nats,
        margin_tokens=found.margin_tokens,
        confidence=found.confidence,
    )
