"""How often drafts were right: by position, by set, by turn and by modality."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from eagle3_plugin.measuring.record import Acceptance, Counts, Quantiles
from eagle3_plugin.measuring.result import Group, Summary
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

GROUP_COLUMNS = (
    Column("set", is_number=False),
    Column("parallel"),
    Column("server", is_number=False),
    Column("part", is_number=False),
    Column("answers", "measured"),
    Column("tokens per verify", "measured"),
    Column("time to first token, median", "measured"),
    Column("time per output token, median", "measured"),
    Column("end-to-end latency, median", "measured"),
)


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


def parts(view: View) -> Section | None:
    """Turns and modalities; None where there is one of each."""
    listed = tuple(
        _group_cells(summary, group) for summary in view.summaries() for group in summary.groups
    )
    if not listed:
        return None
    table = Table("Turns and modalities by set, load and server", GROUP_COLUMNS, listed)
    return Section("By turn and by modality", (table,), is_folded=True)


def pooled(view: View, server: str, set: str) -> AcceptanceCounts | None:
    """The rounds of a server with this set, of all loads; None without one."""
    found = [view.summary(server, set, load) for load in view.loads]
    known = [_counts(s.acceptance) for s in found if s and s.acceptance]
    return AcceptanceCounts.total(known, 0) if known else None


def _counts(found: Acceptance) -> AcceptanceCounts:
    return AcceptanceCounts(**{name: getattr(found, name) for name in Counts.model_fields})


def _drawing(view: View, set: str) -> ET.Element:
    series = [
        Series(view.index(server), points)
        for server in view.speculative
        if (points := tuple(_points(view, server, set)))
    ]
    said = "; ".join(p.title for s in series for p in s.points)
    xs = range(1, _most_positions(view) + 1)
    axes = Axes("draft position", xs, numbers.share, (0.0, 1.0))
    return lines(series, axes, f"Conditional acceptance for {set_name(set)}: {said or 'none'}")


def _most_positions(view: View) -> int:
    found = (summary.acceptance for summary in view.result.summaries)
    return max((len(a.accepted_by_position) for a in found if a), default=0)


def _points(view: View, server: str, set: str) -> Iterator[Point]:
    found = pooled(view, server, set)
    for place, rate in enumerate(found.acceptance_rate_conditional if found else ()):
        if rate is not None:
            said = f"{server}, position {place + 1}: {numbers.share(rate)}"
            yield Point(place + 1, rate, None, None, said)


def _table(view: View) -> Table:
    found = [(s, server, pooled(view, server, s)) for s in view.sets for server in view.speculative]
    known = [(s, server, counts) for s, server, counts in found if counts]
    most = _most_positions(view)
    columns = (
        Column("set", is_number=False),
        Column("server", is_number=False),
        Column("rounds", "measured"),
        Column("tokens per verify", "measured"),
        *(Column(f"position {place + 1}", "measured") for place in range(most)),
    )
    listed = tuple((text(set_name(s)), text(server), *_cells(c, most)) for s, server, c in known)
    return Table("Acceptance by set and server, all loads together", columns, listed)


def _cells(counts: AcceptanceCounts, most: int) -> tuple[Cell, ...]:
    rates = counts.acceptance_rate_conditional
    empty = (Cell(numbers.NONE),) * (most - len(rates))
    shares = (number(rate, numbers.share) for rate in rates)
    return (count(counts.num_rounds), number(counts.tokens_per_verify), *shares, *empty)


def _group_cells(summary: Summary, group: Group) -> tuple[Cell, ...]:
    def median(found: Quantiles | None) -> Cell:
        return number(found.p50 if found else None, numbers.seconds)

    found = group.acceptance
    return (
        text(set_name(summary.set)),
        count(summary.concurrency),
        text(summary.server),
        text(f"{group.by} {group.name}" if group.by == "turn" else group.name),
        count(group.num_requests),
        number(found.tokens_per_verify) if found else Cell(numbers.NONE),
        median(group.time_to_first_token_s),
        median(group.time_per_output_token_s),
        median(group.request_s),
    )
