"""Counts worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from eagle3_plugin.draft.rounds import PromptScore, Round, ScoreResult, TreeScore
from eagle3_plugin.settings import Settings


def prompt(matches: tuple[int, ...], **changes: Any) -> PromptScore:
    """A prompt whose text is as long as it needs to be; every lead is 1 unless given."""
    values: dict[str, Any] = {
        "set": "code",
        "where": "prompts.jsonl:1",
        "modality": "text",
        "num_prompt_tokens": 8,
        "generated": tuple(range(len(matches) + 1)),
        "num_matches": matches,
        "draft_margins": tuple((1.0,) * 3 for _ in matches),
        "target_margins": (1.0,) * (len(matches) + 3),
        "ranks": ((0, 1, 0),) * len(matches),
        "tree_rounds": (),
    }
    return PromptScore(**(values | changes))


def result(*prompts: PromptScore, chain: int = 3, trees: tuple[Settings, ...] = ()) -> ScoreResult:
    return ScoreResult(chain, 16, "float32", (2, 4, 5), prompts, num_ranks=3, trees=trees)


TEN = prompt((2, 0, 0, 3, 1, 1, 0, 1, 3))
"""Ten tokens: chains of three are accepted for 2, then 3, then 1 of their tokens."""


def test_rounds_are_walked_from_the_first_token() -> None:
    found = TEN.rounds(3)

    assert [(r.num_known, r.num_accepted) for r in found] == [(1, 2), (4, 3), (8, 1)]


def test_a_shorter_chain_accepts_no_more_than_it_drafts() -> None:
    assert [(r.num_known, r.num_accepted) for r in TEN.rounds(1)] == [
        (1, 1),
        (3, 0),
        (4, 1),
        (6, 1),
        (8, 1),
    ]


def test_tokens_per_verify_counts_the_bonus() -> None:
    assert result(TEN).tokens_per_verify == {1: 9 / 5, 2: (3 + 3 + 1 + 2) / 4, 3: (3 + 4 + 2) / 3}


def test_the_last_round_counts_in_full_though_it_runs_past_the_end() -> None:
    last = prompt((0, 3))

    assert result(last).tokens_per_verify[3] == (1 + 4) / 2
    assert result(last).num_tokens == 2


def test_acceptance_by_position_over_all_rounds_and_over_those_that_got_there() -> None:
    other = prompt((0, 0))
    both = result(TEN, other)

    assert both.rounds_per_prompt == (3, 2)
    assert both.num_rounds == 5
    assert both.acceptance_rate == (3 / 5, 2 / 5, 1 / 5)
    assert both.acceptance_rate_conditional == (3 / 5, 2 / 3, 1 / 2)


def test_a_position_that_no_round_reached_has_no_conditional_rate() -> None:
    assert result(prompt((0, 0))).acceptance_rate_conditional == (0.0, None, None)


def test_sets_are_counted_apart_and_one_without_rounds_has_no_numbers() -> None:
    maths, none = prompt((1, 0), set="maths"), prompt((), set="chat")

    found = result(TEN, maths, none, chain=1).prompt_sets

    assert found == {"code": {1: 9 / 5}, "maths": {1: 2.0}, "chat": {}}


def test_a_round_has_the_least_lead_of_what_was_drafted_and_of_what_it_yields() -> None:
    scored = prompt(
        (1, 0, 0),
        draft_margins=((0.5, 0.2, 0.01), (0.3,), (0.4,)),
        target_margins=(0.001, 0.9, 0.8, 0.7, 0.002, 0.6, 0.6),
    )

    assert scored.rounds(3) == (Round(1, 1, 0.2, 0.8), Round(3, 0, 0.4, 0.7))


def test_a_start_is_fresh_until_its_last_four_tokens_come_again() -> None:
    scored = prompt((0,) * 9, generated=(1, 2, 3, 4, 5, 1, 2, 3, 4, 5))

    fresh = [scored.is_fresh(num_known) for num_known in range(1, 11)]

    assert fresh == [True] * 8 + [False, False]


def test_repetitions_are_left_out_of_the_fresh_numbers() -> None:
    scored = prompt((0, 0, 0, 0, 0, 0, 0, 0, 1), generated=(1, 2, 3, 4, 5, 1, 2, 3, 4, 5))

    assert result(scored).tokens_per_verify_fresh[1] == 1.0
    assert result(scored).tokens_per_verify[1] == 10 / 9
    assert result(scored).distinct_4grams == 5 / 7


def test_texts_shorter_than_four_tokens_have_no_share_of_distinct_4grams() -> None:
    assert result(prompt((0, 0))).distinct_4grams is None


def test_ranks_are_counted_over_all_starts_at_each_depth() -> None:
    """Four starts, the last of another prompt; rank 2 never comes, -1 is no rank."""
    first = prompt((1, 0, 0), ranks=((0, 1), (0, -1), (1, 0)))
    second = prompt((1,), ranks=((0, -1),))

    assert result(first, second).rank_rate_conditional == ((0.75, 0.25, 0.0), (0.25, 0.25, 0.0))


def rounds(*accepted: int) -> tuple[Round, ...]:
    return tuple(Round(1, n, 1.0, 1.0) for n in accepted)


def test_each_tree_has_its_rounds_and_tokens_per_verify() -> None:
    small, large = Settings(2, 4, 8), Settings(5, 4, 16)
    first = prompt((1, 0, 0), tree_rounds=(rounds(1, 0), rounds(2)))
    second = prompt((), tree_rounds=((), ()))

    found = result(first, second, trees=(small, large)).tree_scores

    assert found == (
        TreeScore(small, (rounds(1, 0), ())),
        TreeScore(large, (rounds(2), ())),
    )
    assert [tree.tokens_per_verify for tree in found] == [1.5, 3.0]
    assert found[0].rounds_per_prompt == (2, 0)
    assert TreeScore(small, ((), ())).tokens_per_verify is None


def test_the_json_form() -> None:
    tree = Settings(2, 4, 8)
    scored = prompt((1, 0, 0), ranks=((0, 0), (1, -1), (2, 0)), tree_rounds=(rounds(2),))
    json = result(scored, chain=2, trees=(tree,)).to_json()
    rank_wise = json.pop("rank_wise")

    third = pytest.approx(1 / 3)
    assert rank_wise["topk"] == 3
    assert rank_wise["acceptance_rate_conditional"] == [
        [third, third, third],
        [pytest.approx(2 / 3), 0.0, 0.0],
    ]
    assert json == {
        "schema": 1,
        "chain": 2,
        "max_new_tokens": 16,
        "dtype": "float32",
        "taps": [2, 4, 5],
        "num_prompts": 1,
        "num_rounds": 2,
        "num_tokens": 3,
        "tokens_per_verify": {"1": 1.5, "2": 1.5},
        "tokens_per_verify_fresh": {"1": 1.5, "2": 1.5},
        "distinct_4grams": 1.0,
        "acceptance_rate": [0.5, 0.0],
        "acceptance_rate_conditional": [0.5, 0.0],
        "assumed": [],
        "modalities": {
            "text": {
                "num_prompts": 1,
                "num_rounds": 2,
                "tokens_per_verify": {"1": 1.5, "2": 1.5},
                "acceptance_rate_conditional": [0.5, 0.0],
            }
        },
        "prompt_sets": {"code": {"1": 1.5, "2": 1.5}},
        "rounds_per_prompt": [2],
        "accepted_draft_tokens_per_prompt": [1],
        "trees": [
            {
                "num_steps": 2,
                "topk": 4,
                "num_draft_tokens": 8,
                "tokens_per_verify": 3.0,
                "num_rounds": 1,
                "rounds_per_prompt": [1],
            }
        ],
    }


def test_counting_loads_no_torch_and_scoring_no_transformers() -> None:
    code = (
        "import sys, eagle3_plugin.draft.rounds, eagle3_plugin.draft.prompts;"
        "assert 'torch' not in sys.modules;"
        "import eagle3_plugin.draft.score, eagle3_plugin.draft.sweep;"
        "assert 'transformers' not in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
