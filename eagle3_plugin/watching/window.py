"""The readings of the last seconds, and what they come to; a restarted engine begins anew."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.settings import Settings
from eagle3_plugin.watching.reading import Reading

FULL_SHARE: Final = 0.99
"""Of the draft tokens that full rounds have; with fewer, rounds of another length are among them
that an expectation of this length is not for."""


@dataclass(frozen=True)
class Step:
    """What happened between two readings. counts: None without speculation."""

    elapsed_s: float
    num_generated_tokens: float
    num_finished: float
    counts: AcceptanceCounts | None

    @property
    def tokens_per_s(self) -> float:
        return self.num_generated_tokens / self.elapsed_s if self.elapsed_s else 0.0


@dataclass
class Window:
    """The readings of the last `length_s` seconds, and one before them to count from.

    num_restarts: times that a counter fell, which only a restart makes it do, be it while the
    engine could not be read.
    """

    length_s: float
    num_restarts: int = 0
    _readings: deque[Reading] = field(default_factory=deque, repr=False)
    _last: Reading | None = field(default=None, repr=False)

    def clear(self) -> None:
        """Forgets the readings: the next one may be of another life."""
        self._readings.clear()

    def add(self, reading: Reading) -> Step | None:
        """What happened since the reading before; None for the first, of an engine's life too."""
        if self._last is not None and _restarted(self._last, reading):
            self.num_restarts += 1
            self.clear()
        self._last = reading
        last = self._readings[-1] if self._readings else None
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.time_s - self._readings[1].time_s > self.length_s:
            self._readings.popleft()
        return None if last is None else between(last, reading)

    @property
    def total(self) -> Step | None:
        """What happened in the window; None before the second reading."""
        if len(self._readings) < 2:
            return None
        return between(self._readings[0], self._readings[-1])

    @property
    def num_running(self) -> float:
        """The mean of the readings in the window."""
        readings = self._readings
        return sum(r.num_running for r in readings) / len(readings) if readings else 0.0


def is_full(settings: Settings, counts: AcceptanceCounts) -> bool:
    """Whether (nearly) all rounds drafted as many tokens as the settings say."""
    full = counts.num_rounds * (settings.num_draft_tokens - 1)
    return counts.num_draft_tokens >= FULL_SHARE * full


def between(before: Reading, after: Reading) -> Step:
    """The difference of two readings of one engine's life."""
    counts = None
    if before.counts is not None and after.counts is not None:
        counts = after.counts - before.counts
    return Step(
        after.time_s - before.time_s,
        after.num_generated_tokens - before.num_generated_tokens,
        after.num_finished - before.num_finished,
        counts,
    )


def _restarted(before: Reading, after: Reading) -> bool:
    pairs = zip(_counters(before), _counters(after), strict=False)
    return any(later < earlier for earlier, later in pairs)


def _counters(reading: Reading) -> tuple[float, ...]:
    """What only grows in one life.

    The accepted tokens of SGLang lack one for each request that ended, even for one that was
    aborted before its first token (reading.py); with these added they only grow, too.
    """
    always = (reading.num_generated_tokens, reading.num_finished)
    counts = reading.counts
    if counts is None:
        return always
    accepted = counts.accepted_draft_tokens + reading.num_finished
    positions = counts.accepted_by_position
    return (*always, counts.num_rounds, counts.num_draft_tokens, accepted, *positions)
