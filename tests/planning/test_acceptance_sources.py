from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.rounds import PromptScore, Round, ScoreResult
from eagle3_plugin.errors import Eagle3Error, NotFoundError, UsageError
from eagle3_plugin.planning.acceptance import Interval, RankWise
from eagle3_plugin.planning.acceptance_sources import (
    from_json,
    parse_acceptance,
    read_acceptance,
    typical,
)
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.settings import Settings, chain

SCORE: dict[str, Any] = {
    "schema": 1,
    "acceptance_rate_conditional": [0.5, 0.5, None],
    "tokens_per_verify": {"1": 1.5, "2": 1.75, "3": 1.75},
    "num_rounds": 100,
}
BENCH: dict[str, Any] = {
    "schema": 1,
    "speed": {},
    "acceptance": AcceptanceCounts(100, 200, 75, (50, 25)).to_json(),
}


TREE = {
    "num_steps": 2,
    "topk": 2,
    "num_draft_tokens": 4,
    "tokens_per_verify": 2.0,
    "num_rounds": 100,
}


def test_a_list_is_conditional_rates_by_depth() -> None:
    found = parse_acceptance("0.81, 0.73,.68")

    assert (found.basis, found.rates.conditional) == ("measured", (0.81, 0.73, 0.68))


def test_one_number_is_a_rate_too() -> None:
    assert parse_acceptance("0.5").rates.conditional == (0.5,)


def test_a_number_at_settings_is_tokens_per_verify() -> None:
    found = parse_acceptance("3.33@5,4,16")

    assert found.tokens_per_verify(Settings(5, 4, 16)) == Interval(3.33, 3.33, 3.33)


def test_a_card_is_named_with_its_draft_and_perhaps_a_benchmark() -> None:
    name = "card:Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh"

    assert parse_acceptance(name).basis == "card"
    found = parse_acceptance(f"{name}:MT-bench-zh").tokens_per_verify(Settings(5, 4, 16))
    assert found.expected == 3.33


def test_typical_is_labelled_as_assumed_and_spans_published_qwen3_pairs() -> None:
    found = parse_acceptance("typical")

    assert (found, found.basis) == (typical(), "assumed")
    # AngelSlim's table, vLLM 0.11.2, K = 2: 1.86 (Qwen3-32B) to 2.20 (Qwen3-1.7B).
    two = found.tokens_per_verify(chain(2))
    assert two.low < 1.86 < (two.expected or 0) < 2.20 < two.high


def test_a_score_gives_rates_up_to_the_depth_that_was_reached() -> None:
    found = from_json(SCORE, "score.json")

    assert (found.basis, found.source) == ("measured", "score.json")
    assert found.rates.conditional == (0.5, 0.5)
    assert found.tokens_per_verify(chain(3)).expected == 1.75


def test_a_score_with_rank_wise_rates_gives_trees_an_expectation() -> None:
    ranks = {"topk": 2, "acceptance_rate_conditional": [[0.5, 0.2], [0.5, 0.1], [None, None], None]}
    found = from_json({**SCORE, "rank_wise": ranks}, "score.json")

    assert found.rank_wise == RankWise(((0.5, 0.2), (0.5, 0.1)))
    assert found.tokens_per_verify(Settings(2, 2, 4)).expected is not None


def test_rank_wise_rates_of_no_round_are_as_none() -> None:
    ranks = {"topk": 2, "acceptance_rate_conditional": [None]}

    assert from_json({**SCORE, "rank_wise": ranks}, "score.json").rank_wise is None


def test_a_score_as_it_is_written_is_read() -> None:
    tree = Round(1, 2, 1.0, 1.0)
    prompt = PromptScore(
        set="code",
        where="prompts.jsonl:1",
        modality="text",
        num_prompt_tokens=4,
        generated=(1, 2, 3, 4),
        num_matches=(1, 0, 0),
        draft_margins=((1.0, 1.0),) * 3,
        target_margins=(1.0,) * 8,
        ranks=((0, 1), (1, 0), (1, 1)),
        tree_rounds=((tree,),),
    )
    result = ScoreResult(2, 16, "float32", (2, 4, 5), (prompt,), 2, (Settings(2, 2, 4),))

    found = from_json(result.to_json(), "score.json")

    assert found.rates.conditional == (0.5, 0.0)
    assert found.rank_wise == RankWise(((1 / 3, 2 / 3), (1 / 3, 2 / 3)))
    assert found.tokens_per_verify(chain(2)).expected == 1.5
    assert found.tokens_per_verify(Settings(2, 2, 4)) == Interval(3.0, 3.0, 3.0)


def test_a_tree_without_a_round_is_left_out() -> None:
    tree = TREE | {"num_rounds": 0, "tokens_per_verify": None}

    assert from_json({**SCORE, "trees": [tree]}, "score.json").known.keys() == {
        chain(1),
        chain(2),
        chain(3),
    }


