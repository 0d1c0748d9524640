"""Which settings are the fastest on this machine, from a few servers instead of a sweep.

Tokens per second = requests * tokens per verify / round time. The first follows for every chain
from one run of a long one (`shorter_tokens_per_verify`); the second is close to affine in the
chain's length, so three lengths give the others. Trees are each run. The settings that win so are
then run themselves, and have to win again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from eagle3_plugin.errors import EngineError
from eagle3_plugin.planning.measured import Measured, Speed
from eagle3_plugin.planning.profile import Counted, Profile, Timed
from eagle3_plugin.planning.settings import CHAIN_STEPS, OFF, Choice
from eagle3_plugin.serving.profile_file import ProfileFile
from eagle3_plugin.settings import Settings, chain

LONG: Final = chain(CHAIN_STEPS[-1])
SHORT: Final = (chain(1), chain(3))
"""The bends of a round's time are near its start: batches of 1 and 2 tokens use other kernels."""

MAX_CONFIRMED: Final = 3
"""Winners that are run; each has to lose to what is known by then for another to come."""


@dataclass(frozen=True)
class Start:
    """One server to be started: its settings, and how its rounds are.

    accepts: tokens per verify that the engine is told to take; None = what the target confirms,
    and then all prompts are counted.
    """

    choice: Choice
    accepts: int | None = None

    @property
    def counts(self) -> bool:
        return self.accepts is None and self.choice is not OFF


@dataclass(frozen=True)
class Todo:
    """What a started server is still to be asked: the loads to be timed, and the counts."""

    start: Start
    loads: tuple[int, ...]
    counts: bool

    def __len__(self) -> int:
        return len(self.loads) + self.counts


class Measure(Protocol):
    """Starts one server and measures; each value is yielded when it is there."""

    def __call__(self, todo: Todo) -> Iterator[Timed | Counted]: ...


@dataclass(frozen=True)
class Progress:
    """After each measurement: how many are done, of how many, and the seconds that are left.

    left_s: by the means of those that this run has made, starts apart; None before the first.
    """

    what: str
    done: int
    total: int
    left_s: float | None


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Tuned:
    """The result: for each load the speeds of all that is known, fastest first."""

    measured: Measured
    speeds: tuple[tuple[int, tuple[Speed, ...]], ...]

    def best(self, num_requests: int) -> Choice:
        """The choice that was run itself and was the fastest."""
        return _best_run(dict(self.speeds)[num_requests]).choice

    def rivals(self, num_requests: int) -> tuple[Choice, ...]:
        """The others that were run whose speed may be as high, by the errors of the times."""
        speeds = dict(self.speeds)[num_requests]
        best = _best_run(speeds)
        runs = (s for s in speeds if s.is_measured and s is not best)
        return tuple(s.choice for s in runs if s.high >= best.low)


def tune(
    file: ProfileFile,
    loads: Sequence[int],
    trees: Sequence[Settings],
    measure: Measure,
    report: Report,
    *,
    simulates: bool,
) -> Tuned:
    """Measures what is missing in the file, chooses, confirms, and finishes it.

    simulates: the engine can be told how many tokens to accept, so that all requests of a wave
    take the same rounds and a short run gives a round's time.
    """
    run = _Run(file, tuple(loads), measure, report)
    run.make([Start(OFF), Start(LONG)], planned=len(SHORT) + len(trees))
    accepts = _accepted(file.profile) if simulates else (None, None)
    short = [Start(s, n) for s, n in zip(SHORT, accepts, strict=True)]
    run.make([*short, *(Start(tree) for tree in trees)])
    for _ in range(MAX_CONFIRMED):
        unconfirmed = run.unconfirmed()
        if not unconfirmed:
            break
        run.make([Start(choice) for choice in unconfirmed])
    tuned = Tuned(run.known(), run.speeds())
    file.finish()
    return Tuned(Measured(file.profile, str(file.path)), tuned.speeds)


@dataclass
class _Run:
    """The measurements of this run, for the time that is left."""

    file: ProfileFile
    loads: tuple[int, ...]
    measure: Measure
    report: Report
    firsts_s: list[float] = field(default_factory=list)
    others_s: list[float] = field(default_factory=list)

    def make(self, starts: Sequence[Start], planned: int = 0) -> None:
        """Measures what the file lacks of these; planned: starts that will follow."""
        todos = [todo for s in starts if (todo := missing(s, self.loads, self.file.profile))]
        for index, todo in enumerate(todos):
            later = [len(t) for t in todos[index + 1 :]] + [len(self.loads)] * planned
            self._say(f"starting {todo.start.choice}", [len(todo), *later], 0)
            begin = time.monotonic()
            for done, found in enumerate(self.measure(todo), start=1):
                self.file.add(found)
                (self.firsts_s if done == 1 else self.others_s).append(time.monotonic() - begin)
                begin = time.monotonic()
                self._say(_what(found), later, len(todo) - done)
            if missing(todo.start, self.loads, self.file.profile):
                raise EngineError(f"the measurement of {todo.start.choice} ended before its end")

    def known(self) -> Measured:
        return Measured(self.file.profile, str(self.file.path))

    def speeds(self) -> tuple[tuple[int, tuple[Speed, ...]], ...]:
        known = self.known()
        return tuple((load, known.speeds(load)) for load in self.loads)

    def unconfirmed(self) -> tuple[Choice, ...]:
        """The fastest at each load, where no run of its own says so."""
        fastest = dict.fromkeys(speeds[0] for _, speeds in self.speeds())
        return tuple(dict.fromkeys(s.choice for s in fastest if not s.is_measured))

    def _say(self, what: str, later: Sequence[int], rest: int) -> None:
        """later: measurements of each server still to be started; rest: of the one that runs."""
        profile = self.file.profile
        done = len(profile.timed) + len(profile.counted)
        total = done + sum(later) + rest
        self.report(Progress(what, done, total, self._left_s(later, rest)))

    def _left_s(self, later: Sequence[int], rest: int) -> float | None:
        """The first measurement of a server takes its start too."""
        if not self.firsts_s:
            return None
        first_s = statistics.mean(self.firsts_s)
        other_s = statistics.mean(self.others_s or self.firsts_s)
        return len(later) * first_s + (sum(later) - len(later) + rest) * other_s


def missing(start: Start, loads: Sequence[int], profile: Profile) -> Todo | None:
    """What the profile lacks of a start; a real run does for a synthetic one."""
    timed = {(t.choice, t.num_requests, t.how) for t in profile.timed}
    hows = ("real",) if start.accepts is None else ("real", "synthetic")
    lacking = tuple(n for n in loads if not any((start.choice, n, h) in timed for h in hows))
    counts = start.counts and start.choice not in {c.choice for c in profile.counted}
    return Todo(start, lacking, counts) if lacking or counts else None


def _accepted(profile: Profile) -> tuple[int, int]:
    """Whole tokens per verify near the long chain's: the rounds of a wave are then all alike."""
    acceptance = Measured(profile, "the profile").acceptance
    found = (acceptance.tokens_per_verify(s).expected or 1.0 for s in SHORT)
    first, second = (round(tokens) for tokens in found)
    return first, second


def _best_run(speeds: Sequence[Speed]) -> Speed:
    return next(s for s in speeds if s.is_measured)


def _what(found: Timed | Counted) -> str:
    if isinstance(found, Counted):
        return f"{found.settings}: {found.tokens_per_verify:.2f} tokens per verify"
    error = 100 * found.relative_error
    return (
        f"{found.settings}, {found.num_requests} request(s): {1e3 * found.median_s:.2f} ms a round "
        f"({found.how}, within {error:.0f} %)"
    )
