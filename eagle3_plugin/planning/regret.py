"""How much speed a choice leaves on the table, against the best that was measured.

regret = 1 - speedup of the choice / speedup of the best measured choice, off included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.measurements import Decisions, Group
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings

SGLANG_DEFAULT = Settings(3, 1, 4)
"""What SGLang 0.5.23 runs when all three numbers are unset; for Llama targets it would be 5,4,8,
which the sweep does not have (srt/arg_groups/speculative_hook.py:1430-1461)."""

Chooser = Callable[[Group], Choice | None]
"""None where it has no choice for a group."""


@dataclass(frozen=True)
class Regret:
    """Regret over groups: shares of the best measured speedup."""

    name: str
    num_groups: int
    mean: float
    percentile_90: float
    worst: float

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dict(vars(self))


def evaluate(groups: Sequence[Group], decisions: Decisions) -> tuple[Regret, ...]:
    """The regret of the choices, of SGLang's default, and of each fixed setting."""
    probe = decisions.probe
    chosen = {decision.key: decision.choice for decision in decisions.decisions}
    fixed = sorted({settings for group in groups for settings in group.points})
    rules: dict[str, Chooser] = {"chosen": lambda group: chosen.get(group.key)}
    rules["SGLang's default 3,1,4"] = lambda group: SGLANG_DEFAULT
    rules |= {f"always {settings}": _always(settings) for settings in fixed}
    rules["always off"] = lambda group: OFF
    found = (regret(name, groups, rule, probe) for name, rule in rules.items())
    return tuple(r for r in found if r is not None)


def regret(name: str, groups: Sequence[Group], chooser: Chooser, probe: Settings) -> Regret | None:
    """Of one rule, over the groups in which what it chooses was measured; None without any."""
    found = [r for group in groups if (r := group_regret(group, chooser(group), probe)) is not None]
    if not found:
        return None
    return Regret(name, len(found), fmean(found), percentile(found, 90), max(found))


def group_regret(group: Group, choice: Choice | None, probe: Settings) -> float | None:
    """None where the choice was not measured."""
    speedups = measured_speedups(group, probe)
    if choice is None or choice not in speedups or len(speedups) < 2:
        return None
    return 1 - speedups[choice] / max(speedups.values())


def measured_speedups(group: Group, probe: Settings) -> Mapping[Choice, float]:
    """Speedup of every measured setting of a group, and 1 for off."""
    baseline = group.baseline_tokens_per_s(probe)
    if baseline is None:
        return {OFF: 1.0}
    rows = group.points.values()
    measured: dict[Choice, float] = {OFF: 1.0}
    return measured | {p.settings: p.tokens_per_s / baseline for p in rows if p.tokens_per_s}


def percentile(values: Sequence[float], percent: float) -> float:
    """Interpolated linearly between the two nearest ranks, as numpy's default does."""
    if not values:
        raise UsageError("a percentile of no values, expected at least one")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _always(settings: Settings) -> Chooser:
    return lambda group: settings
