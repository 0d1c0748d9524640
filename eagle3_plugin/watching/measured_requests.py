"""The requests that an acceptance was measured on, as far as a score or a bench tells of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring.result import Cell, Result, from_json
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.settings import Settings


@dataclass(frozen=True)
class MeasuredRequests:
    """num_prompts: different ones; 1 where the file does not say.

    set_means: accepted draft tokens a round of each prompt set. counts: rounds, at least 1, and
    accepted draft tokens of each request; empty where the file has none at these settings.
    """

    num_prompts: int
    set_means: tuple[float, ...]
    counts: tuple[tuple[int, float], ...]

    def variance(self, within: float) -> float | None:
        """Of requests' means, without what their rounds make of it; None of fewer than two prompts.

        within: the variance of a round within a request; 0 where there is a bound only, which
        would take too much off. A prompt that was asked again is no further one.
        """
        num = min(self.num_prompts, len(self.counts))
        if num < 2:
            return None
        means = [accepted / rounds for rounds, accepted in self.counts]
        noise = statistics.fmean(within / rounds for rounds, _ in self.counts)
        return max(0.0, statistics.pvariance(means) * num / (num - 1) - noise)


def of_score(
    score: Mapping[str, Any], settings: Settings, mean: float | None = None
) -> MeasuredRequests:
    """Of a score's JSON: its sets by chain length, and each prompt with its longest chain.

    mean: accepted draft tokens a round of a tree. A score has sets and prompts of chains only, so
    those of the chain of as many steps are taken in proportion: that is as far apart as the tree's,
    or further, for later candidates help most where the first one misses.
    """
    key = str(settings.num_steps)
    by_chain = score.get("tokens_per_verify") or {}
    scale = 1.0
    if not settings.is_chain:
        chain_mean = by_chain.get(key, 1) - 1
        scale = mean / chain_mean if mean and chain_mean > 0 else 0.0
    sets = (score.get("prompt_sets") or {}).values()
    rounds = score.get("rounds_per_prompt") or ()
    accepted = score.get("accepted_draft_tokens_per_prompt") or ()
    known = scale and rounds and accepted and score.get("chain") == settings.num_steps
    return MeasuredRequests(
        score.get("num_prompts") or 1,
        tuple(scale * (each[key] - 1) for each in sets if scale and key in each),
        tuple((n, scale * a) for n, a in zip(rounds, accepted, strict=True) if n) if known else (),
    )


def of_bench(given: Mapping[str, Any], settings: Settings, where: str) -> MeasuredRequests:
    """Of a bench's JSON: the server with these settings, at all loads and in all repeats.

    A prompt is a turn of a conversation; a request without a round is none. A chain that was not
    benched is the beginning of the longest. Raises Eagle3Error for what is no result.
    """
    result = from_json(given, where)
    told = [cell for cell in result.cells if cell.acceptance and cell.acceptance.num_rounds]
    server = _server(result, {cell.server for cell in told}, settings)
    cells = [cell for cell in told if cell.server == server]
    asked = [
        (cell.set, request)
        for cell in cells
        for request in cell.requests
        if request.counts is None or request.counts.num_rounds
    ]
    counts = (_counts(r.counts.value, settings) for _, r in asked if r.counts is not None)
    return MeasuredRequests(
        len({(name, r.conversation, r.turn) for name, r in asked}) or 1,
        _set_means(cells, settings),
        tuple(counts),
    )


def _server(result: Result, measured: set[str], settings: Settings) -> str | None:
    """The name of the one with these settings, else of the longest chain that begins with them."""
    names: dict[Settings, str] = {}
    for served in result.speculative:
        with suppress(UsageError):
            if served.name in measured:
                names[Settings.parse(served.settings)] = served.name
    if settings in names or not settings.is_chain:
        return names.get(settings)
    longest = max((known for known in names if known.is_chain), default=settings)
    return names[longest] if longest > settings else None


def _set_means(cells: Sequence[Cell], settings: Settings) -> tuple[float, ...]:
    by_set: dict[str, list[AcceptanceCounts]] = defaultdict(list)
    for cell in cells:
        if cell.acceptance is not None:
            by_set[cell.set].append(cell.acceptance.counts)
    totals = (_counts(AcceptanceCounts.total(found, 0), settings) for found in by_set.values())
    return tuple(accepted / rounds for rounds, accepted in totals)


def _counts(counts: AcceptanceCounts, settings: Settings) -> tuple[int, int]:
    """Rounds, and draft tokens accepted in them at the depths that the settings have."""
    return counts.num_rounds, sum(counts.accepted_by_position[: settings.num_steps])
