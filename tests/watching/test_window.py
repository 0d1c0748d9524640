"""A sliding window over counters that only grow, until an engine restarts."""

from __future__ import annotations

import pytest

from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.watching.reading import Reading
from eagle3_plugin.watching.window import Step, Window


def reading(time_s: float, rounds: int, running: float = 1) -> Reading:
    """An engine that drafts 2 tokens a round and accepts 1, and ends a request each 10 rounds."""
    counts = AcceptanceCounts(rounds, 2 * rounds, rounds, (rounds, 0))
    return Reading(time_s, running, 0, 2 * rounds, rounds // 10, counts)


def test_the_first_reading_is_no_step() -> None:
    window = Window(60)
    assert window.add(reading(0, 100)) is None
    assert window.total is None


def test_a_step_is_the_difference_of_two_readings() -> None:
    window = Window(60)
    window.add(reading(0, 100))
    step = window.add(reading(2, 130))
    assert step == Step(2, 60, 3, AcceptanceCounts(30, 60, 30, (30, 0)))
    assert step.tokens_per_s == 30


def test_the_total_reaches_back_as_far_as_the_window() -> None:
    window = Window(10)
    for time_s in range(0, 31, 5):
        window.add(reading(time_s, 10 * time_s))
    assert window.total is not None
    assert (window.total.elapsed_s, window.total.num_generated_tokens) == (15, 300)


def test_a_window_shorter_than_an_interval_has_the_last_step() -> None:
    window = Window(1)
    window.add(reading(0, 0))
    window.add(reading(5, 50))
    window.add(reading(10, 70))
    assert window.total == Step(5, 40, 2, AcceptanceCounts(20, 40, 20, (20, 0)))


@pytest.mark.parametrize("rounds", [0, 99])
def test_a_counter_that_fell_begins_a_new_life(rounds: int) -> None:
    window = Window(60)
    window.add(reading(0, 100))
    window.add(reading(1, 110))
    assert window.add(reading(2, rounds)) is None
    assert window.num_restarts == 1
    assert window.total is None
    assert window.add(reading(3, rounds + 5)) == Step(
        1, 10, 1 if rounds == 99 else 0, AcceptanceCounts(5, 10, 5, (5, 0))
    )


def test_accepted_tokens_that_fell_begin_a_new_life() -> None:
    """Another life with more rounds, of which fewer tokens were accepted."""
    window = Window(60)
    window.add(reading(0, 100))
    counts = AcceptanceCounts(110, 220, 30, (20, 10))
    assert window.add(Reading(1, 1, 0, 220, 11, counts)) is None
    assert window.num_restarts == 1


@pytest.mark.parametrize(("num_finished", "num_restarts"), [(11, 0), (10, 1)])
def test_a_request_that_was_aborted_in_sglang_is_no_restart(
    num_finished: int, num_restarts: int
) -> None:
    """It ended without a token, and one is taken off for each that ended."""
    window = Window(60)
    window.add(Reading(0, 1, 0, 200, 10, AcceptanceCounts(100, 300, 90, ())))
    window.add(Reading(1, 1, 0, 200, num_finished, AcceptanceCounts(100, 300, 89, ())))
    assert window.num_restarts == num_restarts


@pytest.mark.parametrize(("rounds", "num_restarts"), [(110, 0), (90, 1)])
def test_a_cleared_window_takes_no_difference_but_sees_a_restart(
    rounds: int, num_restarts: int
) -> None:
    window = Window(60)
    window.add(reading(0, 100))
    window.clear()
    assert window.add(reading(1, rounds)) is None
    assert (window.num_restarts, window.total) == (num_restarts, None)


def test_without_speculation_there_are_no_counts() -> None:
    window = Window(60)
    window.add(Reading(0, 1, 0, 0, 0, None))
    assert window.add(Reading(1, 1, 0, 5, 1, None)) == Step(1, 5, 1, None)


def test_a_step_of_no_time_has_no_speed() -> None:
    assert Step(0, 0, 0, None).tokens_per_s == 0


def test_the_load_is_the_mean_of_the_window() -> None:
    window = Window(60)
    assert window.num_running == 0
    for time_s, running in ((0, 1), (1, 2), (2, 6)):
        window.add(reading(time_s, 0, running))
    assert window.num_running == 3
