"""How often drafts were right: by position and by set."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from eagle3_plugin.report import numbers
from eagle3_plugin.report.lines import Axes, Point, Series, lines
from eagle3_plugin.report.page import (
    Cell,
    Column,
    Figure,
    Panel,
    Section,
    Table,
    count,
    number,
    text,
)
from eagle3_plugin.report.view import View, set_name
from eagle3_plugin.report.words import CONDITIONAL_MEANING
from eagle3_plugin.serving.acceptance import AcceptanceCounts


def acceptance(view: View) -> Section | None:
    """None where no server speculated, or none says what it accepted."""
    if not any(summary.acceptance for summary in view.result.summaries):
        return None
    figure = Figure(
        "Acceptance by draft position, conditional",
        f"Position by position: {CONDITIONAL_MEANING}",
        ("measured",),
        view.keys(view.speculative),
        tuple(Panel(set_name(set), _drawing(view, set)) for set in view.sets),
        _table(view),
    )
    return Section("Acceptance", (figure,))


def pooled(view: View, server: str, set: str) -> AcceptanceCounts | None:
    """The rounds of a server with this set, of all loads; None without one."""
    found = [view.summary(server, set, load) for load in view.loads]
    known = [s.acceptance.counts for s in found if s and s.acceptance]
    return AcceptanceCounts.total(known, 0) if known else None


def most_positions(view: View) -> int:
    """Of any server of the result."""
    found = (summary.acceptance for summary in view.result.summaries)
    return max((len(a.accepted_by_position) for a in found if a), default=0)


def acceptance_columns(most: int) -> tuple[Column, ...]:
    """Those of `acceptance_cells`."""
    places = (Column(f"position {place + 1}", "measured") for place in range(most))
    return (Column("rounds", "measured"), Column("tokens per verify", "measured"), *places)


def acceptance_cells(counts: AcceptanceCounts, most: int) -> tuple[Cell, ...]:
    """Rounds, tokens per verify, and the conditional rate of each of so many positions."""
    rates = counts.acceptance_rate_conditional
    empty = (Cell(numbers.NONE),) * (most - len(rates))
    shares = (number(rate, numbers.share) for rate in rates)
    return (count(counts.num_rounds), number(counts.tokens_per_verify), *shares, *empty)


def _drawing(view: View, set: str) -> ET.Element:
    series = [
        Series(view.index(server), points)
        for server in view.speculative
        if (points := tuple(_points(view, server, set)))
    ]
    said = "; ".join(p.title for s in series for p in s.points)
    xs = range(1, most_positions(view) + 1)
    axes = Axes("draft position", xs, numbers.share, (0.0, 1.0))
    return lines(series, axes, f"Conditional acceptance for {set_name(set)}: {said or 'none'}")


def _points(view: View, server: str, set: str) -> Iterator[Point]:
    found = pooled(view, server, set)
    for place, rate in enumerate(found.acceptance_rate_conditional if found else ()):
        if rate is not None:
            said = f"{server}, position {place + 1}: {numbers.share(rate)}"
            yield Point(place + 1, rate, None, None, said)


def _table(view: View) -> Table:
    found = [(s, server, pooled(view, server, s)) for s in view.sets for server in view.speculative]
    most = most_positions(view)
    columns = (Column("set", is_number=False), Column("server", is_number=False))
    listed = tuple(
        (text(set_name(s)), text(server), *acceptance_cells(counts, most))
        for s, server, counts in found
        if counts
    )
    caption = "Acceptance by set and server, all loads together"
    return Table(caption, (*columns, *acceptance_columns(most)), listed)
