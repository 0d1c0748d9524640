from __future__ import annotations

from dataclasses import replace

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import (
    Acceptance,
    Interval,
    RankWise,
    counted_interval,
    from_rates,
    from_total,
)
from eagle3_plugin.planning.measurements import read_points
from eagle3_plugin.planning.probe_constants import ProbeConstants, probe_constants
from eagle3_plugin.planning.probe_fitting import DATA, totals
from eagle3_plugin.planning.rates import Rates
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings, chain

HALF = Rates((0.5, 0.5), 1.0)
TREE = Settings(2, 2, 3)


def constants() -> ProbeConstants:
    return replace(probe_constants(), sibling=0.5, narrow=0.5, wide=0.5)


def acceptance(**changes: object) -> Acceptance:
    return replace(Acceptance("measured", "here", HALF, constants=constants()), **changes)  # type: ignore[arg-type]


def test_without_speculation_a_step_yields_one_token() -> None:
    assert acceptance().tokens_per_verify(OFF) == Interval(1.0, 1.0, 1.0)


def test_the_interval_of_a_chain_spans_the_alternatives() -> None:
    others = (Rates((0.25,), 1.0), Rates((1.0,), 1.0))

    found = acceptance(alternatives=others).tokens_per_verify(chain(2))

    assert found == Interval(1.3125, 1.75, 3.0)


def test_known_settings_are_as_measured() -> None:
    known = {chain(2): Interval(1.5, 1.6, 1.7)}

    assert acceptance(known=known).tokens_per_verify(chain(2)) == Interval(1.5, 1.6, 1.7)


def test_a_tree_without_rank_wise_rates_has_bounds_and_no_expectation() -> None:
    assert acceptance().tokens_per_verify(Settings(5, 4, 16)) == Interval(1.5, None, 6.0)


@pytest.mark.parametrize(
    ("num_draft_tokens", "bounds"),
    [(8, Interval(1.5, None, 3.4)), (32, Interval(3.2, None, 6.0))],
)
def test_a_known_tree_bounds_those_with_more_or_fewer_of_its_nodes(
    num_draft_tokens: int, bounds: Interval
) -> None:
    given = acceptance(known={Settings(5, 4, 16): Interval(3.2, 3.3, 3.4)})

    assert given.tokens_per_verify(Settings(5, 4, num_draft_tokens)) == bounds
    assert given.tokens_per_verify(Settings(5, 8, 32)) == Interval(1.5, None, 6.0)


def test_rank_wise_rates_give_a_tree_an_expectation_between_wide_and_deep() -> None:
    rates = Rates((0.6, 0.6), 1.0)
    given = acceptance(rates=rates, rank_wise=RankWise(((0.6, 0.2), (0.6, 0.2))))

    found = given.tokens_per_verify(TREE)

    assert (found.low, found.expected, found.high) == pytest.approx((1.8, 1.88, 1.96))


def test_later_candidates_have_their_share_of_what_the_first_one_misses() -> None:
    # 0.2 of the 0.4 that rank 0 misses is a half; where chains are right with 0.5, that is 0.25.
    ranks = RankWise(((0.6, 0.2),)).ranks(HALF)

    assert ranks(0, 2) == pytest.approx([0.5, 0.25])


def test_beyond_the_measured_depth_the_last_shares_hold() -> None:
    ranks = RankWise(((0.6, 0.2), (0.5, 0.0))).ranks(HALF)

    assert ranks(4, 2) == [0.5, 0.0]


def test_ranks_that_were_not_measured_are_never_right() -> None:
    assert RankWise(((0.5, 0.25),)).ranks(HALF)(0, 4) == [0.5, 0.25]


def test_a_draft_that_is_always_right_leaves_nothing_to_later_candidates() -> None:
    assert RankWise(((1.0, 0.0),)).ranks(HALF)(1, 2) == [0.5, 0.0]


def test_all_trees_of_the_sweep_lie_within_the_bounds_that_their_chain_gives() -> None:
    sweep = [totals(group) for group in read_points(DATA / "specbundle_sweep.csv")]
    outside = [
        (tree, value, bounds)
        for known in sweep
        for tree, value in known.items()
        if not tree.is_chain
        for bounds in [from_total(known[chain(3)], chain(3), "").tokens_per_verify(tree)]
        if not bounds.low <= value <= bounds.high
    ]

    assert len(sweep) == 44
    assert outside == []


