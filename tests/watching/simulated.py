"""Servers made of real requests: the rounds and accepted tokens of a score's prompts, drawn anew.

A day of a healthy one, and others whose draft is wrong, in batches as a watch reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.watching.expected import Expectation
from eagle3_plugin.watching.rule import Rule, Verdict

Requests = NDArray[np.int64]
"""[requests, 2]: rounds, and draft tokens accepted in them."""

DAY_S = 24 * 3600


@dataclass(frozen=True)
class Outcome:
    """num_requests: until the alarm, or of the whole time without one."""

    verdict: Verdict
    num_requests: int

    @property
    def is_alarm(self) -> bool:
        return self.verdict.is_alarm


def drawn(requests: Requests, num: int, random: np.random.Generator) -> Requests:
    """That many of the requests, each as likely."""
    return requests[random.integers(0, len(requests), num)]


def arrivals(duration_s: int, per_s: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Requests that end in each second: the load of a day, from nothing at night to twice that."""
    day = 1 - np.cos(2 * np.pi * np.arange(duration_s) / DAY_S)
    return random.poisson(per_s * day)


def run(rule: Rule, requests: Requests, per_batch: Sequence[int] | NDArray[np.int64]) -> Outcome:
    """The requests in order, so many a batch, up to the alarm."""
    rounds_per_request = float(requests[:, 0].mean())
    sums = np.vstack([np.zeros((1, 2), np.int64), np.cumsum(requests, axis=0)])
    seen = 0
    verdict = rule.add(0, 0, 0, rounds_per_request)
    for num in per_batch:
        if num:
            rounds, accepted = (sums[seen + num] - sums[seen]).tolist()
            seen += int(num)
            verdict = rule.add(rounds, accepted, int(num), rounds_per_request)
            if verdict.is_alarm:
                break
    return Outcome(verdict, seen)


def requests_to_alarm(
    expected: Expectation, requests: Requests, most: int, random: np.random.Generator
) -> int | None:
    """Requests until a fresh rule's alarm, one request a batch; None without one in `most`."""
    found = run(Rule(expected), drawn(requests, most, random), [1] * most)
    return found.num_requests if found.is_alarm else None


def worst_case(mean: float, num_positions: int, rounds: int, num: int,
               random: np.random.Generator) -> Requests:  # fmt: skip
    """Requests that vary as much as they can: all accepted, or nothing; of exponential lengths."""
    lengths = np.maximum(1, random.exponential(rounds, num)).astype(np.int64)
    is_right = random.random(num) < mean / num_positions
    return np.stack([lengths, lengths * num_positions * is_right], axis=1)
