"""The requests behind an acceptance, by scores and benches with literal counts."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.watching.measured_requests import MeasuredRequests, of_bench, of_score
from tests.watching.fixtures import SCORE, Loops, bench

CHAT: Loops = {("3,1,4", "chat"): [(100, (40, 20, 10)), (100, (60, 40, 20)), (0, (0, 0, 0))]}
CODE: Loops = {("3,1,4", "code"): [(50, (40, 25, 20))]}
BASELINE: Loops = {("baseline", "chat"): [None]}
LONG: Loops = {("5,1,6", "chat"): [(100, (60, 40, 20, 10, 5))]}


def test_a_score_has_a_mean_for_each_set_and_counts_of_its_longest_chain() -> None:
    score = SCORE | {
        "prompt_sets": {"easy": {"2": 2.0, "3": 2.5}, "hard": {"2": 1.5, "3": 1.75}},
        "rounds_per_prompt": [9, 0],
        "accepted_draft_tokens_per_prompt": [12, 0],
    }
    assert of_score(score, chain(3)) == MeasuredRequests(400, (1.5, 0.75), ((9, 12),))
    assert of_score(score, chain(2)) == MeasuredRequests(400, (1.0, 0.5), ())


def test_a_tree_has_the_sets_and_prompts_of_the_chain_as_deep_in_proportion() -> None:
    """The chain has 1.2 accepted draft tokens a round, the tree 2.4."""
    score = SCORE | {
        "prompt_sets": {"easy": {"3": 2.5}, "hard": {"3": 1.75}},
        "rounds_per_prompt": [10],
        "accepted_draft_tokens_per_prompt": [12],
    }
    found = of_score(score, Settings(3, 4, 8), 2.4)
    assert found.set_means == pytest.approx((3.0, 1.5))
    [(rounds, accepted)] = found.counts
    assert rounds == 10
    assert accepted == pytest.approx(24)


def test_a_tree_deeper_than_every_chain_has_neither() -> None:
    found = of_score(SCORE | {"rounds_per_prompt": [10]}, Settings(5, 4, 16), 2.4)
    assert found == MeasuredRequests(400, (), ())


@pytest.mark.parametrize("absent", ["rounds_per_prompt", "accepted_draft_tokens_per_prompt"])
def test_half_of_a_prompts_counts_are_none(absent: str) -> None:
    counts = {"rounds_per_prompt": [9], "accepted_draft_tokens_per_prompt": [12], absent: None}
    assert of_score(SCORE | counts, chain(3)).counts == ()


def test_a_bench_has_every_request_that_took_a_round_with_these_settings() -> None:
    given = bench(CHAT | CODE | BASELINE | LONG)
    assert of_bench(given, chain(3), "b") == MeasuredRequests(
        3, (190 / 200, 85 / 50), ((100, 70), (100, 120), (50, 85))
    )


def test_a_repeat_asks_the_same_prompts_again() -> None:
    assert of_bench(bench(CODE, CODE), chain(3), "b") == MeasuredRequests(
        1, (85 / 50,), ((50, 85), (50, 85))
    )


def test_a_chain_that_was_not_benched_begins_the_longest() -> None:
    given = bench(CHAT | LONG)
    assert of_bench(given, chain(2), "b") == MeasuredRequests(1, (1.0,), ((100, 100),))


@pytest.mark.parametrize("settings", [chain(6), Settings(3, 4, 8)], ids=str)
def test_settings_that_no_server_tells_of_have_no_requests(settings: Settings) -> None:
    assert of_bench(bench(CHAT | LONG), settings, "b") == MeasuredRequests(1, (), ())


def test_where_the_engine_counted_there_are_prompts_and_sets_alone() -> None:
    given = bench(
        {("3,1,4", "chat"): [None, None]}, counted=AcceptanceCounts(200, 600, 190, (100, 60, 30))
    )
    assert of_bench(given, chain(3), "b") == MeasuredRequests(2, (0.95,), ())


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(Eagle3Error, match=r"b\.json: 1 problem"):
        of_bench(bench(CHAT) | {"speed": 1}, chain(3), "b.json")


def test_the_variance_of_requests_is_without_that_of_their_rounds() -> None:
    """Means 0.7, 1.2 and 1.7 vary by 0.25, of which 1.36 / 100 is that of rounds."""
    found = MeasuredRequests(3, (), ((100, 70), (100, 120), (100, 170)))
    assert found.variance(1.36) == pytest.approx(0.25 - 0.0136)


def test_the_same_prompts_again_do_not_make_the_variance_surer() -> None:
    """Two prompts of 0.7 and 1.7 vary by 0.5, however often they are asked."""
    found = MeasuredRequests(2, (), ((100, 70), (100, 170)) * 10)
    assert found.variance(0.0) == pytest.approx(0.5)


def test_rounds_that_vary_more_than_requests_leave_nothing() -> None:
    assert MeasuredRequests(2, (), ((2, 1), (2, 2))).variance(1.36) == 0


def test_one_prompt_has_no_variance_however_often_it_is_asked() -> None:
    assert MeasuredRequests(1, (), ((100, 70), (100, 120))).variance(1.36) is None
