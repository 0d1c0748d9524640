"""Acceptance from a result of `eagle3 bench`: all rounds of each server, of all sets and loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.planning.acceptance import (
    Acceptance,
    Interval,
    counted_interval,
    from_rates,
    from_total,
)
from eagle3_plugin.settings import Settings

Json = Mapping[str, Any]


@dataclass(frozen=True)
class _Counted:
    """The rounds of one server. accepted[i]: rounds that accepted draft position i."""

    settings: Settings
    num_rounds: int
    accepted: tuple[int, ...]

    @property
    def tokens_per_verify(self) -> float:
        return 1 + sum(self.accepted) / self.num_rounds

    @property
    def rates(self) -> tuple[float, ...]:
        """Conditional, up to the first position that no round reached."""
        before = (self.num_rounds, *self.accepted)
        pairs = zip(self.accepted, before, strict=False)
        return tuple(after / whole for after, whole in pairs if whole)


def from_result(given: Json, where: str) -> Acceptance:
    """The longest chain gives the rates by depth; every other server what it yielded itself.

    Without a chain, one tree's tokens per verify are all that is known.
    """
    try:
        found = list(_counted(given))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Eagle3Error(
            f"{where} is no whole result of eagle3 bench: {error!r}; expected its cells",
            hint="Make one with: eagle3 bench ENGINE --target T --draft D --out RESULT.json",
        ) from error
    chains = sorted((c for c in found if c.settings.is_chain), key=lambda c: c.settings.num_steps)
    trees = [c for c in found if not c.settings.is_chain]
    if not chains and not trees:
        raise Eagle3Error(
            f"{where} has no server that speculates with known settings; expected one",
            hint="Bench one: eagle3 bench ENGINE --target T --draft D --settings 3,1,4",
        )
    if not chains:
        best = max(trees, key=lambda c: c.num_rounds)
        return from_total(best.tokens_per_verify, best.settings, where)
    longest = chains[-1]
    return from_rates(
        longest.rates,
        where,
        num_rounds=longest.num_rounds,
        known={c.settings.num_steps: c.tokens_per_verify for c in chains},
        trees={c.settings: _interval(c) for c in trees},
    )


def _counted(given: Json) -> Iterator[_Counted]:
    settings = {server["name"]: _settings(server["settings"]) for server in given["servers"]}
    for name, known in settings.items():
        cells = [cell for cell in given["cells"] if cell["server"] == name]
        counts = [cell["acceptance"] for cell in cells if cell["acceptance"]]
        num_rounds = sum(c["num_rounds"] for c in counts)
        if known is not None and num_rounds:
            by_position = [c["accepted_by_position"] for c in counts]
            yield _Counted(known, num_rounds, _summed(by_position))


def _summed(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    longest = max(map(len, rows))
    return tuple(sum(row[i] for row in rows if i < len(row)) for i in range(longest))


def _settings(text: str) -> Settings | None:
    """None for a server that does not speculate, or of which that is not known."""
    try:
        return Settings.parse(text)
    except UsageError:
        return None


def _interval(counted: _Counted) -> Interval:
    return counted_interval(counted.tokens_per_verify, counted.settings, counted.num_rounds)
