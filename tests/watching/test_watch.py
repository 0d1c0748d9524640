"""A watch over readings that go wrong in every way that a server can make them."""

from __future__ import annotations

import itertools
import json

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.watching.expected import expectation
from eagle3_plugin.watching.reading import Watched, connect
from eagle3_plugin.watching.rule import Rule
from eagle3_plugin.watching.watch import Watch, fallen, sights
from eagle3_plugin.watching.window import Window
from tests.watching.conftest import FakeMetrics
from tests.watching.fixtures import SCORE, SERVER_INFO, SGLANG, vllm_text

HEALTHY = (60, 40, 20)
"""What 100 rounds accept by position, as the score expects."""


def rule_for(watched: Watched) -> Rule | None:
    if watched.settings is None:
        return None
    return Rule(expectation(SCORE, watched.settings, "replay", where="s"), 1000)


def watching(fake: FakeMetrics) -> Watch:
    return Watch(connect(fake.url), Window(60), rule_for)


def show(fake: FakeMetrics, rounds: int, per_100: tuple[int, int, int] = HEALTHY) -> None:
    first, second, third = (rounds * count // 100 for count in per_100)
    fake.texts["/metrics"] = vllm_text(rounds, (first, second, third), rounds // 25)


def without_last_position(text: str) -> str:
    """As a chain of 2 would show it."""
    return "\n".join(line for line in text.splitlines() if 'position="2"' not in line)


def test_a_healthy_engine_is_seen_as_it_is(fake: FakeMetrics) -> None:
    show(fake, 1000)
    watch, clock = watching(fake), itertools.count()
    assert watch.see(lambda: next(clock)).total is None
    show(fake, 1500)
    sight = watch.see(lambda: next(clock))
    assert not sight.is_alarm
    assert sight.to_json() == {
        "schema": 1,
        "url": fake.url,
        "engine": "vllm",
        "settings": "3,1,4",
        "trouble": None,
        "num_restarts": 0,
        "num_rounds_not_judged": 0,
        "num_running": 2.0,
        "num_waiting": 0.0,
        "window_s": 1,
        "tokens_per_s": 1100.0,
        "num_rounds": 500,
        "tokens_per_verify": 2.2,
        "acceptance_rate": [0.6, 0.4, 0.2],
        "alarm": {
            "is_alarm": False,
            "evidence": 0.0,
            "fall": 0.05,
            "num_requests": 0.0,
            "num_rounds": 0,
            "tokens_per_verify": None,
        },
    }


def test_a_draft_that_stops_being_right_is_an_alarm_with_what_was_seen(fake: FakeMetrics) -> None:
    show(fake, 0)
    watch = watching(fake)
    watch.see()
    fake.texts["/metrics"] = vllm_text(5000, (1500, 500, 500), 200)
    sight = watch.see()
    assert sight.is_alarm
    assert watch.rule is not None
    error = fallen(sight, watch.rule)
    assert error.message == (
        "acceptance fell: 1.50 tokens per verify over 5000 rounds (200 requests); expected 2.20, "
        "and at least 2.20 (s)"
    )
    assert error.hint == (
        "eagle3 check DRAFT --target TARGET --engine vllm finds wrong wiring; if the prompts have "
        "changed instead, score the draft with such prompts."
    )


def test_no_traffic_is_neither_good_nor_bad(fake: FakeMetrics) -> None:
    show(fake, 1000)
    watch = watching(fake)
    for _ in range(3):
        sight = watch.see()
    assert (sight.verdict, sight.trouble) == (None, None)
    assert sight.to_json()["tokens_per_verify"] is None


def test_a_server_that_is_gone_is_told_and_watched_again_when_it_is_back(fake: FakeMetrics) -> None:
    show(fake, 1000)
    watch = watching(fake)
    watch.see()
    fake.close()
    gone = watch.see()
    assert gone.reading is None
    assert "does not answer" in gone.to_json()["trouble"]
    fake.open()
    show(fake, 1100)
    back = watch.see()
    assert (back.trouble, back.num_restarts, back.total) == (None, 0, None)
    show(fake, 1200)
    assert watch.see().to_json()["num_rounds"] == 100


def outage(watch: Watch, fake: FakeMetrics) -> None:
    fake.close()
    assert watch.see().trouble is not None
    fake.open()


def test_another_life_after_an_outage_is_not_taken_from_the_last_one(fake: FakeMetrics) -> None:
    """Both lives are healthy and each counter is higher, but the difference of the two would be
    0.76 accepted draft tokens a round, where 1.2 are expected."""
    show(fake, 1000, (65, 45, 21))
    watch = watching(fake)
    watch.see()
    outage(watch, fake)
    show(fake, 1250)
    back = watch.see()
    assert (back.trouble, back.total, back.verdict) == (None, None, None)


def test_another_chain_length_after_an_outage_is_no_crash(fake: FakeMetrics) -> None:
    show(fake, 1000)
    watch = watching(fake)
    watch.see()
    outage(watch, fake)
    fake.texts["/metrics"] = without_last_position(vllm_text(2000, (1200, 800, 400), 80))
    back = watch.see()
    assert (back.trouble, back.total) == (None, None)
    assert watch.watched.settings == chain(2)


def test_a_longer_chain_after_a_quick_restart_is_no_crash(fake: FakeMetrics) -> None:
    """The first reading of the new life is of the old length, the second of the new one."""
    fake.texts["/metrics"] = without_last_position(vllm_text(1000, (600, 400, 200), 40))
    watch = watching(fake)
    watch.see()
    show(fake, 100)
    assert watch.see().num_restarts == 1
    show(fake, 200)
    found = watch.see()
    assert (found.trouble, found.total, watch.watched.settings) == (None, None, chain(3))


def test_a_restarted_engine_starts_with_no_evidence(fake: FakeMetrics) -> None:
    show(fake, 0)
    watch = watching(fake)
    watch.see()
    show(fake, 100, (10, 0, 0))
    assert watch.see().verdict is not None
    show(fake, 50)
    anew = watch.see()
    assert (anew.num_restarts, anew.verdict, anew.total) == (1, None, None)
    show(fake, 100)
    assert not watch.see().is_alarm


def test_an_engine_that_comes_back_with_other_settings_gets_the_rule_for_them(
    fake: FakeMetrics,
) -> None:
    show(fake, 1000)
    watch = watching(fake)
    watch.see()
    fake.texts["/metrics"] = without_last_position(vllm_text(10, (6, 4, 2), 1))
    assert watch.see().trouble is not None
    watch.see()
    assert watch.watched.settings == Settings(2, 1, 3)
    assert watch.rule is not None
    assert watch.rule.expected.settings == chain(2)


def test_settings_that_nothing_is_expected_of_are_trouble_until_others_run(
    fake: FakeMetrics,
) -> None:
    def chains_of_3(watched: Watched) -> Rule | None:
        if watched.settings != chain(3):
            raise Eagle3Error("nothing is known of these settings")
        return rule_for(watched)

    show(fake, 1000)
    watch = Watch(connect(fake.url), Window(60), chains_of_3)
    watch.see()
    outage(watch, fake)
    fake.texts["/metrics"] = without_last_position(vllm_text(2000, (1200, 800, 400), 80))
    for _ in range(2):
        sight = watch.see()
        assert sight.to_json()["trouble"] == "nothing is known of these settings"
        assert (sight.verdict, watch.rule) == (None, None)
    show(fake, 10)
    back = watch.see()
    assert back.trouble is None
    assert watch.rule is not None


def test_a_page_of_something_in_front_of_the_engine_is_trouble(fake: FakeMetrics) -> None:
    show(fake, 1000)
    watch = watching(fake)
    fake.texts["/metrics"] = "Service Unavailable"
    assert "the line 'Service Unavailable'" in watch.see().to_json()["trouble"]


def test_a_metric_that_is_not_a_number_is_trouble_until_it_is_one(fake: FakeMetrics) -> None:
    show(fake, 1000)
    watch = watching(fake)
    watch.see()
    good = fake.texts["/metrics"]
    fake.texts["/metrics"] = good.replace("vllm:num_requests_running 2.0",
                                          "vllm:num_requests_running NaN")  # fmt: skip
    assert "is nan; expected a number" in watch.see().to_json()["trouble"]
    fake.texts["/metrics"] = good
    assert watch.see().trouble is None


def test_rounds_of_a_shorter_draft_are_counted_but_not_judged(fake: FakeMetrics) -> None:
    show(fake, 0)
    watch = watching(fake)
    watch.see()
    fake.texts["/metrics"] = vllm_text(1000, (300, 0, 0), 40).replace(
        "draft_tokens_total 3000", "draft_tokens_total 2000"
    )
    sight = watch.see()
    assert (sight.verdict, sight.num_unjudged) == (None, 1000)


def test_sglang_has_no_positions_and_says_so(fake: FakeMetrics) -> None:
    fake.texts = {"/metrics": SGLANG, "/server_info": json.dumps(SERVER_INFO)}
    watch = watching(fake)
    watch.see()
    fake.texts["/metrics"] = SGLANG.replace(" 351.0", " 451.0").replace(" 896.0", " 1116.0")
    found = watch.see().to_json()
    assert (found["num_rounds"], found["acceptance_rate"]) == (100, None)
    assert found["tokens_per_verify"] == 2.2


def test_an_engine_without_speculation_is_watched_for_its_load(fake: FakeMetrics) -> None:
    show(fake, 1000)
    plain = "\n".join(x for x in fake.texts["/metrics"].splitlines() if "spec_decode" not in x)
    fake.texts["/metrics"] = plain
    watch = watching(fake)
    watch.see()
    found = watch.see().to_json()
    assert (found["settings"], found["num_rounds"], found["alarm"]) == (None, None, None)


def test_a_rule_that_cannot_be_made_ends_the_watch_with_its_reason(fake: FakeMetrics) -> None:
    show(fake, 0)

    def refuse(watched: Watched) -> Rule | None:
        raise Eagle3Error("no expectation")

    with pytest.raises(Eagle3Error, match="no expectation"):
        Watch(connect(fake.url), Window(60), refuse)


def test_readings_are_taken_at_their_interval(fake: FakeMetrics) -> None:
    """The pretended sleep takes no time, so the second is of two intervals."""
    show(fake, 0)
    slept: list[float] = []
    list(itertools.islice(sights(watching(fake), 70.0, slept.append), 3))
    assert len(slept) == 2
    assert 0 < slept[0] <= 70 < slept[1] <= 140
