"""Speedup against load for the best few settings: an SVG, and blocks for a terminal.

The SVG needs no library. It is narrow enough for a phone, and follows the reader's light or dark
scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.plan import Plan
from eagle3_plugin.planning.ranking import Range
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings

NUM_SERIES: Final = 4
BLOCKS: Final = "▁▂▃▄▅▆▇█"

WIDTH, HEIGHT = 480, 400
LEFT, RIGHT, TOP, BOTTOM = 46, 392, 84, 344
LABEL_GAP = 19
DASHES: Final = ("none", "8 4", "2 4", "10 3 2 3")
"""Lines differ in their dashes too: colour alone is not for everybody."""

LIGHT: Final = ("#1b1f24", "#5d6671", "#e3e6ea", "#ffffff")
DARK: Final = ("#e8ebee", "#a3adb8", "#343b44", "#16191d")
"""Ink, soft ink, grid and paper."""

LIGHT_LINES: Final = ("#0063a5", "#b84a00", "#00704f", "#93366f")
DARK_LINES: Final = ("#62b5f0", "#f0a04b", "#4fd0a5", "#e59acb")


@dataclass(frozen=True)
class Series:
    """One setting's predicted speedups, by number of requests."""

    settings: Settings
    points: tuple[tuple[int, Range], ...]

    @property
    def middle(self) -> tuple[tuple[int, float], ...]:
        """What is drawn: the expected speedup, or the low end where only bounds are known."""
        return tuple((n, r.low if r.expected is None else r.expected) for n, r in self.points)


def best_series(plan: Plan) -> tuple[Series, ...]:
    """The best setting of each load, then the best over all, chosen one first; at most four."""
    if len(plan.rankings) < 2:
        raise UsageError(
            "a picture of speedup against load has one load; expected a range",
            hint="For example --concurrency 1..64.",
        )
    found: dict[Settings, list[tuple[int, Range]]] = {}
    for ranking in plan.rankings:
        for ranked in ranking.ranked:
            if ranked.choice is not OFF:
                found.setdefault(ranked.choice, []).append((ranking.num_requests, ranked.speedup))
    firsts = (plan.choice, *(r.choice for r in plan.rankings))
    winners = [c for c in dict.fromkeys(firsts) if c is not OFF]
    rest = sorted(found, key=lambda s: -_mean_log(r.cautious for _, r in found[s]))
    whole = [s for s in rest if len(found[s]) == max(map(len, found.values()))]
    order = list(dict.fromkeys([*winners, *whole]))[:NUM_SERIES]
    return tuple(Series(s, tuple(found[s])) for s in order)


def blocks(values: Sequence[float]) -> tuple[str, ...]:
    """A block for each speedup: the lowest for 1 and less, the highest for the best of them."""
    most = max([*values, 1.0])
    steps = len(BLOCKS) - 1
    span = most - 1 or 1.0
    return tuple(BLOCKS[max(0, round((value - 1) / span * steps))] for value in values)


