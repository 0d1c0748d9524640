"""A result as the sections look things up in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.measuring.record import ALL_SETS, BASELINE, Estimate
from eagle3_plugin.measuring.result import Request, Result, Summary
from eagle3_plugin.report.page import Key
from eagle3_plugin.report.rows import PROMISE

SPEED: Final = "tokens_per_s_per_conversation"
"""The measure whose ratio is the speedup, as cards mean it."""

SPEEDUP: Final = "speedup"


@dataclass(frozen=True)
class View:
    """A result, with its summaries by server, set and concurrency."""

    result: Result

    @property
    def servers(self) -> tuple[str, ...]:
        """The names of all servers, the baseline first."""
        names = [server.name for server in self.result.servers]
        return tuple(sorted(names, key=lambda name: name != BASELINE))

    @property
    def speculative(self) -> tuple[str, ...]:
        return tuple(server.name for server in self.result.speculative)

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that have answers; that of all comes first."""
        names = dict.fromkeys(summary.set for summary in self.result.summaries)
        return tuple(sorted(names, key=lambda name: name != ALL_SETS))

    @property
    def loads(self) -> tuple[int, ...]:
        return tuple(sorted({summary.concurrency for summary in self.result.summaries}))

    @property
    def whole(self) -> str | None:
        """The set of all answers: ALL_SETS, or the only one; None without an answer."""
        return next(iter(self.sets), None)

    def index(self, server: str) -> int:
        """Its place among the settings, which is its colour; -1 for the baseline."""
        return -1 if server == BASELINE else self.speculative.index(server)

    def summary(self, server: str, set: str | None, concurrency: int | None) -> Summary | None:
        wanted = (server, set, concurrency)
        found = (s for s in self.result.summaries if (s.server, s.set, s.concurrency) == wanted)
        return next(found, None)

    def summaries(self) -> Iterator[Summary]:
        """By set, then concurrency, then server."""
        for set in self.sets:
            for concurrency in self.loads:
                found = (self.summary(server, set, concurrency) for server in self.servers)
                yield from (summary for summary in found if summary)

    def requests(self, server: str, set: str | None, concurrency: int) -> Iterator[Request]:
        """All answers of a server to a set, or to ALL_SETS, at this load, whatever the repeat."""
        for cell in self.result.cells:
            is_of_load = (cell.server, cell.concurrency) == (server, concurrency)
            if is_of_load and set in (ALL_SETS, cell.set):
                yield from cell.requests

    def keys(self, servers: Iterable[str], promise: str | None = None) -> tuple[Key, ...]:
        """The legend. promise: what the hollow diamond says, where there is one."""
        made = [Key(f"{self.index(server)}", server) for server in servers]
        return (*made, *([Key(PROMISE, promise)] if promise else []))


def set_name(set: str) -> str:
    """As people read it."""
    return "all sets" if set == ALL_SETS else set


def parallel(concurrency: int | None) -> str:
    return "any" if concurrency is None else f"{concurrency} parallel"


def speedup(summary: Summary | None) -> Estimate | None:
    """The ratio to the baseline's speed of a conversation; None without a baseline."""
    return summary.ratios.get(SPEED) if summary else None


def measured(summary: Summary | None, measure: str) -> Estimate | None:
    """A summary's estimate by the word that cards and predictions have for it."""
    if summary is None:
        return None
    if measure == SPEEDUP:
        return speedup(summary)
    return next((e for name, e in summary.estimates.items() if name == measure), None)
