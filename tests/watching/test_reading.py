"""What each engine's metrics come to; the texts are of real ones."""

from __future__ import annotations

import json
import math

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.settings import Settings
from eagle3_plugin.watching.lengths import Histogram
from eagle3_plugin.watching.reading import (
    Reading,
    Watched,
    connect,
    read,
    samples,
    sglang_reading,
    vllm_reading,
)
from tests.watching.conftest import FakeMetrics
from tests.watching.fixtures import SERVER_INFO, SGLANG, VLLM

CHAIN = Settings(3, 1, 4)


def test_vllm_counts_rounds_by_position() -> None:
    found = vllm_reading(samples(VLLM), 7.0, CHAIN)
    counts = AcceptanceCounts(578, 1734, 855, (376, 275, 204))
    assert found == Reading(7.0, 4, 1, 1437, 20, counts)


def test_sglang_counts_requests_that_ended_and_decoded_tokens_of_one_rank() -> None:
    """904 tokens of 15 requests: one each is the prefill's, and each of 351 rounds has a bonus."""
    found = sglang_reading(samples(SGLANG), 7.0, CHAIN)
    assert found == Reading(7.0, 5, 2, 1086 + 15, 15, AcceptanceCounts(351, 1053, 538, ()))


def test_a_fresh_sglang_has_no_counters_yet() -> None:
    text = "sglang:num_running_reqs 0\nsglang:num_queue_reqs 0\n"
    found = sglang_reading(samples(text), 7.0, CHAIN)
    assert found == Reading(7.0, 0, 0, 0, 0, AcceptanceCounts(0, 0, 0, ()))


BUCKETS = """\
{name}_bucket{{le="1.0",model_name="m"}} 2.0
{name}_bucket{{le="100.0",model_name="m"}} 9.0
{name}_bucket{{le="+Inf",model_name="m"}} 10.0
{name}_sum{{model_name="m"}} 812.0
{name}_count{{model_name="m"}} 10.0
"""
LENGTHS = Histogram((1.0, 100.0, math.inf), (2.0, 7.0, 1.0), 812.0)


def test_both_engines_tell_how_long_answers_were() -> None:
    text = BUCKETS.format(name="vllm:request_generation_tokens")
    assert vllm_reading(samples(VLLM + text), 7.0, CHAIN).lengths == LENGTHS
    text = BUCKETS.format(name="sglang:generation_tokens_histogram")
    assert sglang_reading(samples(SGLANG + text), 7.0, CHAIN).lengths == LENGTHS


def test_lengths_of_two_engines_of_one_server_are_added_up() -> None:
    text = BUCKETS.format(name="vllm:request_generation_tokens")
    found = vllm_reading(samples(VLLM + text + text.replace('"m"', '"n"')), 7.0, CHAIN)
    assert found.lengths == Histogram(LENGTHS.ends, (4.0, 14.0, 2.0), 1624.0)


def test_engines_of_one_server_are_added_up() -> None:
    found = vllm_reading(samples(VLLM + VLLM.replace('engine="0"', 'engine="1"')), 7.0, CHAIN)
    counts = AcceptanceCounts(1156, 3468, 1710, (752, 550, 408))
    assert found == Reading(7.0, 8, 2, 2874, 40, counts)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (VLLM.replace("1437.0", "NaN"), "nan"),
        (VLLM.replace("vllm:generation_tokens_total", "vllm:other"), "not there"),
    ],
)
def test_a_metric_that_is_no_number_is_an_error(text: str, found: str) -> None:
    with pytest.raises(EngineError) as caught:
        vllm_reading(samples(text), 7.0, CHAIN)
    assert caught.value.message == (
        f"the metric vllm:generation_tokens_total is {found}; expected a number"
    )
    assert caught.value.hint == (
        "Watch vLLM 0.32 or SGLang 0.5.23, and look into the server's log."
    )


def test_a_text_that_is_no_metrics_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        samples("Service Unavailable")
    assert caught.value.message == (
        "/metrics has the line 'Service Unavailable'; expected metrics with numbers"
    )
    assert caught.value.hint == (
        "Is it the engine itself that answers there, or something in front of it?"
    )


