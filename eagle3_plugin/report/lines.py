"""A chart of lines over whole numbers, with an interval at each point."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.report import numbers
from eagle3_plugin.report.marks import (
    WIDTH,
    Axis,
    around,
    drawing,
    label,
    line,
    point,
    shape,
    style,
    text_width,
)
from eagle3_plugin.report.markup import element

HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 44, WIDTH - 12, 12, HEIGHT - 44
NUM_TICKS: Final = 5
DODGE: Final = 6
"""Between the series at one place, so that none hides another."""


@dataclass(frozen=True)
class Point:
    """x: a whole number, as an axis names it. title: its numbers, for the hover."""

    x: int
    value: float
    low: float | None
    high: float | None
    title: str


@dataclass(frozen=True)
class Series:
    """index: its place among the settings of the page, which is its colour everywhere."""

    index: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axes:
    """x_name: beneath. xs: the whole numbers along it. form: of the values. ends: the lowest and
    the highest value that is shown. one: a value that has its own line, or None."""

    x_name: str
    xs: Sequence[int]
    form: Callable[[float], str]
    ends: tuple[float, float]
    one: float | None = None


def lines(series: Sequence[Series], axes: Axes, description: str) -> ET.Element:
    """The chart. Places on the x axis are evenly apart, whatever the numbers."""
    y_axis = Axis(*axes.ends, BOTTOM, TOP)
    children = [*_frame(axes.xs, y_axis, axes)]
    for place, one in enumerate(series):
        dodge = (place - (len(series) - 1) / 2) * DODGE
        children += _series(one, axes.xs, y_axis, dodge)
    return drawing(HEIGHT, description, children)


def ends_of(series: Sequence[Series], one: float) -> tuple[float, float]:
    """Round numbers around all points, their intervals and `one`, for charts side by side."""
    found = [v for s in series for p in s.points for v in (p.value, p.low, p.high)]
    axis = around([one, *(v for v in found if v is not None)], BOTTOM, TOP, NUM_TICKS)
    return axis.low, axis.high


def _x(xs: Sequence[int], x: int) -> float:
    return LEFT + (xs.index(x) + 0.5) / len(xs) * (RIGHT - LEFT)


def _frame(xs: Sequence[int], y_axis: Axis, axes: Axes) -> Iterator[ET.Element]:
    for tick in y_axis.ticks(NUM_TICKS):
        y = y_axis.at(tick)
        is_one = axes.one is not None and abs(tick - axes.one) < 1e-9
        yield line(LEFT, y, RIGHT, y, "one" if is_one else "grid")
        yield label(LEFT - 6, y + 4, numbers.tick(axes.form(tick)), anchor="end")
    if axes.one is not None and not any(abs(t - axes.one) < 1e-9 for t in y_axis.ticks(NUM_TICKS)):
        yield line(LEFT, y_axis.at(axes.one), RIGHT, y_axis.at(axes.one), "one")
    for x in _spaced(xs):
        yield label(_x(xs, x), BOTTOM + 18, str(x), anchor="middle")
    yield label((LEFT + RIGHT) / 2, BOTTOM + 36, axes.x_name, "ink", "middle")


def _spaced(xs: Sequence[int]) -> list[int]:
    """Those whose numbers do not run into each other; the first and the last among them."""
    kept = [xs[-1]]
    for x in reversed(xs[:-1]):
        if _x(xs, kept[-1]) - _x(xs, x) >= text_width(str(kept[-1])) + 8:
            kept.append(x)
    return kept[::-1]


def _series(one: Series, xs: Sequence[int], y_axis: Axis, dodge: float) -> Iterator[ET.Element]:
    places = [(_x(xs, p.x) + dodge, p) for p in one.points]
    if len(places) > 1:
        path = " ".join(f"{x:.1f},{y_axis.at(p.value):.1f}" for x, p in places)
        yield element("polyline", {"points": path, "class": f"line {style(one.index)}"})
    for x, p in places:
        if p.low is not None and p.high is not None:
            yield line(x, y_axis.at(p.low), x, y_axis.at(p.high), f"bar {style(one.index)}")
    for x, p in places:
        yield point(x, y_axis.at(p.value), shape(one.index), style(one.index), p.title)
