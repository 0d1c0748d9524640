from __future__ import annotations

from collections.abc import Sequence

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.probe_constants import probe_constants
from eagle3_plugin.planning.rates import (
    Rates,
    TreeShare,
    decaying,
    fitted_rates,
    max_tokens_per_verify,
    tree_range,
)
from eagle3_plugin.settings import Settings, chain

TREES = TreeShare(sibling=0.5, narrow=0.5, wide=0.5)


def two_ranks(depth: int, topk: int) -> Sequence[float]:
    return (0.6, 0.2)[:topk]


def test_a_chain_yields_the_bonus_and_the_products_of_its_rates() -> None:
    assert Rates((0.5, 0.5), 1.0).chain_tokens_per_verify(2) == 1.75


def test_rates_beyond_the_known_ones_decay_and_stay_at_most_1() -> None:
    falling, rising = Rates((0.8, 0.5), 0.5), Rates((0.8,), 2.0)

    assert (falling.at(1), falling.at(2), falling.at(3)) == (0.5, 0.25, 0.125)
    assert rising.at(1) == 1.0


def test_equal_rates_give_the_formula_of_leviathan() -> None:
    # arXiv 2211.17192, eq. 1: (1 - a^(g + 1)) / (1 - a) with a = 0.8, g = 5.
    assert decaying(0.8, 1.0, 5).chain_tokens_per_verify(5) == pytest.approx(3.68928)


def test_published_rates_give_the_published_tokens_per_verify_of_each_chain() -> None:
    # vllm-project/speculators issue 563, Qwen3-8B, coding; rates are printed with two digits.
    rates = Rates((0.81, 0.73, 0.68, 0.65, 0.62, 0.50, 0.38), 1.0)
    published = [1.81, 2.40, 2.80, 3.06, 3.22, 3.30, 3.33]

    found = [rates.chain_tokens_per_verify(length) for length in range(1, 8)]

    assert found == pytest.approx(published, abs=0.015)


def test_a_tree_with_nodes_for_every_candidate_is_the_same_either_way() -> None:
    # Level 1: 0.6 + 0.2; level 2: 0.36 + 0.12 + 0.12 + 0.04.
    assert tree_range(two_ranks, Settings(2, 2, 7)) == pytest.approx((2.44, 2.44))


def test_with_few_nodes_a_tree_is_wide_or_deep() -> None:
    # Two nodes: 0.6 + 0.2 level by level, 0.6 + 0.36 on the best path.
    assert tree_range(two_ranks, Settings(2, 2, 3)) == pytest.approx((1.8, 1.96))


def test_only_the_topk_best_of_a_level_are_expanded() -> None:
    # Level 2: 0.36 + 0.12 + 0.12 + 0.04, level 3 grows from 0.36 and 0.12 only: 0.48 * 0.8.
    assert tree_range(two_ranks, Settings(3, 2, 11)) == pytest.approx((2.824, 2.824))


def test_a_tree_lies_between_wide_and_deep_by_its_selection() -> None:
    # The second candidate gets 0.5 * 0.6 of the 0.4 that the first one misses: 0.12.
    assert TREES.tokens_per_verify(Rates((0.6,), 1.0), Settings(2, 2, 3)) == pytest.approx(1.84)


def test_a_tree_with_nodes_to_spare_lies_nearer_to_the_best_nodes() -> None:
    trees = TreeShare(sibling=0.5, narrow=0.4, wide=1.2)

    # 2 levels: 2 nodes spare none, 4 nodes half, 16 nodes 7 of 8: 0.4 + 0.8 * 7 / 8 > 1.
    assert [trees.selection(Settings(2, 4, n + 1)) for n in (2, 4, 16)] == pytest.approx(
        [0.4, 0.8, 1.0]
    )


def test_wide_trees_of_a_pair_that_the_fit_never_saw_are_predicted() -> None:
    """The oracle's trees, tiny pair llama, 6 prompts of 96 tokens; the constants are fitted on
    published points alone."""
    rates = Rates((0.724, 0.797, 0.678, 0.721, 0.553, 0.333, 0.9, 0.6), 0.97)
    measured = {(3, 3, 8): 2.995, (5, 4, 16): 3.694, (7, 4, 16): 3.707, (8, 8, 60): 4.677}

    found = {s: probe_constants().trees.tokens_per_verify(rates, Settings(*s)) for s in measured}

    assert found == {s: pytest.approx(value, rel=0.03) for s, value in measured.items()}


def test_a_chain_has_no_use_for_the_trees_share() -> None:
    assert TREES.tokens_per_verify(Rates((0.5, 0.5), 1.0), chain(2)) == 1.75


def test_the_rates_behind_a_total_are_found_again() -> None:
    rates = fitted_rates(3.68928, chain(5), 1.0, TREES)

    assert rates.conditional == pytest.approx((0.8,) * 5)


def test_the_rates_behind_a_trees_total_are_found_again() -> None:
    rates = fitted_rates(1.84, Settings(2, 2, 3), 1.0, TREES)

    assert rates.conditional == pytest.approx((0.6, 0.6))


@pytest.mark.parametrize(("total", "first"), [(1.0, 0.0), (4.0, 1.0)])
def test_totals_at_the_ends_are_never_and_always_right(total: float, first: float) -> None:
    rates = fitted_rates(total, chain(3), 0.97, TREES)

    assert rates.conditional == pytest.approx((first,) * 3)


@pytest.mark.parametrize(
    ("settings", "most"), [(chain(3), 4), (Settings(5, 4, 16), 6), (Settings(5, 4, 4), 4)]
)
def test_a_round_yields_a_token_for_each_level_that_has_a_node_and_the_bonus(
    settings: Settings, most: float
) -> None:
    assert max_tokens_per_verify(settings) == most


@pytest.mark.parametrize("total", [0.9, 4.1, float("nan")])
def test_a_total_that_no_draft_can_yield_is_an_error(total: float) -> None:
    with pytest.raises(UsageError, match=r"tokens per verify with settings 3,1,4, expected 1 to 4"):
        fitted_rates(total, chain(3), 1.0, TREES)
