"""Servers made of real requests: the rounds and accepted tokens of a score's prompts, drawn anew.

A day of a healthy one, and others whose draft is wrong, in batches as a watch reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.watching.expected import Expectation
from eagle3_plugin.watching.lengths import Histogram, Lengths, Spans
from eagle3_plugin.watching.reading import Reading
from eagle3_plugin.watching.rule import Rule, Verdict

Requests = NDArray[np.int64]
"""[requests, 2]: rounds, and draft tokens accepted in them."""

ROUND_VARIANCE = 1.64
"""Of the accepted draft tokens of a round of the tiny pair, within a request."""

DAY_S = 24 * 3600

ENDS = tuple(float(step * 10**power) for power in range(5) for step in (1, 2, 5))
"""vLLM's ends of buckets for answers of up to 50,000 tokens."""


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
    spans = (lengths_of(requests, 1 + rule.expected.floor),)
    sums = np.vstack([np.zeros((1, 2), np.int64), np.cumsum(requests, axis=0)])
    seen = 0
    verdict = rule.add(0, 0, 0, spans)
    for num in per_batch:
        if num:
            rounds, accepted = (sums[seen + num] - sums[seen]).tolist()
            seen += int(num)
            verdict = rule.add(rounds, accepted, int(num), spans)
            if verdict.is_alarm:
                break
    return Outcome(verdict, seen)


def tokens_of(requests: Requests) -> NDArray[np.int64]:
    """Of each answer: one of the prefill, and each round's accepted draft tokens and bonus."""
    found: NDArray[np.int64] = 1 + requests.sum(axis=1)
    return found


def histogram(num_tokens: NDArray[np.int64]) -> Histogram:
    """What vLLM tells of answers of so many tokens."""
    counts, _ = np.histogram(num_tokens, (-1, *(end + 0.5 for end in ENDS), np.inf))
    return Histogram((*ENDS, np.inf), tuple(counts.tolist()), float(num_tokens.sum()))


def lengths_of(requests: Requests, tokens_per_round: float) -> Lengths:
    """The widest that fit what vLLM tells of the requests."""
    widest = histogram(tokens_of(requests)).widest
    items = [((tokens - 1) / tokens_per_round, num) for tokens, num in widest if tokens > 1]
    return Lengths(tuple(items))


def watched(
    rule: Rule, requests: Requests, per_batch: Sequence[int] | NDArray[np.int64]
) -> Outcome:
    """As `run`, with the lengths that a watch of an SGLang knows when it sees each batch."""
    spans, ended, seen = Spans(), _reading(histogram(np.array([], np.int64))), 0
    spans.add(ended, 1 + rule.expected.floor)
    verdict = rule.add(0, 0, 0, ())
    for num in per_batch:
        batch = requests[seen : seen + num]
        seen += len(batch)
        ended = _reading(_sum(ended.lengths, histogram(tokens_of(batch))))
        rounds, accepted = batch.sum(axis=0).tolist()
        known = spans.add(ended, 1 + rule.expected.floor)
        verdict = rule.add(rounds, accepted, len(batch), known)
        if verdict.is_alarm:
            break
    return Outcome(verdict, seen)


def num_alarms(rule: Rule, requests: Requests, per_batch: int) -> int:
    """Alarms of a watch that begins anew after each."""
    found, seen = 0, 0
    while seen < len(requests):
        rule.restart()
        left = requests[seen:]
        outcome = watched(rule, left, [per_batch] * math.ceil(len(left) / per_batch))
        found, seen = found + outcome.is_alarm, seen + outcome.num_requests
    return found


def varied(
    rounds: NDArray[np.int64], mean: float, variance: float, random: np.random.Generator
) -> Requests:
    """Requests of such lengths of a chain of 3, whose means vary as a normal distribution does;
    ROUND_VARIANCE within each."""
    means = np.clip(random.normal(mean, variance**0.5, len(rounds)), 0, 3)
    noise = random.normal(0, 1, len(rounds)) * np.sqrt(ROUND_VARIANCE * rounds)
    accepted = np.clip(np.round(rounds * means + noise), 0, 3 * rounds)
    return np.stack([rounds, accepted], axis=1).astype(np.int64)


def mixes(num: int, random: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Rounds of so many requests, by what their lengths are like."""
    half = num // 2
    return {
        "uniform": random.integers(1, 100, num),
        "9 of 10 without a round": np.where(random.random(num) < 0.9, 0, 260),
        "lognormal": np.maximum(1, random.lognormal(3, 1, num)).astype(np.int64),
        "short, then long": np.where(np.arange(num) < half, 10, 500),
    }


def _reading(lengths: Histogram) -> Reading:
    return Reading(0.0, 0.0, 0.0, lengths.num_tokens, sum(lengths.counts), None, lengths)


def _sum(one: Histogram | None, other: Histogram) -> Histogram:
    assert one is not None
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Histogram(one.ends, counts, one.num_tokens + other.num_tokens)


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