def test_most_longer_chains_of_the_sweep_lie_within_the_interval_of_the_probe() -> None:
    sweep = [totals(group) for group in read_points(DATA / "specbundle_sweep.csv")]
    inside = [
        interval.low - 0.02 <= known[longer] <= interval.high + 0.02
        for known in sweep
        for longer in (chain(5), chain(7))
        for interval in [from_total(known[chain(3)], chain(3), "").tokens_per_verify(longer)]
    ]

    # The decays of the interval are the 5th and 95th percentile.
    assert sum(inside) / len(inside) > 0.85


def test_measured_rates_have_an_interval_that_narrows_with_the_rounds() -> None:
    few = from_rates((0.5,), "", num_rounds=100).tokens_per_verify(chain(1))
    many = from_rates((0.5,), "", num_rounds=10_000).tokens_per_verify(chain(1))

    # 1.96 * sqrt(0.25 / n)
    assert (few.low, few.expected, few.high) == pytest.approx((1.402, 1.5, 1.598))
    assert (many.low, many.expected, many.high) == pytest.approx((1.4902, 1.5, 1.5098))


def test_a_depth_that_hardly_any_round_reached_says_nothing() -> None:
    found = from_rates((0.0, 0.5), "", num_rounds=10)

    assert [rates.conditional for rates in found.alternatives] == [(0.0, 0.0), (0.0, 1.0)]


def test_counted_chains_stay_as_counted_and_the_rest_follows_from_the_rates() -> None:
    found = from_rates((0.5, 0.5), "", known={1: 1.52})

    assert found.tokens_per_verify(chain(1)) == Interval(1.5, 1.52, 1.52)
    assert found.tokens_per_verify(chain(2)) == Interval(1.75, 1.75, 1.75)


def test_a_counted_mean_has_the_widest_interval_that_its_rounds_allow() -> None:
    # (3 - 2) * (2 - 1) = 1, so 1.96 / sqrt(100); never outside of what a round can yield.
    assert counted_interval(2.0, TREE, 100) == Interval(2 - 0.196, 2.0, 2 + 0.196)
    assert counted_interval(2.0, TREE, 1) == Interval(1.0, 2.0, 3.0)


def test_beyond_the_measured_depth_the_interval_widens() -> None:
    found = from_rates((0.81, 0.73, 0.68), "")
    widths = [i.high - i.low for i in map(found.tokens_per_verify, map(chain, range(3, 8)))]

    assert widths[0] == 0
    assert widths == sorted(widths)


def test_a_total_is_exact_at_its_settings() -> None:
    found = from_total(3.33, Settings(5, 4, 16), "card")

    assert found.tokens_per_verify(Settings(5, 4, 16)) == Interval(3.33, 3.33, 3.33)


def test_a_trees_total_says_less_of_chains_than_a_chains_total() -> None:
    of_tree = from_total(3.3, Settings(5, 4, 16), "").tokens_per_verify(chain(3))
    of_chain = from_total(3.3, chain(5), "").tokens_per_verify(chain(3))

    assert of_tree.high - of_tree.low > 3 * (of_chain.high - of_chain.low)


def test_the_json_form() -> None:
    assert acceptance().to_json((OFF, chain(2), TREE)) == {
        "basis": "measured",
        "source": "here",
        "acceptance_rate_conditional": [0.5, 0.5],
        "decay": 1.0,
        "has_rank_wise": False,
        "tokens_per_verify": {
            "off": {"low": 1.0, "expected": 1.0, "high": 1.0},
            "2,1,3": {"low": 1.75, "expected": 1.75, "high": 1.75},
            "2,2,3": {"low": 1.5, "expected": None, "high": 3.0},
        },
    }


@pytest.mark.parametrize("values", [(0.9, 1.0, 1.1), (1.2, 1.1, 1.3), (1.2, None, 1.1)])
def test_an_interval_out_of_order_is_an_error(values: tuple[float, float | None, float]) -> None:
    with pytest.raises(UsageError, match="expected 1 <= low <= expected <= high"):
        Interval(*values)
