"""`eagle3 plan --from-measurements`: one measured setting of a group says which one to run.

A group is one target, draft, benchmark and concurrency. Of each group only the probe's row and
the baseline are used; the other rows name candidates, and may have results or not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from eagle3_plugin.errors import Eagle3Error, NotFoundError, UsageError
from eagle3_plugin.planning.probe import Probe
from eagle3_plugin.planning.probe_constants import ProbeConstants, probe_constants
from eagle3_plugin.planning.rates import check_tokens_per_verify
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings

NAMES = ("target", "draft", "benchmark")
COUNTS = ("concurrency", "num_steps", "topk", "num_draft_tokens")
RESULTS = ("tokens_per_verify", "baseline_tokens_per_s", "tokens_per_s")
COLUMNS = (*NAMES, *COUNTS, *RESULTS)

_HINT = f"Columns: {','.join(COLUMNS)}; the last three may be empty where nothing was measured."


class GroupKey(NamedTuple):
    """What was measured: rows that differ in settings only."""

    target: str
    draft: str
    benchmark: str
    concurrency: int


@dataclass(frozen=True)
class Point:
    """One row; None = not measured. Rates are of all `concurrency` requests together."""

    settings: Settings
    tokens_per_verify: float | None
    baseline_tokens_per_s: float | None
    tokens_per_s: float | None


@dataclass(frozen=True)
class Group:
    """All rows of one target, draft, benchmark and concurrency, by settings."""

    key: GroupKey
    points: Mapping[Settings, Point]

    @property
    def candidates(self) -> tuple[Choice, ...]:
        """The settings that occur, and off."""
        return (OFF, *self.points)

    def baseline_tokens_per_s(self, probe: Settings) -> float | None:
        """The baseline of the probe's row, else the first that the group has."""
        own = [self.points[probe]] if probe in self.points else []
        given = (point.baseline_tokens_per_s for point in (*own, *self.points.values()))
        return next(filter(None, given), None)

    def probe(self, settings: Settings, constants: ProbeConstants) -> Probe | None:
        """The measurement at these settings; None where it is not whole."""
        point = self.points.get(settings)
        baseline = self.baseline_tokens_per_s(settings)
        if not (point and point.tokens_per_verify and point.tokens_per_s and baseline):
            return None
        return Probe(settings, point.tokens_per_verify, point.tokens_per_s / baseline, constants)


@dataclass(frozen=True)
class Decision:
    """The choice for one group, and the expected speedup of every candidate.

    The choice is not always the largest figure: trees are ranked with care (probe.py).
    """

    key: GroupKey
    choice: Choice
    predicted_speedup: Mapping[Choice, float]

    def to_json(self) -> dict[str, Any]:
        """The public form of one group."""
        choice = "off" if self.choice is OFF else dict(vars(self.choice))
        predicted = {str(c): speedup for c, speedup in self.predicted_speedup.items()}
        return {**self.key._asdict(), "choice": choice, "predicted_speedup": predicted}


@dataclass(frozen=True)
class Decisions:
    """All groups of a file. skipped: groups without a whole probe row, which get no choice."""

    probe: Settings
    decisions: tuple[Decision, ...]
    skipped: tuple[GroupKey, ...]

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1."""
        return {
            "schema": 1,
            "probe": dict(vars(self.probe)),
            "groups": [decision.to_json() for decision in self.decisions],
            "skipped": [key._asdict() for key in self.skipped],
        }


def decide(
    groups: Sequence[Group], probe: Settings, constants: ProbeConstants | None = None
) -> Decisions:
    """A choice for each group, from its probe row and its baseline alone.

    Raises UsageError when no group has the probe measured.
    """
    constants = constants or probe_constants()
    probes = [(group, group.probe(probe, constants)) for group in groups]
    decisions = tuple(_decision(group, found) for group, found in probes if found is not None)
    if not decisions:
        seen = sorted({s for group in groups for s in group.points if group.probe(s, constants)})
        raise UsageError(
            f"none of the {len(groups)} groups has tokens_per_verify, tokens_per_s and a baseline "
            f"at the probe {probe}",
            hint=f"Measured in some group: {'; '.join(map(str, seen)) or 'nothing'}",
        )
    return Decisions(probe, decisions, tuple(group.key for group, found in probes if not found))


def read_points(path: Path) -> tuple[Group, ...]:
    """The groups of a CSV file, in the order in which they begin. Lists all wrong rows."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFoundError(
            f"{path}: {error.strerror or error}, expected a CSV file of measurements", hint=_HINT
        ) from error
    except UnicodeDecodeError as error:
        raise Eagle3Error(
            f"{path.name} is not UTF-8 (byte {error.start}), expected CSV", hint=_HINT
        ) from error
    return parse_points(text, path.name)


def parse_points(text: str, where: str) -> tuple[Group, ...]:
    """`read_points` of a text."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise Eagle3Error(f"{where} has no columns {', '.join(missing)}", hint=_HINT)
    groups: dict[GroupKey, dict[Settings, Point]] = {}
    problems = []
    for line, row in _numbered(reader, where):
        try:
            key, point = _row(row)
            points = groups.setdefault(key, {})
            if point.settings in points:
                raise ValueError(f"{point.settings} is there twice in its group")
            points[point.settings] = point
        except (ValueError, UsageError) as error:
            message = error.message if isinstance(error, UsageError) else str(error)
            problems.append(f"  line {line}: {message}")
    if problems:
        lines = [f"{where}: {len(problems)} wrong row(s)", *problems[:20]]
        raise Eagle3Error("\n".join(lines), hint=_HINT)
    if not groups:
        raise Eagle3Error(f"{where} has no rows, expected at least one", hint=_HINT)
    return tuple(Group(key, points) for key, points in groups.items())


def _numbered(
    reader: csv.DictReader[str], where: str
) -> Iterator[tuple[int, Mapping[str | None, str | None]]]:
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise Eagle3Error(
            f"{where} is not CSV: {error} after line {reader.line_num}", hint=_HINT
        ) from error


def _decision(group: Group, probe: Probe) -> Decision:
    choices = group.candidates
    return Decision(
        group.key, probe.best(choices), {c: probe.predicted_speedup(c) for c in choices}
    )


def _row(row: Mapping[str | None, str | None]) -> tuple[GroupKey, Point]:
    """One row's group and point; raises ValueError or UsageError that says what is wrong."""
    if None in row:
        raise ValueError(f"more than {len(row) - 1} cells, expected one for each column")
    concurrency, *numbers = (_count(name, row[name]) for name in COUNTS)
    settings = Settings(*numbers)
    tokens_per_verify, baseline, speed = (_result(name, row[name]) for name in RESULTS)
    if tokens_per_verify is not None:
        check_tokens_per_verify(tokens_per_verify, settings)
    names = [(row[name] or "").strip() for name in NAMES]
    point = Point(settings, tokens_per_verify, baseline, speed)
    return GroupKey(names[0], names[1], names[2], concurrency), point


def _count(name: str, text: str | None) -> int:
    if text is None or not text.strip().isdecimal():
        raise ValueError(f"{name} is {text!r}, expected a whole number")
    return int(text)


def _result(name: str, text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {text!r}, expected a number above 0, or nothing")
    return value
