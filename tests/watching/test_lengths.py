"""How long requests are, by what an engine tells of the tokens that they generated."""

from __future__ import annotations

import math

import pytest

from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.watching.lengths import Histogram, Lengths, Spans, equal
from eagle3_plugin.watching.reading import Reading

ENDS = (1.0, 10.0, 100.0, math.inf)


def reading(
    counts: tuple[float, ...], num_tokens: float, *, generated: float | None = None
) -> Reading:
    """Of an engine with two running requests."""
    lengths = Histogram(ENDS, counts, num_tokens)
    total = num_tokens if generated is None else generated
    return Reading(0.0, 2.0, 0.0, total, sum(counts), None, lengths)


def test_the_widest_lengths_are_at_the_ends_of_buckets_and_add_up() -> None:
    """10 of 10 to 100 tokens with 460 in all: 4 at 100 and 6 at 10."""
    assert Histogram(ENDS, (0, 0, 10, 0), 460).widest == ((100, 4), (10, 6))


def test_the_longest_bucket_is_raised_first() -> None:
    """At lower ends 2 * 100 + 3 * 10 = 230; the two beyond 100 go up by 150 each at most."""
    found = dict(Histogram(ENDS, (0, 0, 3, 2), 460).widest)
    assert found == {250: pytest.approx(230 / 150), 100: pytest.approx(2 - 230 / 150), 10: 3}


def test_what_no_end_explains_is_of_one_request() -> None:
    assert Histogram(ENDS, (0, 0, 0, 1), 1000).widest == ((250, 1), (750, 1))


def test_no_lengths_that_fit_have_a_larger_mean_of_squares() -> None:
    """8 answers of 20 and 2 of 90 tokens: squares of 19,400, and at most 3 * 100^2 + 7 * 10^2."""
    assert Histogram(ENDS, (0, 0, 10, 0), 370).widest == ((100, 3), (10, 7))


def test_the_request_that_a_round_is_of_is_longer_than_the_mean() -> None:
    found = Lengths(((10, 90), (100, 10)))
    assert (found.mean, found.weighted_mean) == (19, (90 * 100 + 10 * 10000) / 1900)


def test_requests_of_one_token_have_no_round() -> None:
    """Nine of one token and one of 100, which is 99 tokens of rounds of 2."""
    spans = Spans()
    [found, *_] = spans.add(reading((9, 0, 1, 0), 9 + 100), 2.0)
    assert found.weighted_mean == pytest.approx(99 / 2)


def test_before_a_request_ended_nothing_is_known() -> None:
    assert Spans().add(reading((0, 0, 0, 0), 0), 2.0) == ()


def test_a_short_span_sees_at_once_that_answers_become_longer() -> None:
    spans = Spans()
    spans.add(reading((0, 1000, 0, 0), 10_000), 1.0)
    found = spans.add(reading((0, 1000, 0, 1), 10_250), 1.0)
    assert max(each.weighted_mean for each in found) == pytest.approx(249)
    assert min(each.weighted_mean for each in found) < 20


def test_a_short_span_forgets_and_a_long_one_remembers() -> None:
    spans = Spans()
    spans.add(reading((0, 0, 0, 1), 250), 1.0)
    for num in range(1, 100):
        found = spans.add(reading((0, num, 0, 1), 250 + 10 * num), 1.0)
    assert {len(each.items) for each in found} == {1, 2}
    assert found[0] == Lengths(((9, 19),))


def test_what_runs_is_as_long_as_what_was_generated_for_it() -> None:
    """Two requests run, and 800 tokens are of none that ended: 400 each, 2 a round."""
    spans = Spans()
    spans.add(reading((0, 0, 0, 0), 0), 2.0)
    assert spans.add(reading((0, 0, 0, 0), 0, generated=800), 2.0) == (equal(200),)


def test_without_a_histogram_requests_are_four_times_the_mean_of_the_counters() -> None:
    counts = AcceptanceCounts(1000, 3000, 1200, ())
    found = Spans().add(Reading(0.0, 0.0, 0.0, 0.0, 50.0, counts), 2.0)
    assert set(found) == {equal(80)}