def svg(plan: Plan) -> str:
    """The picture as a document of its own: lines are expected speedups; the band is the interval
    of the first, and at the first load each has a bar from its low to its high end."""
    drawn = best_series(plan)
    scale = _Scale.over(drawn)
    machine, pair = plan.asked.machine, plan.asked.pair
    heading = (
        ("title", f"Predicted speedup over no speculation ({plan.basis})"),
        ("soft", f"{pair.target_name.rpartition('/')[2]}, {machine.engine}"),
        ("soft", f"{machine.num_gpus} x {machine.gpu.name}"),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'style="width:100%;max-width:720px;height:auto"><title>{heading[0][1]}</title>',
        f"<style>{_style()}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        *(
            f'<text class="{kind}" x="{LEFT - 34}" y="{24 + 19 * row}">{_text(text)}</text>'
            for row, (kind, text) in enumerate(heading)
        ),
        *_axes(scale),
        *(_band(series, scale) for series in drawn[:1]),
        *(_bar(series, index, scale) for index, series in enumerate(drawn)),
        *(_line(series, index, scale) for index, series in enumerate(drawn)),
        *_labels(drawn, scale),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Scale:
    """From requests (by powers of two) and speedup to places in the picture."""

    loads: tuple[int, ...]
    low: float
    high: float

    @staticmethod
    def over(drawn: Sequence[Series]) -> _Scale:
        ranges = [r for series in drawn[:1] for _, r in series.points]
        ranges += [series.points[0][1] for series in drawn]
        values = [v for series in drawn for _, v in series.middle]
        values += [v for r in ranges for v in (r.low, r.high)] + [1.0]
        loads = tuple(sorted({n for series in drawn for n, _ in series.points}))
        return _Scale(loads, math.floor(min(values) * 2) / 2, math.ceil(max(values) * 2) / 2)

    def x(self, num_requests: int) -> float:
        first, last = math.log2(self.loads[0]), math.log2(self.loads[-1])
        return LEFT + (math.log2(num_requests) - first) / ((last - first) or 1) * (RIGHT - LEFT)

    def y(self, speedup: float) -> float:
        return BOTTOM - (speedup - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    @property
    def ticks(self) -> tuple[float, ...]:
        step = 0.5 if self.high - self.low <= 4 else 1.0
        count = round((self.high - self.low) / step)
        return tuple(self.low + index * step for index in range(count + 1))


def _style() -> str:
    """Plain rules, no variables: not every reader of SVG knows those."""
    shared = (
        "text{font-family:system-ui,sans-serif;font-size:14px}"
        ".title{font-size:16px;font-weight:600}.soft{font-size:13px}.name{font-weight:600}"
        ".one{stroke-width:1.5}.bar{stroke-width:2;opacity:.6}.line{fill:none;stroke-width:2.5;stroke-linejoin:round}"
    )
    dark = _colours(DARK, DARK_LINES)
    return f"{shared}{_colours(LIGHT, LIGHT_LINES)}@media(prefers-color-scheme:dark){{{dark}}}"


def _colours(inks: Sequence[str], lines: Sequence[str]) -> str:
    ink, soft, grid, paper = inks
    rules = (
        f"text{{fill:{ink}}}.soft{{fill:{soft}}}.grid{{stroke:{grid}}}.one{{stroke:{ink}}}"
        f".paper{{fill:{paper}}}"
    )
    of_lines = (f".s{i}{{stroke:{c}}}.f{i}{{fill:{c}}}" for i, c in enumerate(lines))
    return rules + "".join(of_lines)


def _axes(scale: _Scale) -> Iterable[str]:
    for tick in scale.ticks:
        y, kind = f"{scale.y(tick):.1f}", "one" if tick == 1 else "grid"
        yield f'<line class="{kind}" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>'
        place = f'x="{LEFT - 6}" y="{y}" dy="4.5" text-anchor="end"'
        yield f'<text class="soft" {place}>{tick:g}x</text>'
    for load in _spaced(scale):
        x = f"{scale.x(load):.1f}"
        yield f'<text class="soft" x="{x}" y="{BOTTOM + 20}" text-anchor="middle">{load}</text>'
    middle = (LEFT + RIGHT) / 2
    yield f'<text x="{middle:g}" y="{BOTTOM + 42}" text-anchor="middle">requests at a time</text>'


def _spaced(scale: _Scale) -> list[int]:
    """The loads whose numbers do not run into each other; the last always has its own."""
    kept = [scale.loads[-1]]
    for load in reversed(scale.loads[:-1]):
        if scale.x(kept[-1]) - scale.x(load) >= 26:
            kept.append(load)
    return kept[::-1]


def _band(series: Series, scale: _Scale) -> str:
    above = [(n, r.high) for n, r in series.points]
    below = [(n, r.low) for n, r in reversed(series.points)]
    points = _points([*above, *below], scale)
    return f'<polygon points="{points}" class="f0" opacity="0.15"/>'


def _bar(series: Series, index: int, scale: _Scale) -> str:
    """Beside each other, so that none hides another."""
    load, speedup = series.points[0]
    x = f"{scale.x(load) + 7 * index:.1f}"
    top, bottom = f"{scale.y(speedup.high):.1f}", f"{scale.y(speedup.low):.1f}"
    return f'<line class="s{index} bar" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'


def _line(series: Series, index: int, scale: _Scale) -> str:
    return (
        f'<polyline class="line s{index}" stroke-dasharray="{DASHES[index]}" '
        f'points="{_points(series.middle, scale)}"/>'
    )


def _labels(drawn: Sequence[Series], scale: _Scale) -> Iterable[str]:
    """Each line's settings at its end, moved apart where the ends are close."""
    ends = sorted((scale.y(s.middle[-1][1]), index) for index, s in enumerate(drawn))
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + LABEL_GAP) if places else y)
    over = max(0.0, places[-1] - BOTTOM) if places else 0.0
    for place, (_, index) in zip(places, ends, strict=True):
        name = str(drawn[index].settings)
        yield (
            f'<text x="{RIGHT + 8}" y="{place - over:.1f}" dy="5" '
            f'class="name f{index}">{name}</text>'
        )


def _points(values: Iterable[tuple[int, float]], scale: _Scale) -> str:
    return " ".join(f"{scale.x(n):.1f},{scale.y(value):.1f}" for n, value in values)


def _mean_log(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return sum(logs) / len(logs)


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
