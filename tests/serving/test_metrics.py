"""The counters of speculation in the text of vLLM 0.32."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.metrics import parse_acceptance

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
