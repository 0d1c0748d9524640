"""The rules of choice, on published wins and losses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import from_rates
from eagle3_plugin.planning.acceptance_sources import parse_acceptance, typical
from eagle3_plugin.planning.asked import Asked
from eagle3_plugin.planning.fit import HELD_OUT, as_fit, prior_constants
from eagle3_plugin.planning.points import Point, read_points
from eagle3_plugin.planning.ranking import Range, Ranking, rank, yields_of
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings, chain
from tests.planned import asked, asked_of

SPECFORGE_339 = "https://github.com/sgl-project/SpecForge/issues/339"
ANGELSLIM_163 = "https://github.com/Tencent/AngelSlim/issues/163"
ANGELSLIM_DOCS = (
    "https://angelslim.readthedocs.io/zh-cn/latest/performance/speculative_decoding/benchmarks.html"
)
SPECBUNDLE = "SpecForge SpecBundle dashboard"


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return read_points(as_fit(prior_constants()))[0]


def ranking(request: Asked, num_requests: int = 1) -> Ranking:
    return rank(request, num_requests, yields_of(request))


def chosen(point: Point, *, has_baseline: bool) -> object:
    return ranking(asked_of(point, has_baseline=has_baseline), point.load.num_requests).choice


@pytest.mark.parametrize("has_baseline", [False, True])
@pytest.mark.parametrize(("source", "num_rows"), [(SPECFORGE_339, 8), (ANGELSLIM_163, 5)])
def test_off_wins_where_every_published_setting_loses(
    points: list[Point], source: str, num_rows: int, has_baseline: bool
) -> None:
    """AngelSlim's rows of 1 and 4 requests; of 8 to 64 no baseline can be used (points.py)."""
    rows = [p for p in points if p.source == source]

    assert len(rows) == num_rows
    assert {chosen(p, has_baseline=has_baseline) for p in rows} == {OFF}


@pytest.mark.parametrize(
    ("num_requests", "tokens_per_verify", "measured"),
    [(1, 2.542, 0.848), (4, 2.556, 0.939), (8, 2.578, 0.994), (32, 2.56, 0.822)],
)
def test_off_wins_at_every_load_where_the_published_tree_loses(
    points: list[Point], num_requests: int, tokens_per_verify: float, measured: float
) -> None:
    """AngelSlim 163, 4,4,16, from acceptance alone; what was measured lies in the range."""
    (row,) = [p for p in points if p.source == ANGELSLIM_163 and p.load.num_requests == 4]
    load = replace(row.load, num_requests=num_requests)
    found = ranking(
        asked_of(replace(row, load=load, tokens_per_verify=tokens_per_verify)), num_requests
    )
    tree = next(r for r in found.ranked if r.choice == Settings(4, 4, 16))

    assert found.choice == OFF
    assert tree.speedup.low <= measured * 1.001 or num_requests == 1
    assert measured <= tree.speedup.high


@pytest.mark.parametrize("has_baseline", [False, True])
def test_the_published_wins_of_dense_targets_are_taken(
    points: list[Point], has_baseline: bool
) -> None:
    """The card of seed A, AngelSlim's tables on vLLM, and the best of each SpecBundle cell."""
    dense = [p for p in points if p.is_dense]
    cells: dict[object, Point] = {}
    for p in (p for p in dense if p.source == SPECBUNDLE):
        cell = (p.target_name, p.baseline_s)
        cells[cell] = max(cells.get(cell, p), p, key=lambda q: q.speedup)
    won = [p for p in dense if p.source in (HELD_OUT, ANGELSLIM_DOCS)] + [*cells.values()]

    assert (len(won), min(round(p.speedup, 2) for p in won)) == (27, 1.39)
    assert OFF not in {chosen(p, has_baseline=has_baseline) for p in won}


def test_the_seed_a_settings_of_its_card_are_chosen_at_one_request() -> None:
    """Its card: 2.08x (zh) and 2.05x (en) with 5,4,16. Predicted without its baseline."""
    found = ranking(asked())

    assert found.choice == Settings(5, 4, 16)
    assert found.best.speedup.expected == pytest.approx((2.08 + 2.05) / 2, rel=0.07)


def test_every_candidate_is_ranked_or_rejected_once() -> None:
    found = ranking(asked())
    ranked = [r.choice for r in found.ranked]
    rejected = [r.choice for r in found.rejected]

    assert len(ranked) + len(rejected) == len({*ranked, *rejected}) == len(yields_of(asked()))


