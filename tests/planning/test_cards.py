from __future__ import annotations

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import Interval
from eagle3_plugin.planning.cards import card_acceptance
from eagle3_plugin.settings import Settings, chain

SEED_A = "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh"
SEED_B = "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3"


@pytest.mark.parametrize(("benchmark", "total"), [("MT-bench-zh", 3.33), ("MT-bench-en", 3.27)])
def test_seed_a_is_as_its_card_says(benchmark: str, total: float) -> None:
    found = card_acceptance(SEED_A, benchmark)

    assert found.basis == "card"
    assert found.tokens_per_verify(Settings(5, 4, 16)) == Interval(total, total, total)


def test_without_a_benchmark_the_interval_spans_all_of_the_cards() -> None:
    found = card_acceptance(SEED_A).tokens_per_verify(Settings(5, 4, 16))

    assert (found.low, found.expected, found.high) == pytest.approx((3.27, 3.30, 3.33))


def test_the_means_of_seed_b_are_those_that_its_card_prints() -> None:
    found = card_acceptance(SEED_B)
    four, eight = found.tokens_per_verify(chain(4)), found.tokens_per_verify(chain(8))

    # The card says about 1.93 and about 2.04.
    assert (four.expected, eight.expected) == pytest.approx((1.93, 2.04), abs=0.01)
    assert (four.low, four.high, eight.low, eight.high) == (1.79, 2.12, 1.86, 2.30)


def test_chains_between_two_of_the_cards_lie_between_them() -> None:
    expected = card_acceptance(SEED_B, "humaneval").tokens_per_verify(chain(6)).expected

    assert expected is not None
    assert 2.12 < expected < 2.30


def test_a_draft_without_a_card_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        card_acceptance("someone/draft")

    assert caught.value.message == (
        f"no card of 'someone/draft' in this release, expected one of {SEED_A}, {SEED_B}"
    )
    assert "eagle3 score" in str(caught.value.hint)


def test_a_benchmark_that_the_card_does_not_have_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        card_acceptance(SEED_A, "gsm8k")

    assert caught.value.message == (
        f"the card of {SEED_A} has no benchmark 'gsm8k', expected one of MT-bench-zh, MT-bench-en"
    )
