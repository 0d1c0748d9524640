"""SGLang's counter, and how it checks what the answers say."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.completion import Completion
from eagle3_plugin.serving.metrics_sglang import SglangMeter, parse_rounds

SGLANG_TEXT = """\
# HELP sglang:spec_verify_calls_total Number of speculative decoding verification calls.
# TYPE sglang:spec_verify_calls_total counter
sglang:spec_verify_calls_total{engine_type="unified",model_name="m"} 15.0
# TYPE sglang:spec_verify_calls_created gauge
sglang:spec_verify_calls_created{engine_type="unified",model_name="m"} 1.7637718e+09
sglang:spec_accept_length{engine_type="unified",model_name="m",tp_rank="0"} 0.0
sglang:generation_tokens_total{engine_type="unified",is_streaming="true",model_name="m"} 12.0
"""
"""Lines of SGLang 0.5.23, the model's name cut short."""

SPECULATING = {"speculative_algorithm": "EAGLE3", "speculative_num_steps": 3}
PLAIN = {"speculative_algorithm": None, "speculative_num_steps": None}
Routes = Callable[[dict[str, str]], str]


def _answer(num_tokens: int, counts: AcceptanceCounts | None) -> Completion:
    return Completion("", (1,) * num_tokens, num_tokens, 0.1, 0.2, "length", counts)


def test_the_rounds_that_sglang_counted_are_read() -> None:
    assert parse_rounds(SGLANG_TEXT) == 15


def test_two_lines_of_the_counter_are_added_up() -> None:
    assert parse_rounds(SGLANG_TEXT + SGLANG_TEXT.replace('"m"', '"n"')) == 30


def test_before_the_first_round_there_is_no_line() -> None:
    assert parse_rounds("sglang:num_running_reqs 0.0\n") == 0


def test_the_start_asks_how_the_server_was_started(routes: Routes) -> None:
    url = routes(
        {
            "/server_info": json.dumps({**SPECULATING, "enable_metrics": True}),
            "/metrics": SGLANG_TEXT,
        }
    )
    assert SglangMeter.start(url) == SglangMeter(url, 3, 15)


def test_without_metrics_the_counter_is_not_asked_for(routes: Routes) -> None:
    url = routes({"/server_info": json.dumps({**SPECULATING, "enable_metrics": False})})
    assert SglangMeter.start(url) == SglangMeter(url, 3, None)


def test_a_server_without_speculation_has_no_counts(routes: Routes) -> None:
    url = routes({"/server_info": json.dumps({**PLAIN, "enable_metrics": True})})
    meter = SglangMeter.start(url)
    assert meter == SglangMeter(url, None, None)
    assert meter.counts([_answer(5, None)]) is None


def test_the_counts_of_all_answers_are_added_up() -> None:
    answers = [
        _answer(5, AcceptanceCounts(2, 6, 2, (1, 1))),
        _answer(4, AcceptanceCounts(3, 9, 0, ())),
        _answer(1, None),
    ]
    expected = AcceptanceCounts(5, 15, 2, (1, 1, 0))
    assert SglangMeter("http://a", 3, None).counts(answers) == expected


def test_a_counter_that_agrees_is_no_error(routes: Routes) -> None:
    meter = SglangMeter(routes({"/metrics": SGLANG_TEXT}), 3, 13)
    counts = AcceptanceCounts(2, 6, 2, (1, 1, 0))
    assert meter.counts([_answer(5, counts)]) == counts


def test_a_counter_that_disagrees_is_an_error(routes: Routes) -> None:
    url = routes({"/metrics": SGLANG_TEXT})
    with pytest.raises(EngineError) as caught:
        SglangMeter(url, 3, 10).counts([_answer(5, AcceptanceCounts(2, 6, 2, (1, 1)))])
    assert caught.value.message == (
        f"the answers of {url} tell of 2 rounds, and its counter sglang:spec_verify_calls_total "
        "grew by 5; expected the same"
    )
    assert caught.value.hint == (
        "Let no other client use the server during a measurement, and do not restart it."
    )


def test_a_speculating_server_that_says_nothing_of_its_rounds_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        SglangMeter("http://a", 3, None).counts([_answer(5, None), _answer(1, None)])
    assert caught.value.message == (
        "1 of 2 answers say nothing of their rounds; expected sglext.spec_tokens_details with "
        "each, as SGLang 0.5.23 gives it"
    )
    assert caught.value.hint == "Measure with SGLang 0.5.23."
