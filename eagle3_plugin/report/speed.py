"""How fast: speedup against the number of parallel conversations, by set."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from eagle3_plugin.measuring.record import Estimate
from eagle3_plugin.measuring.result import Summary
from eagle3_plugin.report import numbers
from eagle3_plugin.report.lines import Axes, Point, Series, ends_of, lines
from eagle3_plugin.report.page import (
    Cell,
    Column,
    Figure,
    Panel,
    Section,
    Table,
    count,
    estimate,
    interval,
    text,
)
from eagle3_plugin.report.rows import Mark, Row, rows
from eagle3_plugin.report.view import SPEED, View, parallel, set_name, speedup

COLUMNS = (
    Column("set", is_number=False),
    Column("parallel"),
    Column("server", is_number=False),
    Column("answers", "measured"),
    Column("tokens/s per conversation", "measured"),
    Column("speedup", "measured"),
    Column("tokens/s in all", "measured"),
    Column("ratio in all", "measured"),
)


def speed(view: View) -> Section:
    """A chart where there is a baseline, and the table."""
    table = _table(view)
    level = f"{100 * view.result.bootstrap.level:g} % intervals"
    if not any(map(speedup, view.result.summaries)):
        note = "There is no baseline in this result, so there is no speedup."
        return Section("Speed", (note, table))
    what = "against parallel conversations" if len(view.loads) > 1 else "by set"
    figure = Figure(
        f"Speedup {what}",
        f"Tokens per second of a conversation over the baseline's; bars are {level}. "
        "Above 1x is faster.",
        ("measured",),
        view.keys(view.speculative),
        tuple(_panels(view)),
        table,
    )
    return Section("Speed", (figure,))


def _panels(view: View) -> Iterator[Panel]:
    if len(view.loads) == 1:
        yield Panel(f"{parallel(view.loads[0])} conversations", _by_set(view, view.loads[0]))
        return
    by_set = {set: _series(view, set) for set in view.sets}
    ends = ends_of([series for found in by_set.values() for series in found], 1.0)
    axes = Axes("parallel conversations", view.loads, numbers.ratio, ends, one=1.0)
    for set, series in by_set.items():
        said = "; ".join(p.title for s in series for p in s.points) or "nothing measured"
        drawing = lines(series, axes, f"Speedup for {set_name(set)}: {said}")
        yield Panel(set_name(set), drawing)


def _series(view: View, set: str) -> list[Series]:
    found = ((server, tuple(_points(view, server, set))) for server in view.speculative)
    return [Series(view.index(server), points) for server, points in found if points]


def _points(view: View, server: str, set: str) -> Iterator[Point]:
    for load in view.loads:
        found = speedup(view.summary(server, set, load))
        if found:
            said = f"{server} with {load} parallel: {_said(found)}"
            yield Point(load, found.value, found.low, found.high, said)


def _by_set(view: View, load: int) -> ET.Element:
    listed = [Row(set_name(set), "", tuple(_marks(view, set, load))) for set in view.sets]
    said = "; ".join(f"{row.name}, {mark.title}" for row in listed for mark in row.marks)
    return rows(listed, "speedup", numbers.ratio, f"Speedup by set: {said}", one=1.0)


def _marks(view: View, set: str, load: int) -> Iterator[Mark]:
    for server in view.speculative:
        found = speedup(view.summary(server, set, load))
        if found:
            said = f"{server}: {_said(found)}"
            yield Mark(view.index(server), found.value, found.low, found.high, said)


def _said(found: Estimate) -> str:
    return interval(found.value, found.low, found.high, numbers.ratio).text


def _table(view: View) -> Table:
    listed = tuple(_cells(summary) for summary in view.summaries())
    return Table("Speed by set, load and server", COLUMNS, listed)


def _cells(summary: Summary) -> tuple[Cell, ...]:
    estimates, ratios = summary.estimates, summary.ratios
    return (
        text(set_name(summary.set)),
        count(summary.concurrency),
        text(summary.server),
        count(summary.num_requests),
        estimate(estimates.get(SPEED)),
        estimate(ratios.get(SPEED), numbers.ratio),
        estimate(estimates.get("tokens_per_s")),
        estimate(ratios.get("tokens_per_s"), numbers.ratio),
    )
