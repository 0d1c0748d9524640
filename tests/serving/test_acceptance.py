"""The arithmetic of acceptance, and what SGLang says with an answer in the same words."""

from __future__ import annotations

from typing import Any

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.acceptance import AcceptanceCounts, counts_of_request

SGLANG_DETAILS: dict[str, Any] = {
    "spec_accept_rate": 0.11904761904761904,
    "spec_accept_length": 2.0,
    "spec_cap_length": 0.0,
    "spec_block_accept_length": 0.0,
    "spec_num_correct_drafts": 5,
    "spec_num_proposed_drafts": 42,
    "spec_verify_ct": 6,
    "spec_correct_drafts_histogram": [3, 2, 0, 1],
    "spec_cap_lens_histogram": [],
}
"""What SGLang 0.5.23 answered for 12 tokens with a tree of 3 steps, topk 4 and 8 draft tokens."""


def test_rates_follow_from_the_counts() -> None:
    counts = AcceptanceCounts(44, 132, 55, (33, 22, 0))
    assert counts.tokens_per_verify == 2.25
    assert counts.acceptance_rate == (0.75, 0.5, 0.0)
    assert counts.acceptance_rate_conditional == (0.75, 22 / 33, 0.0)


def test_without_a_round_there_is_no_rate() -> None:
    counts = AcceptanceCounts(0, 0, 0, (0, 0))
    assert counts.tokens_per_verify is None
    assert counts.acceptance_rate == (None, None)
    assert counts.acceptance_rate_conditional == (None, None)


def test_the_difference_of_two_readings_is_what_happened_between_them() -> None:
    before, after = (
        AcceptanceCounts(10, 30, 12, (7, 5, 0)),
        AcceptanceCounts(44, 132, 55, (33, 22, 0)),
    )
    assert after - before == AcceptanceCounts(34, 102, 43, (26, 17, 0))


def test_counts_that_fall_are_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        AcceptanceCounts(10, 30, 12, (7, 5)) - AcceptanceCounts(44, 132, 55, (33, 22))
    assert caught.value.message == "the count of rounds fell from 44 to 10; expected it to grow"
    assert caught.value.hint == "Do not restart the server during a measurement."


def test_another_number_of_draft_positions_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        AcceptanceCounts(44, 132, 55, (33, 22)) - AcceptanceCounts(10, 30, 12, (7, 5, 0))
    assert caught.value.message == (
        "3 draft positions in the first reading, 2 in the second; expected the same engine"
    )


def test_counts_and_rates_are_all_in_the_json() -> None:
    assert AcceptanceCounts(4, 8, 4, (3, 1)).to_json() == {
        "num_rounds": 4,
        "num_draft_tokens": 8,
        "accepted_draft_tokens": 4,
        "accepted_by_position": [3, 1],
        "tokens_per_verify": 2.0,
        "acceptance_rate": [0.75, 0.25],
        "acceptance_rate_conditional": [0.75, 1 / 3],
    }


def test_the_sum_has_a_place_for_each_position_that_a_round_can_reach() -> None:
    parts = [AcceptanceCounts(2, 6, 1, (1,)), AcceptanceCounts(3, 9, 3, (2, 1))]
    assert AcceptanceCounts.total(parts, 3) == AcceptanceCounts(5, 15, 4, (3, 1, 0))
    assert AcceptanceCounts.total([], 2) == AcceptanceCounts(0, 0, 0, (0, 0))


def test_a_sum_has_as_many_positions_as_its_longest_part() -> None:
    parts = [AcceptanceCounts(1, 3, 3, (1, 1, 1))]
    assert AcceptanceCounts.total(parts, 0) == AcceptanceCounts(1, 3, 3, (1, 1, 1))


def test_a_histogram_of_sglang_becomes_the_counts_by_position() -> None:
    """3 rounds accepted nothing, 2 one token, 1 three: position 0 in 3 rounds, 1 and 2 in one."""
    assert counts_of_request(SGLANG_DETAILS) == AcceptanceCounts(6, 42, 5, (3, 1, 1))


def test_tokens_per_verify_is_not_sglangs_accept_length() -> None:
    """Theirs is 12 tokens / 6 rounds; of the 12, the first is the prefill's."""
    assert counts_of_request(SGLANG_DETAILS).tokens_per_verify == 1 + 5 / 6
    assert SGLANG_DETAILS["spec_accept_length"] == 12 / 6


def test_a_request_without_a_round_has_no_counts() -> None:
    details = {**SGLANG_DETAILS, "spec_num_correct_drafts": 0, "spec_num_proposed_drafts": 0}
    details |= {"spec_verify_ct": 0, "spec_correct_drafts_histogram": []}
    assert counts_of_request(details) == AcceptanceCounts(0, 0, 0, ())


def test_a_histogram_that_is_of_other_rounds_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        counts_of_request({**SGLANG_DETAILS, "spec_correct_drafts_histogram": [3, 2]})
    assert caught.value.message == (
        "the histogram [3, 2] is of 5 rounds and 2 accepted draft tokens; expected 6 and 5, as "
        "the same answer counts them"
    )
    assert caught.value.hint == "Measure with SGLang 0.5.23."
