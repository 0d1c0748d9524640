"""The change-point rule: how rarely it is wrong, and how soon it is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.settings import chain
from eagle3_plugin.watching.expected import Expectation
from eagle3_plugin.watching.lengths import Lengths, equal
from eagle3_plugin.watching.rule import Rule, Verdict
from tests.watching.simulated import (
    DAY_S,
    arrivals,
    drawn,
    lengths_of,
    mixes,
    num_alarms,
    requests_to_alarm,
    run,
    varied,
    watched,
    worst_case,
)

REQUESTS = np.array(
    [[19, 45], [31, 34], [24, 40], [28, 35], [20, 44], [24, 39],
     [27, 38], [24, 39], [33, 32], [30, 34], [23, 41], [26, 39]]
)  # fmt: skip
"""Rounds and accepted draft tokens of 12 answers of 64 tokens, by SGLang 0.5.23 with the tiny pair
and a chain of 3; 460 tokens in 309 rounds, and the means of the answers vary by 0.183."""

MEAN = 460 / 309


def expected(floor: float, request_variance: float = 0.12, *, bound: bool = False) -> Expectation:
    return Expectation(chain(3), MEAN, floor, (), 1.64, request_variance, bound, "literal")


def test_the_evidence_is_that_of_pages_rule() -> None:
    """A fall of 20 % from 1, with a variance of 2: (1 - 0.8) / 2 * (10 * 0.9 - 5) nats."""
    rule = Rule(Expectation(chain(3), 1.0, 1.0, (), 2.0, 0.0, False, "x"), 1e6, falls=(0.2,))
    found = rule.add(10, 5, 1, (equal(10),))
    h = rule.threshold(0.2, (equal(10),))
    information = 0.2**2 / (2 * 2.0)
    assert (math.exp(h) - h - 1) / information / 10 == pytest.approx(1e6)
    assert found.evidence == pytest.approx(0.4 / h)
    assert (found.fall, found.num_requests, found.num_rounds, found.num_accepted) == (0.2, 1, 10, 5)


def test_rounds_that_are_better_take_the_evidence_away() -> None:
    rule = Rule(expected(1.0))
    assert rule.add(10, 0, 1, (equal(26),)).evidence > 0
    assert rule.add(100, 300, 4, (equal(26),)) == Verdict(0, 0.05, 0, 0, 0)


def test_evidence_ends_at_the_alarm_so_that_it_can_pass() -> None:
    rule = Rule(expected(1.0))
    assert rule.add(10**6, 0, 40000, (equal(26),)).evidence == 1
    assert rule.add(2000, 6000, 80, (equal(26),)).evidence == 0


def test_a_rule_that_is_restarted_knows_nothing() -> None:
    rule = Rule(expected(1.0))
    rule.add(10**6, 0, 40000, (equal(26),))
    rule.restart()
    assert rule.add(0, 0, 0, (equal(26),)).evidence == 0


def test_long_answers_vary_as_requests_do() -> None:
    """1.64 of the rounds, and 50 * 0.12 of requests of 50 rounds; a fall by 0.2."""
    found = Rule(expected(1.0)).nats_per_token(0.2, (equal(50),))
    assert found == pytest.approx(0.2 / (1.64 + 6))


def test_a_few_long_answers_make_every_round_say_less() -> None:
    """By the equation for normal deviations: 0.99 (e^x(10) - 1) + 0.01 (e^x(500) - 1) = 0."""
    mixed = Lengths(((10, 99), (500, 1)))
    t = Rule(expected(1.0)).nats_per_token(0.2, (mixed,))
    short, long = (math.exp(t * n * (t * (1.64 + 0.12 * n) - 0.2) / 2) for n in (10, 500))
    assert 99 * (short - 1) + (long - 1) == pytest.approx(0, abs=1e-4)
    assert 0.2 / (1.64 + 60) < t < 0.2 / (1.64 + 1.2)


def test_of_several_spans_the_most_careful_counts() -> None:
    rule = Rule(expected(1.0))
    both = (equal(10), equal(500))
    assert rule.nats_per_token(0.2, both) == rule.nats_per_token(0.2, (equal(500),))
    assert rule.threshold(0.2, both) == rule.threshold(0.2, (equal(500),))


def test_without_a_length_one_request_had_all_the_rounds() -> None:
    one, other = Rule(expected(1.0)), Rule(expected(1.0))
    assert one.add(50, 10, 0, ()) == other.add(50, 10, 0, (equal(50),))


def test_what_the_last_round_yields_past_the_end_is_added_where_it_is_not_counted() -> None:
    """(6.2 / 2.2 - 1) / 2 = 0.909 tokens for each of 2 requests."""
    missing = Expectation(chain(3), 1.2, 1.2, (), 1.36, 0.0, False, "x")
    found = Rule(missing, misses_end=True).add(40, 0, 2, (equal(20),))
    assert found.num_accepted == pytest.approx(2 * 0.909, abs=0.001)


def test_one_request_between_false_alarms_is_the_least() -> None:
    with pytest.raises(UsageError) as caught:
        Rule(expected(1.0), 0)
    assert caught.value.message == "0 requests between false alarms; expected at least 1"


@pytest.mark.slow
def test_false_alarms_are_no_more_than_stated_where_requests_vary_the_most() -> None:
    """At the floor, with all or nothing accepted: 1000 requests are stated, the mean of 50 runs
    has to be above that by twice its error."""
    random = np.random.default_rng(0)
    rule = Rule(expected(MEAN, MEAN * (3 - MEAN), bound=True), 1000)
    times = []
    for _ in range(50):
        rule.restart()
        requests = worst_case(MEAN, 3, 26, 40_000, random)
        times.append(run(rule, requests, [1] * len(requests)).num_requests)
    error = float(np.std(times)) / len(times) ** 0.5
    assert np.mean(times) - 2 * error > 1000


MIXES = ("uniform", "9 of 10 without a round", "lognormal", "short, then long")


@pytest.mark.slow
@pytest.mark.parametrize("above", [1.0, 1.1], ids=["floor", "above"])
@pytest.mark.parametrize("mix", MIXES)
def test_false_alarms_are_no_more_than_stated_whatever_the_lengths(mix: str, above: float) -> None:
    """One in 1000 requests is stated."""
    random = np.random.default_rng(6)
    requests = varied(mixes(20_000, random)[mix], above * MEAN, 0.12, random)
    assert num_alarms(Rule(expected(MEAN), 1000), requests, 5) <= 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_million_short_answers_do_not_hide_that_long_ones_follow(seed: int) -> None:
    """At the very floor, with the rate that is stated by default."""
    random = np.random.default_rng(seed)
    rounds = np.repeat([10, 500], [1_000_000, 1000])
    requests = varied(rounds, MEAN, 0.12, random)
    batches = [10_000] * 100 + [1] * 1000
    assert not watched(Rule(expected(MEAN)), requests, batches).is_alarm


@pytest.mark.parametrize(("mix", "stated"), [("uniform", 100), ("lognormal", 200)])
def test_half_of_the_acceptance_is_missed_soon_whatever_the_lengths(mix: str, stated: int) -> None:
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        requests = varied(mixes(500, random)[mix], MEAN / 2, 0.12, random)
        found.append(watched(Rule(expected(0.8 * MEAN)), requests, [1] * 500).num_requests)
    assert max(found) <= stated


@pytest.mark.slow
def test_a_healthy_day_has_no_alarm_whatever_the_load() -> None:
    """5 days at a mean at the very floor, 1 request a second: stated is one alarm in 115 days."""
    random = np.random.default_rng(1)
    rule = Rule(expected(MEAN))
    for _ in range(5):
        rule.restart()
        per_s = arrivals(DAY_S, 1.0, random)
        found = run(rule, drawn(REQUESTS, int(per_s.sum()), random), per_s)
        assert not found.is_alarm


def test_a_mix_that_drifts_inside_its_slack_is_no_alarm() -> None:
    """A day that goes over to the harder half of the prompts, 18 % below the mean of all."""
    random = np.random.default_rng(2)
    hard = REQUESTS[np.argsort(REQUESTS[:, 1] / REQUESTS[:, 0])[:6]]
    assert hard[:, 1].sum() / hard[:, 0].sum() / MEAN == pytest.approx(0.813, abs=0.001)
    mixed = np.vstack([drawn(REQUESTS, 20_000, random), drawn(hard, 20_000, random)])
    assert not run(Rule(expected(0.8 * MEAN)), mixed, [1] * len(mixed)).is_alarm
    assert run(Rule(expected(MEAN)), mixed, [1] * len(mixed)).is_alarm


def scaled(share: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The requests with that share of their accepted tokens, which then take more rounds."""
    accepted = np.round(REQUESTS[:, 1] * share)
    return np.stack([64 - accepted, accepted], axis=1).astype(np.int64)


