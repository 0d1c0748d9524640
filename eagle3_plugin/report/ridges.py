"""A chart of distributions, one above the other: how many requests took how long."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
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
    style,
    text_width,
)
from eagle3_plugin.report.markup import element

LEFT, RIGHT, TOP = 10, WIDTH - 14, 4
NAME_HEIGHT, RIDGE_HEIGHT, FOOT = 20, 42, 46
MOST_BINS: Final = 40

NUM_DOTS: Final = 30
"""Up to so many values each is drawn as a dot: a histogram of a few says more than they do."""

LOG_FROM: Final = 20.0
"""From this ratio of the largest to the smallest on, the axis is logarithmic."""


@dataclass(frozen=True)
class Ridge:
    """index: of the series, -1 for the baseline. values: in seconds, at least one."""

    index: int
    name: str
    values: tuple[float, ...]


def ridges(listed: Sequence[Ridge], x_name: str, description: str) -> ET.Element:
    """The chart; the line in each is its median, the dashed one the 90th percentile."""
    axis = _axis([v for ridge in listed for v in ridge.values])
    bottom = TOP + (NAME_HEIGHT + RIDGE_HEIGHT) * len(listed)
    children = [*_frame(axis, bottom, x_name)]
    for place, ridge in enumerate(listed):
        children += _ridge(ridge, axis, TOP + place * (NAME_HEIGHT + RIDGE_HEIGHT))
    return drawing(bottom + FOOT, description, children)


def percentile(values: Sequence[float], share: float) -> float:
    """Between the two values next to it, as numpy's default is."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _axis(values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_FROM:
        return Axis(low / 1.1, high * 1.1, LEFT + INSET, RIGHT - INSET, log=True)
    return around(values, LEFT + INSET, RIGHT - INSET, 5)


def _frame(axis: Axis, bottom: float, x_name: str) -> Iterator[ET.Element]:
    for tick in axis.ticks(5):
        x = axis.at(tick)
        yield line(x, TOP, x, bottom, "grid")
        yield label(x, bottom + 18, numbers.tick(numbers.seconds(tick)), anchor="middle")
    scale = " (logarithmic)" if axis.log else ""
    yield label((LEFT + RIGHT) / 2, bottom + 36, x_name + scale, "ink", "middle")


def _ridge(ridge: Ridge, axis: Axis, top: float) -> Iterator[ET.Element]:
    foot = top + NAME_HEIGHT + RIDGE_HEIGHT - 4
    middle, late = statistics.median(ridge.values), percentile(ridge.values, 0.9)
    note = f"median {numbers.seconds(middle)}"
    name = cut(ridge.name, RIGHT - LEFT - text_width(note) - 10)
    yield element(
        "g", None, element("title", None, ridge.name), label(LEFT, top + 14, name, "over")
    )
    yield label(RIGHT, top + 14, note, "soft over", "end")
    yield from (_dots if len(ridge.values) <= NUM_DOTS else _area)(ridge, axis, foot)
    yield line(LEFT, foot, RIGHT, foot, "foot")
    for value, classes, word in ((middle, "median", "median"), (late, "late", "90 %")):
        x = axis.at(value)
        title = element("title", None, f"{ridge.name}: {word} {value!r} s")
        yield element(
            "g", None, title, line(x, foot - 34, x, foot, f"{classes} {style(ridge.index)}")
        )


def _dots(ridge: Ridge, axis: Axis, foot: float) -> Iterator[ET.Element]:
    """Each value, at one of three heights so that neighbours show."""
    for place, value in enumerate(sorted(ridge.values)):
        centre = {
            "cx": f"{axis.at(value):.1f}",
            "cy": f"{foot - 8 - 9 * (place % 3):.1f}",
            "r": 3.5,
        }
        title = element("title", None, f"{ridge.name}: {value!r} s")
        yield element("circle", centre | {"class": f"dot {style(ridge.index)}"}, title)


def _area(ridge: Ridge, axis: Axis, foot: float) -> Iterator[ET.Element]:
    num_bins = min(MOST_BINS, round(2 * math.sqrt(len(ridge.values))))
    counts = [0] * num_bins
    width = (axis.end - axis.start) / num_bins
    for value in ridge.values:
        counts[min(num_bins - 1, int((axis.at(value) - axis.start) / width))] += 1
    steps = [f"M{axis.start:.1f},{foot:.1f}"]
    for place, num in enumerate(counts):
        y, right = foot - num / max(counts) * (RIDGE_HEIGHT - 10), axis.start + (place + 1) * width
        steps.append(f"V{y:.1f}H{right:.1f}")
    title = element("title", None, f"{ridge.name}: {len(ridge.values)} requests")
    path = {"d": "".join([*steps, f"V{foot:.1f}Z"]), "class": f"area {style(ridge.index)}"}
    yield element("path", path, title)
