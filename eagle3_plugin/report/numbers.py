"""Numbers as people read them: three significant digits, and a unit that suits the size."""

from __future__ import annotations

import math
import re
from typing import Final

NONE: Final = "-"
"""What stands where nothing was measured."""

DIGITS: Final = 3

UNITS_OF_TIME: Final = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"))
"""Below that many seconds, how many of the unit a second has."""

UNITS_OF_BYTES: Final = ("bytes", "kB", "MB", "GB", "TB")


def short(value: float | None) -> str:
    """Three significant digits without an exponent, thousands apart: 12,300 or 0.0123."""
    if value is None:
        return NONE
    rounded = float(f"{value:.{DIGITS}g}")
    decimals = DIGITS - 1 - (math.floor(math.log10(abs(rounded))) if rounded else DIGITS - 1)
    return f"{value:.{DIGITS - 1}e}" if decimals > 8 else f"{rounded:,.{max(0, decimals)}f}"


def count(value: int | None) -> str:
    """A whole number, exact."""
    return NONE if value is None else f"{value:,}"


def ratio(value: float | None) -> str:
    return NONE if value is None else f"{short(value)}x"


def share(value: float | None) -> str:
    """0.642 as 64.2 %."""
    return NONE if value is None else f"{short(100 * value)} %"


def change(value: float | None) -> str:
    """-0.05 as −5.00 %, with the sign."""
    if value is None:
        return NONE
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{short(abs(100 * value))} %"


def seconds(value: float | None) -> str:
    """A time that a request takes: 12.3 ms."""
    if value is None:
        return NONE
    if value == 0:
        return "0 s"
    for below, per_second, unit in UNITS_OF_TIME:
        if value < below:
            return f"{short(value * per_second)} {unit}"
    return duration(value)


def tick(text: str) -> str:
    """A number of an axis, which is round, without its last zeros: 2.50x as 2.5x."""
    return re.sub(r"\.(\d*?)0+(?!\d)", lambda m: f".{m[1]}" if m[1] else "", text)


def duration(value: float | None) -> str:
    """A time that a run takes: to the second up to two minutes, then to the minute."""
    if value is None:
        return NONE
    if value < 120:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def num_bytes(value: int) -> str:
    """1,230,000 as 1.23 MB."""
    if value < 1000:
        return f"{value} {UNITS_OF_BYTES[0]}"
    place = min(len(UNITS_OF_BYTES) - 1, (len(str(value)) - 1) // 3)
    return f"{short(value / 1000**place)} {UNITS_OF_BYTES[place]}"


def exact(value: float | None) -> str:
    """All digits, for a title; nothing for None."""
    return "not measured" if value is None else repr(value)