def test_a_server_that_asks_for_a_key_gets_that_of_the_environment(
    fake: FakeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.texts = {"/metrics": SGLANG, "/server_info": json.dumps(SERVER_INFO)}
    fake.key = "a-secret"
    monkeypatch.setenv("EAGLE3_API_KEY", "a-secret")
    assert connect(fake.url) == Watched(fake.url, "sglang", CHAIN)


@pytest.mark.parametrize(
    ("key", "found"),
    [("", "no key was sent"), ("another", "the key that was sent is not taken")],
)
def test_a_key_that_is_missing_or_wrong_is_named_but_not_shown(
    fake: FakeMetrics, monkeypatch: pytest.MonkeyPatch, key: str, found: str
) -> None:
    fake.texts = {"/metrics": SGLANG}
    fake.key = "a-secret"
    monkeypatch.setenv("EAGLE3_API_KEY", key)
    with pytest.raises(EngineError) as caught:
        connect(fake.url)
    assert caught.value.message == (
        f"{fake.url}/server_info answered 401: {found}; expected the server's --api-key"
    )
    assert caught.value.hint == "Set EAGLE3_API_KEY in the environment to that key."


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_have_is_wrong_use(
    fake: FakeMetrics, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("EAGLE3_API_KEY", key)
    with pytest.raises(UsageError) as caught:
        connect(fake.url)
    assert caught.value.message == (
        "EAGLE3_API_KEY is not of printable ASCII; expected the server's --api-key"
    )


def test_vllm_tells_its_chain_by_the_positions_that_it_counts(fake: FakeMetrics) -> None:
    fake.texts = {"/metrics": VLLM}
    watched = connect(fake.url + "/")
    assert watched == Watched(fake.url, "vllm", CHAIN)
    assert watched.reports_positions
    assert read(watched, lambda: 1.0).num_finished == 20


def test_a_vllm_without_speculation_has_no_counts(fake: FakeMetrics) -> None:
    plain = "".join(line for line in VLLM.splitlines(True) if "spec_decode" not in line)
    fake.texts = {"/metrics": plain}
    watched = connect(fake.url)
    assert watched == Watched(fake.url, "vllm", None)
    assert read(watched).counts is None


def test_sglang_tells_its_settings_in_its_server_info(fake: FakeMetrics) -> None:
    info = {**SERVER_INFO, "speculative_eagle_topk": 4, "speculative_num_draft_tokens": 8}
    fake.texts = {"/metrics": SGLANG, "/server_info": json.dumps(info)}
    watched = connect(fake.url)
    assert watched == Watched(fake.url, "sglang", Settings(3, 4, 8))
    assert not watched.reports_positions
    assert read(watched, lambda: 1.0).counts == AcceptanceCounts(351, 2457, 538, ())


def test_an_sglang_without_speculation_has_no_settings(fake: FakeMetrics) -> None:
    info = {**SERVER_INFO, "speculative_algorithm": None}
    fake.texts = {"/metrics": SGLANG, "/server_info": json.dumps(info)}
    assert connect(fake.url) == Watched(fake.url, "sglang", None)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"speculative_adaptive": True}, "speculative_adaptive"),
        ({"speculative_num_steps": None}, "no settings"),
    ],
)
def test_an_sglang_whose_settings_change_cannot_be_watched(
    fake: FakeMetrics, change: dict[str, object], found: str
) -> None:
    fake.texts = {"/metrics": SGLANG, "/server_info": json.dumps(SERVER_INFO | change)}
    with pytest.raises(EngineError) as caught:
        connect(fake.url)
    assert caught.value.message == (
        f"{fake.url}/server_info tells of {found}; expected fixed num_steps, topk, draft tokens: "
        "SGLang's counters do not say which settings a round ran with"
    )
    assert caught.value.hint == ("Watch a server that was started without --speculative-adaptive.")


def test_a_server_without_metrics_says_how_to_start_it(fake: FakeMetrics) -> None:
    with pytest.raises(EngineError) as caught:
        connect(fake.url)
    assert caught.value.message == (
        f"{fake.url} has no /metrics; expected an engine's counters there"
    )
    assert caught.value.hint == (
        "Start SGLang with --enable-metrics; vLLM has them unless --disable-log-stats."
    )


def test_a_server_that_is_no_engine_is_refused(fake: FakeMetrics) -> None:
    fake.texts = {"/metrics": "python_info 1.0\n"}
    with pytest.raises(EngineError) as caught:
        connect(fake.url)
    assert caught.value.message == (
        f"{fake.url}/metrics has no metric of vllm: or sglang:; expected one of the two engines"
    )
    assert caught.value.hint == (
        "Give the URL of the engine itself. Start vLLM without --disable-log-stats and SGLang "
        "with --enable-metrics."
    )


def test_a_server_that_is_gone_is_an_error(fake: FakeMetrics) -> None:
    fake.close()
    with pytest.raises(EngineError, match=r"/metrics does not answer: "):
        connect(fake.url)


def test_an_error_of_the_server_is_not_taken_for_missing_metrics(fake: FakeMetrics) -> None:
    fake.texts = {"/metrics": SGLANG}
    with pytest.raises(EngineError, match="/server_info answered 404"):
        connect(fake.url)
