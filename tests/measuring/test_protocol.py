"""What a card asks for, on each engine, and its figures beside a run's."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring.card import card_table
from eagle3_plugin.measuring.protocol import parse_loads, protocol
from eagle3_plugin.measuring.result import CardFigure
from eagle3_plugin.measuring.summaries import summaries
from eagle3_plugin.planning.cards import find_card
from eagle3_plugin.settings import Settings, chain
from tests.measuring.test_summaries import cell, request


def test_card_a_is_two_sets_with_a_tree_in_sglang() -> None:
    found = protocol(find_card("A"), "sglang", "gpu", ["mt-bench-zh=z.jsonl"], 2048)
    assert found.settings == {"5,4,16": Settings(5, 4, 16)}
    assert found.sets == ("mt-bench-zh=z.jsonl", "mt-bench-en")
    assert found.flags == ("--dtype", "float16", "--mem-fraction-static", "0.7")
    assert found.notes == ("the card does not say how long answers were: up to 2048 tokens here",)


def test_vllm_runs_a_chain_in_place_of_the_tree_and_says_so() -> None:
    found = protocol(find_card("A"), "vllm", "gpu", [], 32)
    assert found.settings == {"5,4,16": chain(5)}
    assert found.flags == ()
    assert found.notes[0].startswith(
        "vllm drafts chains only: 5,1,6 in place of the card's tree 5,4,16"
    )
    assert found.notes[2] == (
        "without the card's --dtype float16 --mem-fraction-static 0.7, which is for SGLang on a GPU"
    )


def test_card_b_is_six_benchmarks_at_four_and_at_eight_draft_tokens() -> None:
    card = find_card("taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3")
    assert card.letter == "B"
    found = protocol(card, "vllm", "gpu", [], 2048)
    assert list(found.settings.values()) == [chain(4), chain(8)]
    assert found.sets == ("humaneval", "math-500", "c-eval", "cmmlu", "gsm8k", "mt-bench-en")
    assert (card.concurrency, card.limit) == ((1,), 200)


def test_a_set_that_is_not_the_cards_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="--sets gsm8k with the card of Zjcxy-SmartAI/Eagle3"):
        protocol(find_card("A"), "sglang", "gpu", ["gsm8k=g.jsonl"], 2048)


def test_a_card_that_is_not_known_is_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"no card 'C' in this release, expected one of A \(Zjcxy"):
        find_card("C")


@pytest.mark.parametrize(("text", "loads"), [(None, (1, 4)), ("2", (2,)), ("1, 8,1", (1, 8))])
def test_loads_are_numbers_with_commas(text: str | None, loads: tuple[int, ...]) -> None:
    assert parse_loads(text, (1, 4)) == loads


@pytest.mark.parametrize("text", ["0", "x", "1..4", ""])
def test_other_loads_are_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match="expected numbers of at least 1 with commas between them"):
        parse_loads(text, (1,))


def test_the_cards_figures_stand_beside_ours_and_missing_ones_say_so() -> None:
    """Conversations of 10 tokens in 1 s and in 0.5 s; 5 rounds for 10 tokens after the first."""
    made = [
        cell("baseline", request(0, 1.0, 10), name="mt-bench-zh"),
        cell("5,1,6", request(0, 0.5, 10, rounds=(5, 3, 2)), name="mt-bench-zh"),
    ]
    table = card_table(find_card("A"), summaries(made), {"5,4,16": "5,1,6"}, ("said",))
    assert table.notes[1:] == ("said",)
    assert len(table.figures) == 4 + 12
    found = {(f.set, f.concurrency, f.measure): f for f in table.figures}
    assert found["mt-bench-zh", 1, "tokens_per_verify"] == CardFigure(
        set="mt-bench-zh", concurrency=1, settings="5,4,16", measure="tokens_per_verify",
        promised=3.33, found=2.0, low=None, high=None, difference=2.0 / 3.33 - 1,
    )  # fmt: skip
    assert found["mt-bench-zh", 1, "speedup"].found == 2.0
    assert found["mt-bench-zh", 1, "baseline_tokens_per_s_per_conversation"].found == 10.0
    assert found["mt-bench-en", 4, "speedup"].found is None
    assert found["mt-bench-en", 4, "speedup"].promised == 1.91
