"""Figures of a few requests whose values can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eagle3_plugin.measuring.bootstrap import BOOTSTRAP, estimate, table
from eagle3_plugin.measuring.record import Counts, Estimate
from eagle3_plugin.measuring.result import Cell, Group, Request, Summary
from eagle3_plugin.measuring.summaries import make_cell, quantiles, summaries
from eagle3_plugin.serving.acceptance import AcceptanceCounts


def request(
    conversation: int,
    request_s: float,
    num_tokens: int,
    *,
    turn: int = 0,
    rounds: tuple[int, ...] | None = None,
    first_s: float | None = 0.5,
    modality: str = "text",
) -> Request:
    """rounds: (number, accepted at position 0, at position 1, …); drafts of two tokens."""
    counts = None
    if rounds is not None:
        counts = Counts(
            num_rounds=rounds[0],
            num_draft_tokens=2 * rounds[0],
            accepted_draft_tokens=sum(rounds[1:]),
            accepted_by_position=rounds[1:],
        )
    return Request(
        conversation=conversation,
        turn=turn,
        modality=modality,
        begin_s=0.0,
        time_to_first_token_s=first_s,
        request_s=request_s,
        num_prompt_tokens=3,
        num_tokens=num_tokens,
        finish_reason="length",
        counts=counts,
    )


def cell(
    server: str, *requests: Request, name: str = "x", repeat: int = 0, elapsed_s: float = 4.0
) -> Cell:
    return make_cell(
        server=server,
        set=name,
        concurrency=1,
        repeat=repeat,
        begun_at="2026-11-21T08:00:00Z",
        elapsed_s=elapsed_s,
        requests=requests,
        counted=None,
    )


def find(found: tuple[Summary, ...], server: str, name: str = "x") -> Summary:
    return next(s for s in found if (s.server, s.set) == (server, name))


def test_a_cell_has_the_speed_of_all_and_the_mean_over_conversations() -> None:
    """Conversation 0: 12 tokens in 3 s; 1: 10 tokens in 1 s; the loop took 4 s."""
    found = cell("baseline", request(0, 2.0, 8), request(0, 1.0, 4, turn=1), request(1, 1.0, 10))
    assert (found.num_conversations, found.num_requests, found.num_tokens) == (2, 3, 22)
    assert found.tokens_per_s == 22 / 4
    assert found.tokens_per_s_per_conversation == (4 + 10) / 2
    assert found.acceptance is None
    assert found.acceptance_from is None


def test_time_per_output_token_is_after_the_first_token() -> None:
    found = cell(
        "baseline", request(0, 2.0, 4), request(1, 0.5, 1), request(2, 1.0, 2, first_s=None)
    )
    assert found.time_per_output_token_s is not None
    assert found.time_per_output_token_s.mean == 0.5  # (2.0 - 0.5) / 3, and no other has one
    assert found.time_to_first_token_s is not None
    assert found.time_to_first_token_s.max == 0.5


def test_acceptance_is_summed_over_requests() -> None:
    found = cell(
        "3,1,4", request(0, 1.0, 8, rounds=(4, 3, 1)), request(1, 1.0, 3, rounds=(2, 0, 0))
    )
    assert found.acceptance is not None
    assert found.acceptance_from == "answers"
    assert found.acceptance.tokens_per_verify == 1 + 4 / 6
    assert found.acceptance.acceptance_rate == (3 / 6, 1 / 6)
    assert found.acceptance.acceptance_rate_conditional == (3 / 6, 1 / 3)


def test_counters_stand_in_where_answers_do_not_say_and_have_no_interval() -> None:
    counted = AcceptanceCounts(10, 20, 5, (4, 1))
    made = make_cell(
        server="server", set="x", concurrency=1, repeat=0, begun_at="", elapsed_s=1.0,
        requests=[request(0, 1.0, 8), request(1, 1.0, 8)], counted=counted,
    )  # fmt: skip
    assert made.acceptance_from == "counters"
    assert made.num_rounds_counted == 10
    (found,) = summaries([made])
    assert found.estimates["tokens_per_verify"] == Estimate(value=1.5, low=None, high=None)
    assert found.acceptance == made.acceptance


def test_a_ratio_of_equal_conversations_has_no_width() -> None:
    base = cell("baseline", *(request(i, 2.0, 10, first_s=1.0) for i in range(4)))
    fast = cell("3,1,4", *(request(i, 1.0, 10, first_s=0.5) for i in range(4)), elapsed_s=2.0)
    ratios = find(summaries([base, fast]), "3,1,4").ratios
    assert ratios["tokens_per_s_per_conversation"] == Estimate(value=2.0, low=2.0, high=2.0)
    assert ratios["tokens_per_s"] == Estimate(value=2.0, low=2.0, high=2.0)
    assert ratios["request_s"] == Estimate(value=0.5, low=0.5, high=0.5)
    assert "tokens_per_verify" not in ratios
    assert find(summaries([base, fast]), "baseline").ratios == {}


def test_what_both_servers_share_cancels_in_the_ratio() -> None:
    """Conversations differ by a factor of ten; the speedup is 1.5 in each."""
    base = cell("baseline", *(request(i, 10.0 if i % 2 else 1.0, 10) for i in range(8)))
    fast = cell("3,1,4", *(request(i, (10.0 if i % 2 else 1.0) / 1.5, 10) for i in range(8)))
    found = find(summaries([base, fast]), "3,1,4")
    ratio = found.ratios["tokens_per_s_per_conversation"]
    assert ratio.low is not None
    assert ratio.high is not None
    assert (ratio.low, ratio.high) == pytest.approx((1.5, 1.5))
    alone = found.estimates["tokens_per_s_per_conversation"]
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high > 2 * alone.low


def test_one_conversation_has_no_interval() -> None:
    (found,) = summaries([cell("baseline", request(0, 2.0, 10))])
    assert found.estimates["tokens_per_s_per_conversation"] == Estimate(
        value=5.0, low=None, high=None
    )


def test_a_ratio_is_of_what_both_servers_answered() -> None:
    """The baseline lacks conversation 1, which was ten times as slow."""
    base = cell("baseline", request(0, 2.0, 10), request(2, 2.0, 10))
    part = cell("3,1,4", request(0, 1.0, 10), request(1, 20.0, 10), request(2, 1.0, 10))
    found = find(summaries([base, part]), "3,1,4")
    assert found.ratios["tokens_per_s_per_conversation"].value == 2.0
    assert found.num_conversations == 3


def test_repeats_are_pooled_and_sets_also_taken_together() -> None:
    cells = [
        cell("baseline", request(0, 1.0, 10), request(1, 2.0, 10), name=name, repeat=repeat)
        for name in ("x", "y")
        for repeat in (0, 1)
    ]
    found = summaries(cells)
    assert [(s.set, s.num_repeats, s.num_conversations, s.num_requests) for s in found] == [
        ("x", 2, 2, 4),
        ("y", 2, 2, 4),
        ("all", 2, 4, 8),
    ]


def test_groups_are_by_turn_and_by_modality_where_there_are_several() -> None:
    made = cell(
        "3,1,4",
        request(0, 1.0, 8, rounds=(4, 2, 0), modality="image"),
        request(0, 1.0, 8, turn=1, rounds=(4, 4, 4), modality="image"),
        request(1, 1.0, 8, rounds=(2, 2, 1)),
    )
    (found,) = summaries([made])
    shown = [(g.by, g.name, g.num_requests, g.acceptance and g.acceptance.num_rounds)
             for g in found.groups]  # fmt: skip
    assert shown == [
        ("turn", "1", 2, 6),
        ("turn", "2", 1, 4),
        ("modality", "image", 2, 8),
        ("modality", "text", 1, 2),
    ]
    (alone,) = summaries([cell("baseline", request(0, 1.0, 8))])
    assert alone.groups == ()


def group(found: Summary, name: str) -> Group:
    return next(g for g in found.groups if g.name == name)


def test_a_turn_has_the_speed_of_its_requests_and_their_ratio_to_the_baselines() -> None:
    """Turn 1: 10 tokens in 2 s against 1 s; turn 2: 5 tokens in 1 s, the same with both."""
    base, fast = (
        cell(
            server,
            *(request(i, first, 10, rounds=rounds) for i in range(3)),
            *(request(i, 1.0, 5, turn=1) for i in range(3)),
        )
        for server, first, rounds in (("baseline", 2.0, None), ("3,1,4", 1.0, (4, 4, 2)))
    )
    found = find(summaries([base, fast]), "3,1,4")
    turn = group(found, "1")
    assert {name: e.value for name, e in turn.estimates.items()} == {
        "tokens_per_s_per_conversation": 10.0,
        "time_to_first_token_s": 0.5,
        "time_per_output_token_s": 0.5 / 9,
        "request_s": 1.0,
        "tokens_per_verify": 2.5,
    }
    assert turn.ratios["tokens_per_s_per_conversation"] == Estimate(value=2.0, low=2.0, high=2.0)
    assert turn.ratios["request_s"] == Estimate(value=0.5, low=0.5, high=0.5)
    later = group(found, "2")
    assert later.ratios["tokens_per_s_per_conversation"] == Estimate(value=1.0, low=1.0, high=1.0)
    assert later.estimates["tokens_per_s_per_conversation"].value == 5.0
    assert "tokens_per_verify" not in later.estimates
    assert group(find(summaries([base, fast]), "baseline"), "1").ratios == {}


def test_a_modality_is_resampled_by_its_own_conversations() -> None:
    """Conversation 0 alone has a picture, so its group has no interval; the rest is text."""
    base, fast = (
        cell(
            server,
            request(0, image_s, 10, modality="image"),
            *(request(0, 1.0, 10, turn=t) for t in (1, 2)),
            *(request(i, 1.0, 10) for i in (1, 2)),
        )
        for server, image_s in (("baseline", 4.0), ("3,1,4", 1.0))
    )
    found = find(summaries([base, fast]), "3,1,4")
    image, text = group(found, "image"), group(found, "text")
    assert image.ratios["tokens_per_s_per_conversation"] == Estimate(value=4.0, low=None, high=None)
    assert text.ratios["tokens_per_s_per_conversation"] == Estimate(value=1.0, low=1.0, high=1.0)
    assert text.estimates["tokens_per_s_per_conversation"].value == 10.0  # of 20 tokens in 2 s too


def test_a_part_that_the_baseline_did_not_answer_has_no_ratio() -> None:
    base = cell("baseline", request(0, 2.0, 10), request(1, 2.0, 10))
    fast = cell("3,1,4", *(request(i, 1.0, 10, turn=t) for i in (0, 1) for t in (0, 1)))
    found = find(summaries([base, fast]), "3,1,4")
    assert group(found, "1").ratios["request_s"].value == 0.5
    assert group(found, "2").ratios == {}


def test_servers_without_a_common_conversation_have_no_ratio() -> None:
    made = [cell("baseline", request(0, 2.0, 10)), cell("3,1,4", request(1, 1.0, 10))]
    assert find(summaries(made), "3,1,4").ratios == {}


def test_counters_are_of_a_whole_loop_and_of_no_part_of_it() -> None:
    made = make_cell(
        server="server", set="x", concurrency=1, repeat=0, begun_at="", elapsed_s=1.0,
        requests=[request(0, 1.0, 8), request(0, 1.0, 8, turn=1)],
        counted=AcceptanceCounts(10, 20, 5, (4, 1)),
    )  # fmt: skip
    (found,) = summaries([made])
    assert [(g.acceptance, "tokens_per_verify" in g.estimates) for g in found.groups] == [
        (None, False),
        (None, False),
    ]


def test_turns_are_in_the_order_of_their_numbers() -> None:
    (found,) = summaries([cell("baseline", *(request(0, 1.0, 8, turn=t) for t in range(11)))])
    assert [g.name for g in found.groups] == [str(turn) for turn in range(1, 12)]


def test_quantiles_are_of_known_values() -> None:
    found = quantiles([1.0, 2.0, 3.0, float("nan")])
    assert found is not None
    assert (found.min, found.p50, found.max, found.mean) == (1.0, 2.0, 3.0, 2.0)
    assert quantiles([]) is None


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """300 samples of 30 conversations whose true mean speed is known (10 by construction of the
    symmetric spread): a 95 % percentile bootstrap of 30 values covers about 93 %; 88 % is three
    standard errors below that."""
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        speeds = generator.normal(10.0, 2.0, 30)
        made = cell("baseline", *(request(i, 10 / s, 10) for i, s in enumerate(speeds)))
        answers = table([made], [("x", i) for i in range(30)], 1)
        found = estimate("tokens_per_s_per_conversation", answers, None, BOOTSTRAP)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 10.0 <= found.high
    assert 0.88 <= covered / 300 <= 0.99
