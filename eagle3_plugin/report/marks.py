"""The marks that all charts share: points, intervals, axes with round numbers."""

from __future__ import annotations

import math
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.report.markup import Node, element

WIDTH: Final = 340
"""Of a panel, in units that are about a pixel on a phone."""

LETTER_WIDTH: Final = 6.4
"""Of a usual letter at the charts' 12 px; a wide (CJK) one takes two."""

INSET: Final = 16
"""Of an axis beneath a panel, so that its outer numbers have room."""

NUM_STYLES: Final = 4

OUTLINES: Final = {
    "circle": "M-4.5,0A4.5,4.5 0 1 1 4.5,0A4.5,4.5 0 1 1 -4.5,0Z",
    "square": "M-4,-4H4V4H-4Z",
    "up": "M0,-5.5L5,3.5H-5Z",
    "down": "M0,5.5L5,-3.5H-5Z",
    "diamond": "M0,-6L5,0L0,6L-5,0Z",
}
SHAPES: Final = ("circle", "square", "up", "down")
"""By series: colour alone is not for everybody."""


@dataclass(frozen=True)
class Axis:
    """From values to places between two ends, with round ticks. log: a decade is as long as
    the next."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = map(self._scaled, (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1) * (self.end - self.start)

    def ticks(self, most: int) -> tuple[float, ...]:
        """At most about that many round values between the ends."""
        return (_log_ticks if self.log else _ticks)(self.low, self.high, most)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


def around(values: Sequence[float], start: float, end: float, most: int) -> Axis:
    """A linear axis whose ends are round numbers outside the values."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - abs(low) * 0.1 - 0.05, high + abs(high) * 0.1 + 0.05
    step = _step(high - low, most)
    return Axis(math.floor(low / step) * step, math.ceil(high / step) * step, start, end)


def style(index: int) -> str:
    """The classes of the series with this place; None-like -1 is the baseline."""
    return "sb" if index < 0 else f"s{index % NUM_STYLES} d{index // NUM_STYLES % NUM_STYLES}"


def shape(index: int) -> str:
    return "circle" if index < 0 else SHAPES[index % NUM_STYLES]


def point(x: float, y: float, outline: str, classes: str, title: str) -> ET.Element:
    """A mark with its numbers on hover; the room around it counts as the mark."""
    return element(
        "g",
        {"transform": f"translate({x:.1f},{y:.1f})", "class": classes},
        element("title", None, title),
        element("circle", {"r": 11, "class": "room"}),
        element("path", {"d": OUTLINES[outline], "class": "mark"}),
    )


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> ET.Element:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", {k: f"{v:.1f}" for k, v in ends.items()} | {"class": classes})


def label(
    x: float, y: float, text: str, classes: str = "soft", anchor: str = "start"
) -> ET.Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": classes}
    return element("text", place, text)


def drawing(height: float, description: str, children: Sequence[Node]) -> ET.Element:
    """A panel that says in words what it shows."""
    frame = {"viewBox": f"0 0 {WIDTH} {height:.0f}", "role": "img", "aria-label": description}
    return element("svg", frame, *children)


def cut(text: str, room: float) -> str:
    """The text, or its two ends, as it fits in so many units."""
    most = int(room / LETTER_WIDTH)
    if text_width(text) <= room:
        return text
    head = _fitting(text, most // 2)
    tail = _fitting(text[::-1], most - most // 2 - 1)[::-1]
    return f"{head}…{tail}"


def text_width(text: str) -> float:
    return LETTER_WIDTH * sum(map(_num_columns, text))


def _fitting(text: str, most: int) -> str:
    used = 0
    for place, character in enumerate(text):
        used += _num_columns(character)
        if used > most:
            return text[:place]
    return text


def _num_columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    step = _step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(place * step for place in range(first, last + 1))


def _log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """1, 2 and 5 of each decade, or as few of the decades as fit."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = tuple(s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high)
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def _step(span: float, most: int) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that makes no more than so many steps."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
