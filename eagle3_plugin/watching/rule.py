"""When a running draft accepts less than it should: a change-point rule with a stated error.

Page's CUSUM (Biometrika 41, 1954) on accepted draft tokens, for several sizes of a fall at once.
For a fall of share f below the floor m0, with m1 = m0 (1 - f) and V the variance of a round's count
over the long run, each batch of n rounds with a accepted adds

    (m0 - m1) / V * (n (m0 + m1) / 2 - a)

to the evidence, in nats; below 0 it stays 0, and at the threshold h it is an alarm. Rounds of one
request resemble each other, so V is that of the whole request: the variance within, and the
variance between requests times the mean of squared lengths over the mean length. Lengths are taken
as exponential, so that is twice the mean length. A mean at the floor then alarms after
(e^h - h - 1) / I rounds on average, I = (m0 - m1)^2 / (2 V) (Siegmund, Sequential Analysis, 1985,
section II.6: Brownian motion); h is what makes that the stated number of requests.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Final

from eagle3_plugin.errors import UsageError
from eagle3_plugin.watching.expected import Expectation

FALLS: Final = (0.05, 0.2, 0.6)
"""Shares of the accepted draft tokens: a small fall, a large one, and a draft that is of no use."""

NUM_REQUESTS_BETWEEN_FALSE_ALARMS: Final = 10_000_000
"""Of a server whose acceptance stays at the very floor; above it, false alarms are rarer still."""

TOLERANCE: Final = 1e-9

LENGTH_FACTOR: Final = 2.0
"""Mean of squares over squared mean of exponential lengths."""


@dataclass(frozen=True)
class Verdict:
    """evidence: of the fall with the most of it, as a share of its threshold; 1 is an alarm.

    num_requests, num_rounds, num_accepted: since that evidence began to grow.
    """

    evidence: float
    fall: float
    num_requests: float
    num_rounds: int
    num_accepted: float

    @property
    def is_alarm(self) -> bool:
        return self.evidence >= 1

    @property
    def tokens_per_verify(self) -> float | None:
        """Since the evidence began to grow; None without a round."""
        return 1 + self.num_accepted / self.num_rounds if self.num_rounds else None


@dataclass
class _Sum:
    """The evidence for one size of a fall since it was last 0. share: of its threshold, up to 1."""

    fall: float
    nats: float = 0.0
    share: float = 0.0
    num_rounds: int = 0
    num_requests: float = 0.0
    num_accepted: float = 0.0

    def add(self, nats: float, num_rounds: int, num_requests: float, num_accepted: float) -> None:
        self.nats += nats
        self.num_rounds += num_rounds
        self.num_requests += num_requests
        self.num_accepted += num_accepted
        if self.nats <= 0:
            self.nats, self.num_rounds, self.num_requests, self.num_accepted = 0.0, 0, 0.0, 0.0


@dataclass
class Rule:
    """The evidence against one expectation.

    num_requests_between_false_alarms: on average, of all sizes of a fall together.
    misses_end: the engine's counts lack what the last round yields past an answer's end (SGLang).
    """

    expected: Expectation
    num_requests_between_false_alarms: float = NUM_REQUESTS_BETWEEN_FALSE_ALARMS
    misses_end: bool = False
    falls: tuple[float, ...] = FALLS
    _sums: list[_Sum] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.num_requests_between_false_alarms < math.inf:
            raise UsageError(
                f"{self.num_requests_between_false_alarms:g} requests between false alarms; "
                "expected at least 1"
            )
        self.restart()

    def restart(self) -> None:
        """Forgets all evidence."""
        self._sums = [_Sum(fall) for fall in self.falls]

    def add(self, num_rounds: int, accepted: float, num_requests: float, rounds_per_request: float
            ) -> Verdict:  # fmt: skip
        """Judges a batch of rounds.

        num_requests: that ended in it. rounds_per_request: over a longer time.
        """
        if self.misses_end:
            accepted += num_requests * self.expected.lost_tokens
        variance = self.variance(rounds_per_request)
        for each in self._sums:
            high, low = self._levels(each.fall)
            nats = (high - low) / variance * (num_rounds * (high + low) / 2 - accepted)
            each.add(nats, num_rounds, num_requests, accepted)
            h = self.threshold(each.fall, rounds_per_request)
            each.nats = min(each.nats, h)
            each.share = each.nats / h
        most = max(self._sums, key=lambda each: each.share)
        return Verdict(most.share, most.fall, most.num_requests, most.num_rounds, most.num_accepted)

    def variance(self, rounds_per_request: float) -> float:
        """Of the accepted draft tokens of a round, over the long run."""
        among = self.expected.request_variance * LENGTH_FACTOR * max(1.0, rounds_per_request)
        return self.expected.round_variance + among

    def threshold(self, fall: float, rounds_per_request: float) -> float:
        """The evidence in nats that is an alarm; each size of a fall gets its share of the rate."""
        high, low = self._levels(fall)
        information = (high - low) ** 2 / (2 * self.variance(rounds_per_request))
        num_requests = self.num_requests_between_false_alarms * len(self.falls)
        wanted = num_requests * max(1.0, rounds_per_request) * information
        return _threshold(max(1.0, wanted))

    def num_requests_to_alarm(self, mean: float, rounds_per_request: float) -> float | None:
        """Requests until an alarm when the mean falls to this; None when it is never one."""
        found = []
        for fall in self.falls:
            high, low = self._levels(fall)
            slope = (high - low) / self.variance(rounds_per_request) * ((high + low) / 2 - mean)
            if slope > 0:
                needed = self.threshold(fall, rounds_per_request) / slope
                found.append(needed / max(1.0, rounds_per_request))
        return min(found, default=None)

    def _levels(self, fall: float) -> tuple[float, float]:
        return self.expected.floor, self.expected.floor * (1 - fall)


@functools.lru_cache
def _threshold(wanted: float) -> float:
    """The h of e^h - h - 1 = wanted."""
    h, last = 1.0, 0.0
    while abs(h - last) > TOLERANCE:
        h, last = math.log(wanted + 1 + h), h
    return h
