"""What a card asks for, on each engine, and its figures beside a run's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring.bench import Work
from eagle3_plugin.measuring.card import card_table
from eagle3_plugin.measuring.conversations import AskedSet
from eagle3_plugin.measuring.loop import Asking
from eagle3_plugin.measuring.protocol import differences, parse_loads, protocol
from eagle3_plugin.measuring.result import CardFigure
from eagle3_plugin.measuring.summaries import summaries
from eagle3_plugin.planning.cards import find_card
from eagle3_plugin.settings import Settings, chain
from tests.measuring.test_loop import ids
from tests.measuring.test_run import work
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


def asked(**changes: Any) -> Work:
    """What a card's command asks when it changes nothing."""
    card = find_card("A")
    named = AskedSet("mt-bench-en", "org/mt", "a1b2", ids(1).conversations)
    asking = Asking(card.max_new_tokens, 0.0, 0, False, None)
    made = work(named, concurrency=card.concurrency, limit=card.limit, asking=asking)
    return replace(made, **changes)


def test_a_run_of_the_cards_own_differs_in_nothing() -> None:
    card = find_card("A")
    assert differences(card, card.target, f"{card.draft}@main", asked()) == ()


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"sets": (AskedSet("mt-bench-zh", "z.jsonl", None, ids(1).conversations),)},
         "the questions of mt-bench-zh are those of the file z.jsonl, maybe not the card's"),
        ({"limit": 2},
         "the first 2 conversations of each set; the card does not say how many, and is taken for "
         "all"),
        ({"concurrency": (1,)},
         "conversations at a time: 1; the card's run had 1 and 4"),
        ({"asking": Asking(2048, 0.7, 0, False, None)},
         "temperature 0.7; the card does not say its own, and is taken for 0"),
        ({"asking": Asking(2048, 0.0, 0, True, None)},
         "every answer has all its tokens (--ignore-eos); the card says nothing of that"),
        ({"asking": Asking(2048, 0.0, 0, False, True)},
         "the chat template is told enable_thinking=True; the card says nothing of that"),
    ],
)  # fmt: skip
def test_what_a_run_has_otherwise_than_the_card_is_said(changes: dict[str, Any], note: str) -> None:
    card = find_card("A")
    assert differences(card, card.target, card.draft, asked(**changes)) == (note,)


def test_another_pair_and_more_than_the_limit_are_said() -> None:
    card = find_card("B")
    assert differences(card, "tiny", "small", asked(concurrency=(1,))) == (
        "the target is tiny; the card's is Qwen/Qwen3-VL-2B-Instruct",
        "the draft is small; the card's is taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3",
        "all conversations of each set; the card does not say how many, and is taken for the first "
        "200",
    )


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
