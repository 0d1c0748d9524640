"""When a running draft accepts less than it should: a change-point rule with a stated error.

Page's CUSUM (Biometrika 41, 1954) on accepted draft tokens, for several sizes of a fall at once.
For a fall of share f below the floor m0, with d = m0 f, a batch of n rounds with a accepted adds

    t * (n (m0 - d / 2) - a)

to the evidence, in nats; below 0 it stays 0, and at the threshold h it is an alarm. Rounds of one
request resemble each other: with r the variance of a round within a request and s that of the means
of requests, what a request of L rounds adds has the variance t^2 (r L + s L^2), and at the floor
the mean -t L d / 2. t is the largest with E[exp(what a request adds)] <= 1, which bounds alarms
(Lorden, Annals of Mathematical Statistics 42, 1971): for normal deviations

    E[exp(t^2 (r L + s L^2) / 2 - t L d / 2)] = 1

over the lengths L. Where all are equal, t = d / V with V = r + s L, the variance of a round over
the long run; a few long ones among others lower it. A mean at the floor then alarms after
(e^h - h - 1) / I rounds on average, I = t d / 2 (Siegmund, Sequential Analysis, 1985, section II.6:
Brownian motion); h makes that the stated number of requests, each as long as the request that a
round is of. Where acceptance goes with the length, the floor has to hold for each length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from eagle3_plugin.errors import UsageError
from eagle3_plugin.watching.expected import Expectation
from eagle3_plugin.watching.lengths import Lengths, equal

FALLS: Final = (0.05, 0.2, 0.6)
"""Shares of the accepted draft tokens: a small fall, a large one, and a draft that is of no use."""

NUM_REQUESTS_BETWEEN_FALSE_ALARMS: Final = 10_000_000
"""Of a server whose acceptance stays at the very floor; above it, false alarms are rarer still."""

TOLERANCE: Final = 1e-9

NUM_HALVINGS: Final = 40
MOST_NATS: Final = 600.0
"""Of a request, which is too much by far; its exponential is still a number."""


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

    def add(
        self, num_rounds: int, accepted: float, num_requests: float, spans: Sequence[Lengths]
    ) -> Verdict:
        """Judges a batch of rounds.

        num_requests: that ended in it. spans: lengths of requests, over one or more times, of which
        the most careful counts; none: one request had all the rounds.
        """
        spans = spans or (equal(max(1, num_rounds)),)
        if self.misses_end:
            accepted += num_requests * self.expected.lost_tokens
        for each in self._sums:
            nats = self.nats_per_token(each.fall, spans) * (
                num_rounds * self._middle(each.fall) - accepted
            )
            each.add(nats, num_rounds, num_requests, accepted)
            h = self.threshold(each.fall, spans)
            each.nats = min(each.nats, h)
            each.share = each.nats / h
        most = max(self._sums, key=lambda each: each.share)
        return Verdict(most.share, most.fall, most.num_requests, most.num_rounds, most.num_accepted)

    def nats_per_token(self, fall: float, spans: Sequence[Lengths]) -> float:
        """Evidence for each accepted draft token that is missing; t above."""
        expected = self.expected
        within, among = expected.round_variance, expected.request_variance
        return min(_tilt(each, within, among, expected.floor * fall) for each in spans)

    def threshold(self, fall: float, spans: Sequence[Lengths]) -> float:
        """The evidence in nats that is an alarm; each size of a fall gets its share of the rate."""
        information = self.nats_per_token(fall, spans) * self.expected.floor * fall / 2
        num_requests = self.num_requests_between_false_alarms * len(self.falls)
        rounds = max(each.weighted_mean for each in spans)
        return _threshold(max(1.0, num_requests * max(1.0, rounds) * information))

    def num_rounds_to_alarm(self, mean: float, spans: Sequence[Lengths]) -> float | None:
        """Rounds until an alarm when the mean falls to this; None when it is never one."""
        found = []
        for fall in self.falls:
            slope = self.nats_per_token(fall, spans) * (self._middle(fall) - mean)
            if slope > 0:
                found.append(self.threshold(fall, spans) / slope)
        return min(found, default=None)

    def _middle(self, fall: float) -> float:
        """Halfway between the floor and the fallen mean."""
        return self.expected.floor * (1 - fall / 2)


@functools.lru_cache(256)
def _tilt(lengths: Lengths, within: float, among: float, fall: float) -> float:
    """The root t > 0 of the equation above, by halving what it lies in; fall: d."""
    low, high = 0.0, fall / max(TOLERANCE, within)
    for _ in range(NUM_HALVINGS):
        t = (low + high) / 2
        low, high = (t, high) if _excess(lengths, within, among, fall, t) <= 0 else (low, t)
    return low


def _excess(lengths: Lengths, within: float, among: float, fall: float, t: float) -> float:
    """E[exp(what a request adds)] - 1, times the number of requests."""
    return sum(
        num * math.expm1(min(MOST_NATS, t * rounds * (t * (within + among * rounds) - fall) / 2))
        for rounds, num in lengths.items
    )


@functools.lru_cache(256)
def _threshold(wanted: float) -> float:
    """The h of e^h - h - 1 = wanted."""
    h, last = 1.0, 0.0
    while abs(h - last) > TOLERANCE:
        h, last = math.log(wanted + 1 + h), h
    return h