def test_settings_that_were_measured_are_candidates_even_if_we_would_not_try_them() -> None:
    request = asked(acceptance=parse_acceptance("3.2@8,8,60"))

    assert Settings(8, 8, 60) in {r.choice for r in ranking(request).ranked}


def test_a_tree_of_which_only_bounds_are_known_is_not_chosen_on_hope() -> None:
    found = ranking(asked(acceptance=from_rates([0.8, 0.75, 0.7], "a score")))

    assert found.best.speedup.expected is not None
    assert isinstance(found.choice, Settings)
    assert found.choice.is_chain
    assert any(r.speedup.expected is None and r.speedup.high > 2 for r in found.ranked)


def test_vllm_ranks_chains_only() -> None:
    found = ranking(asked(engine="vllm"))

    assert {str(r.choice) for r in found.ranked} == {
        "off", "1,1,2", "2,1,3", "3,1,4", "4,1,5", "5,1,6", "6,1,7", "7,1,8",
    }  # fmt: skip
    assert {r.limit for r in found.rejected} == {"vllm-chains-only"}


def test_speed_and_break_even_follow_from_a_measured_baseline() -> None:
    """101.3 tokens/s: 9.87 ms a step. A setting at its break-even is as fast as off."""
    found = ranking(asked(baseline_tokens_per_s=101.3))
    off, best = found.of(OFF), found.best

    assert off.tokens_per_s == pytest.approx(101.3)
    assert off.cost.terms[0].basis == "measured"
    assert best.tokens_per_s == pytest.approx(101.3 * 3.30 / best.break_even_tokens_per_verify)
    assert best.speedup.expected == pytest.approx(2.065, rel=0.02)


def test_what_can_never_pay_is_rejected_with_its_break_even() -> None:
    """Seed B on H20, 64 requests: products of many tokens cost more than they can yield."""
    names = ("Qwen/Qwen3-VL-2B-Instruct", "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3")
    found = ranking(asked(names, "H20", first=64, last=64), 64)
    (tree,) = [r for r in found.rejected if r.choice == Settings(2, 8, 32)]

    assert tree.limit == "break-even"
    assert tree.reason.endswith("tokens per verify and yields 3 at most")


def test_what_does_not_fit_the_memory_is_rejected_with_the_number_that_fits() -> None:
    found = ranking(asked(first=50, last=50, context_tokens=4096), 50)

    assert found.choice is OFF
    assert {r.limit for r in found.rejected} == {"memory"}
    assert found.reason.startswith("because no settings can be run: 50 requests of 4")


def test_off_says_which_settings_come_nearest_and_where_they_break_even() -> None:
    found = ranking(asked(acceptance=from_rates([0.05], "a bad draft", num_rounds=10000)))

    assert found.choice is OFF
    assert found.reason.startswith("because no settings are faster at the low end; 1,1,2 is ")
    assert found.reason.endswith("tokens per verify")


def test_typical_acceptance_speculates_on_a_dense_target_and_not_on_experts() -> None:
    experts = asked(("Qwen/Qwen3-30B-A3B", "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3"), "H100 80GB")

    assert ranking(asked(acceptance=typical())).choice == chain(3)
    assert ranking(replace(experts, acceptance=typical())).choice is OFF


def test_errors_of_cost_and_acceptance_add_up_as_squares() -> None:
    """Cost 5.54 % and acceptance 3.30 / 3.27 = 0.9 %: 5.6 % together."""
    speedup = ranking(asked()).of(Settings(5, 4, 16)).speedup

    assert speedup.expected is not None
    assert speedup.expected / speedup.low == pytest.approx(1.0561, abs=5e-4)


def test_a_choice_is_ranked_between_its_expectation_and_its_low_end() -> None:
    assert Range(1.6, 2.5, 3.0).cautious == 2.0
    assert Range(1.6, None, 3.0).cautious == 1.6
    assert str(Range(1.6, 2.5, 3.0)) == "2.50x (1.60x to 3.00x)"
    assert str(Range(1.6, None, 3.0)) == "1.60x to 3.00x"


@pytest.mark.parametrize("speed", [30.0, 130.0])
def test_a_baseline_that_cannot_be_one_of_decoding_is_refused(speed: float) -> None:
    """8.04 GB at 1008 GB/s allow 125 tokens/s; the modelled step of 11.9 ms allows half of 84."""
    with pytest.raises(UsageError, match=r"expected 42 to 125: beyond, it holds more than dec"):
        ranking(asked(baseline_tokens_per_s=speed))
