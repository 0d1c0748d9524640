"""The counters of speculation: the text of vLLM 0.32, and the arithmetic."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.metrics import AcceptanceCounts, parse_acceptance

VLLM_TEXT = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 0.0
# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 44.0
# TYPE vllm:spec_decode_num_drafts_created gauge
vllm:spec_decode_num_drafts_created{engine="0",model_name="m"} 1.7637718e+09
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 132.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 55.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 33.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="1"} 22.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="2"} 0.0
vllm:spec_decode_num_accepted_tokens_per_pos_created{engine="0",model_name="m",position="0"} 1.7e9
"""


def test_the_counters_of_vllm_are_read() -> None:
    assert parse_acceptance(VLLM_TEXT) == AcceptanceCounts(44, 132, 55, (33, 22, 0))


def test_two_engines_behind_one_server_are_added_up() -> None:
    second = VLLM_TEXT.replace('engine="0"', 'engine="1"')
    assert parse_acceptance(VLLM_TEXT + second) == AcceptanceCounts(88, 264, 110, (66, 44, 0))


def test_large_counts_in_scientific_notation_are_read() -> None:
    text = VLLM_TEXT.replace(" 44.0", " 1.234567e+06")
    assert parse_acceptance(text) == AcceptanceCounts(1234567, 132, 55, (33, 22, 0))


def test_a_model_name_with_quotes_braces_and_commas_is_no_trouble() -> None:
    text = VLLM_TEXT.replace('"m"', r'"a\"b},{c=\"9\""')
    assert parse_acceptance(text) == AcceptanceCounts(44, 132, 55, (33, 22, 0))


def test_an_engine_without_speculation_has_no_counts() -> None:
    assert parse_acceptance('vllm:num_requests_running{engine="0"} 0.0\n') is None


def test_counters_that_are_not_whole_are_an_error() -> None:
    text = "\n".join(
        line
        for line in VLLM_TEXT.splitlines()
        if "num_draft_tokens" not in line and 'position="0"' not in line
    )
    with pytest.raises(EngineError) as caught:
        parse_acceptance(text)
    assert caught.value.message == (
        "the engine's counters are not whole: without "
        "['vllm:spec_decode_num_draft_tokens_total'], positions [1, 2]; "
        "expected those of vLLM 0.32"
    )


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
