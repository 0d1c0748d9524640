"""A chart of rows: each has a name and marks on one axis, such as a promise and what came out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.report import numbers
from eagle3_plugin.report.marks import (
    INSET,
    WIDTH,
    Axis,
    around,
    cut,
    drawing,
    label,
    line,
    point,
    shape,
    style,
    text_width,
)
from eagle3_plugin.report.markup import element

LEFT, RIGHT, TOP = 10, WIDTH - 14, 4
NAME_HEIGHT, MARK_HEIGHT, FOOT = 25, 16, 46

PROMISE: Final = "promise"
"""The style of what was said before: a hollow diamond."""


@dataclass(frozen=True)
class Mark:
    """index: of the series, or None for a promise or a prediction. title: for the hover."""

    index: int | None
    value: float
    low: float | None
    high: float | None
    title: str


@dataclass(frozen=True)
class Row:
    """note: at the right of the name."""

    name: str
    note: str
    marks: tuple[Mark, ...]


def rows(
    listed: Sequence[Row],
    x_name: str,
    form: Callable[[float], str],
    description: str,
    one: float | None = None,
) -> ET.Element:
    """The chart. one: a value that has its own line."""
    found = [v for row in listed for m in row.marks for v in (m.value, m.low, m.high)]
    axis = around(
        [v for v in [*found, one] if v is not None] or [1.0], LEFT + INSET, RIGHT - INSET, 5
    )
    heights = [NAME_HEIGHT + MARK_HEIGHT * max(1, len(row.marks)) for row in listed]
    bottom = TOP + sum(heights)
    children = [*_frame(axis, bottom, x_name, form, one)]
    top = float(TOP)
    for row, height in zip(listed, heights, strict=True):
        children += _row(row, axis, top)
        top += height
    return drawing(bottom + FOOT, description, children)


def _frame(
    axis: Axis, bottom: float, x_name: str, form: Callable[[float], str], one: float | None
) -> Iterator[ET.Element]:
    for tick in axis.ticks(5):
        x = axis.at(tick)
        yield line(x, TOP, x, bottom, "grid")
        yield label(x, bottom + 18, numbers.tick(form(tick)), anchor="middle")
    if one is not None:
        yield line(axis.at(one), TOP, axis.at(one), bottom, "one")
    yield label((LEFT + RIGHT) / 2, bottom + 36, x_name, "ink", "middle")


def _row(row: Row, axis: Axis, top: float) -> Iterator[ET.Element]:
    y, note_width = top + 19, text_width(row.note)
    name = cut(row.name, RIGHT - LEFT - note_width - 10)
    yield element("g", None, element("title", None, row.name), label(LEFT, y, name, "over"))
    if row.note:
        yield label(RIGHT, y, row.note, "soft over", "end")
    for place, mark in enumerate(row.marks):
        yield from _mark(mark, axis, top + NAME_HEIGHT + MARK_HEIGHT * (place + 0.5) - 1)


def _mark(mark: Mark, axis: Axis, y: float) -> Iterator[ET.Element]:
    classes = PROMISE if mark.index is None else style(mark.index)
    outline = "diamond" if mark.index is None else shape(mark.index)
    if mark.low is not None and mark.high is not None:
        yield line(axis.at(mark.low), y, axis.at(mark.high), y, f"bar {classes}")
    yield point(axis.at(mark.value), y, outline, classes, mark.title)