def test_a_bench_as_it_is_written_is_read() -> None:
    found = from_json(BENCH, "bench.json")

    assert found.rates.conditional == (0.5, 0.5)
    assert found.tokens_per_verify(chain(2)).expected == 1.75


def test_a_folder_is_read_by_its_eagle3_json(tmp_path: Path) -> None:
    kept = {"schema": 1, "config_sha256": "0", "expected_acceptance": {**SCORE, "target": "T"}}
    (tmp_path / "eagle3.json").write_text(json.dumps(kept))

    found = read_acceptance(tmp_path)

    assert found.source == "eagle3.json, measured with T"
    assert found == parse_acceptance(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5,1.5", "--acceptance 0.5,1.5: the list[1] is 1.5, expected a number from 0 to 1"),
        ("-0.5", "--acceptance -0.5: the list[0] is -0.5, expected a number from 0 to 1"),
        ("3.33@off", "'3.33@off' is a measurement without speculation"),
        ("3.33@5,4", "settings '5,4' are not three whole numbers"),
        ("5@3,1,4", "5 tokens per verify with settings 3,1,4, expected 1 to 4"),
        ("card:x", "no card of 'x' in this release"),
    ],
)
def test_a_wrong_argument_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_acceptance(text)


def test_a_file_that_is_not_there_is_an_error_that_lists_the_forms(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.json: No such file or directory, expected typ"):
        parse_acceptance(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "f.json has schema None, expected 1"),
        ({"schema": 2}, "f.json has schema 2, expected 1"),
        ({"schema": 1, "a": 0, "b": 0}, "f.json has the keys schema, a, b; expected a score"),
        ({"schema": 1, "config_sha256": ""}, "f.json has no expected_acceptance"),
        ({**BENCH, "acceptance": None}, "f.json is a bench of a server without speculation"),
        (
            {**SCORE, "acceptance_rate_conditional": [0.5, 1.5, "x", True]},
            "f.json: 3 problem(s)\n"
            "  acceptance_rate_conditional[1] is 1.5, expected a number from 0 to 1\n"
            "  acceptance_rate_conditional[2] is 'x', expected a number from 0 to 1\n"
            "  acceptance_rate_conditional[3] is True, expected a number from 0 to 1",
        ),
        ({**SCORE, "acceptance_rate_conditional": []}, "is [], expected a list of rates"),
        ({**SCORE, "acceptance_rate_conditional": [None]}, "has no rate: no round was counted"),
        ({**SCORE, "tokens_per_verify": None}, "tokens_per_verify is None, expected numbers by"),
        ({**SCORE, "tokens_per_verify": {"2": 3.5}}, "of chain 2 is 3.5, expected 1 to the chain"),
        ({**SCORE, "tokens_per_verify": {"²": 1.5}}, "of chain ² is 1.5, expected 1 to the chain"),
        ({**SCORE, "tokens_per_verify": {"1": "1.5"}}, "of chain 1 is '1.5', expected 1 to the"),
        (
            {**BENCH, "acceptance": AcceptanceCounts(100, 1500, 75, (50, 25)).to_json()},
            "f.json: 1 problem(s)\n"
            "  15 tokens drafted a round for 2 positions is a tree, expected a chain: for a tree "
            "write --acceptance T@s,k,n with its tokens per verify, here 1.75",
        ),
        (
            {**SCORE, "trees": [{"num_steps": 2, "topk": 1, "num_draft_tokens": 9}, {}, 7]},
            "f.json: 3 problem(s)\n"
            "  trees[0]: settings 2,1,9: num_draft_tokens is 9, expected 3: topk 1 is a chain of "
            "num_steps + 1 tokens, expected settings and what they yield\n"
            "  trees[1]: KeyError('num_steps'), expected settings and what they yield\n"
            "  trees[2]: TypeError(",
        ),
        ({**SCORE, "trees": 7}, "trees is 7, expected a list"),
        (
            {**SCORE, "trees": [TREE | {"tokens_per_verify": 9.0}]},
            "trees[0]: 9 tokens per verify with settings 2,2,4, expected 1 to 3",
        ),
        ({**SCORE, "num_rounds": -1}, "num_rounds is -1, expected a count"),
        ({**SCORE, "rank_wise": [0.5]}, "rank_wise.acceptance_rate_conditional is None, expected"),
        (
            {**SCORE, "rank_wise": {"acceptance_rate_conditional": [[0.7, 0.4]]}},
            "rank_wise.acceptance_rate_conditional[0] adds up to 1.1, expected at most 1",
        ),
        (
            {**SCORE, "rank_wise": {"acceptance_rate_conditional": [0.7]}},
            "rank_wise.acceptance_rate_conditional[0] is 0.7, expected a list of rates",
        ),
    ],
)
def test_a_wrong_file_says_all_that_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Eagle3Error, match=re.escape(message)):
        from_json(given, "f.json")