@pytest.mark.parametrize(
    ("floor", "share", "stated"),
    [(MEAN, 0.0, 10), (0.8 * MEAN, 0.0, 15), (MEAN, 0.5, 40), (0.8 * MEAN, 0.5, 80)],
    ids=["NaN, replay", "NaN", "half, replay", "half"],
)
def test_a_draft_that_is_wrong_is_an_alarm_within_the_stated_requests(
    floor: float, share: float, stated: int
) -> None:
    random = np.random.default_rng(3)
    found = [requests_to_alarm(expected(floor), scaled(share), 500, random) for _ in range(50)]
    assert max(num or 500 for num in found) <= stated


def test_the_predicted_number_of_rounds_is_the_simulated_one() -> None:
    random = np.random.default_rng(4)
    requests = scaled(0.7)
    mean = requests[:, 1].sum() / requests[:, 0].sum()
    spans = (lengths_of(requests, 1 + MEAN),)
    predicted = Rule(expected(MEAN)).num_rounds_to_alarm(mean, spans)
    found = [requests_to_alarm(expected(MEAN), requests, 2000, random) or 2000 for _ in range(100)]
    assert np.mean(found) * requests[:, 0].mean() == pytest.approx(predicted, rel=0.25)


def test_a_mean_above_the_floor_is_never_an_alarm_in_the_long_run() -> None:
    assert Rule(expected(0.8 * MEAN)).num_rounds_to_alarm(0.8 * MEAN, (equal(26),)) is None


@pytest.mark.parametrize(("image_share", "stated"), [(0.3, 300), (0.5, 80), (1.0, 20)])
def test_a_draft_that_is_blind_to_images_shows_by_their_share_of_the_requests(
    image_share: float, stated: int
) -> None:
    """Requests with an image accept nothing, the others what they did; floor 10 % below."""
    random = np.random.default_rng(5)
    is_image = random.random((50, 400)) < image_share
    found = []
    for row in is_image:
        text, blind = drawn(REQUESTS, 400, random), drawn(scaled(0.0), 400, random)
        mixed = np.where(row[:, None], blind, text)
        found.append(run(Rule(expected(0.9 * MEAN)), mixed, [1] * 400))
    assert all(outcome.is_alarm for outcome in found)
    assert max(outcome.num_requests for outcome in found) <= stated
