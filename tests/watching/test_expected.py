"""What a score, a bench or an eagle3.json promises, and where it ends to be healthy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import Eagle3Error, NotFoundError, UsageError
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.watching.expected import (
    Slack,
    expectation,
    expected_of_draft,
    parse_slack,
    read_expected,
)
from tests.watching.fixtures import SCORE, Loops, bench

SETS = {"easy": {"3": 2.4}, "hard": {"3": 1.9}}
BENCH = {
    "schema": 1,
    "speed": {},
    "acceptance": {
        "num_rounds": 1000,
        "num_draft_tokens": 3000,
        "tokens_per_verify": 2.2,
        "acceptance_rate_conditional": [0.6, 2 / 3, 0.5],
    },
}


def test_a_chain_is_expected_to_do_what_the_score_says_of_its_length() -> None:
    found = expectation(SCORE, chain(3), "replay", where="s")
    assert found.mean == pytest.approx(1.2)
    assert found.tokens_per_verify == pytest.approx(2.2)
    assert found.acceptance_rate == pytest.approx((0.6, 0.4, 0.2))


def test_the_variance_of_a_round_follows_from_the_rates() -> None:
    """0, 1, 2, 3 accepted in 40, 20, 20, 20 % of rounds: mean 1.2, mean of squares 2.8."""
    found = expectation(SCORE, chain(3), "replay", where="s")
    assert found.round_variance == pytest.approx(2.8 - 1.44)


def test_without_numbers_of_each_prompt_requests_may_vary_as_much_as_is_possible() -> None:
    """All of 3 in 40 % of the requests and none in the others: 1.2 * (3 - 1.2)."""
    found = expectation(SCORE, chain(3), None, where="s")
    assert found.request_variance == pytest.approx(2.16)
    assert found.is_bound


def test_numbers_of_each_prompt_give_the_variance_of_requests() -> None:
    """Means 0.7, 1.2 and 1.7 vary by 0.25, of which 1.36 / 100 is that of rounds."""
    score = SCORE | {
        "rounds_per_prompt": [100, 100, 100],
        "accepted_draft_tokens_per_prompt": [70, 120, 170],
    }
    found = expectation(score, chain(3), None, where="s")
    assert found.request_variance == pytest.approx(0.25 - 0.0136)
    assert not found.is_bound


@pytest.mark.parametrize("accepted", [[120], None])
def test_too_few_prompts_give_no_variance(accepted: list[int] | None) -> None:
    score = SCORE | {"rounds_per_prompt": [100], "accepted_draft_tokens_per_prompt": accepted}
    assert expectation(score, chain(3), None, where="s").is_bound


def test_numbers_of_another_chain_give_no_variance() -> None:
    score = SCORE | {
        "rounds_per_prompt": [100, 100],
        "accepted_draft_tokens_per_prompt": [70, 120],
    }
    assert expectation(score, chain(2), None, where="s").is_bound


@pytest.mark.parametrize(
    ("changes", "slack", "floor"),
    [
        ({}, "replay", 1.2),
        ({}, 0.1, 1.08),
        ({}, None, 0.96),
        ({"prompt_sets": SETS}, None, 0.9),
        ({"prompt_sets": {"easy": SETS["easy"], "other": SETS["easy"]}}, None, 1.056),
        ({"num_prompts": 1}, None, 0.72),
    ],
    ids=["replay", "share", "one set", "worst set", "few prompts", "one prompt"],
)
def test_the_floor_is_below_the_mean_by_the_slack(
    changes: dict[str, Any], slack: Slack, floor: float
) -> None:
    """400 prompts of variance 2.16 have a mean to within 1.96 * sqrt(2.16 / 400) = 0.144."""
    found = expectation(SCORE | changes, chain(3), slack, where="s")
    assert found.floor == pytest.approx(floor, abs=1e-4)


ANSWERS = [(100, (50, 30, 20)), (100, (70, 50, 20))] * 20
"""Of 1.0 and of 1.4 accepted draft tokens a round, so a mean of 1.2."""


def test_a_bench_gives_the_floor_of_its_prompts_as_a_score_does() -> None:
    """40 prompts vary by 0.04 * 40 / 39 less 1.36 / 100, so their mean is sure to within 0.05."""
    found = expectation(bench({("3,1,4", "chat"): ANSWERS}), chain(3), None, where="b")
    assert found.mean == pytest.approx(1.2)
    assert found.floor == pytest.approx(0.8 * 1.2)
    assert found.request_variance == pytest.approx(0.04 * 40 / 39 - 0.0136)
    assert not found.is_bound


def test_the_floor_of_a_bench_is_its_worst_set() -> None:
    sets: Loops = {("3,1,4", "easy"): ANSWERS[1::2], ("3,1,4", "hard"): ANSWERS[::2]}
    assert expectation(bench(sets), chain(3), None, where="b").floor == pytest.approx(1.0)


def test_a_tree_takes_nothing_off_for_rounds_that_have_a_bound_only() -> None:
    """The means 1.0 and 1.4 of 40 prompts."""
    given = bench({("5,1,6", "chat"): ANSWERS})
    given["servers"][2]["settings"] = "3,4,8"
    found = expectation(given, Settings(3, 4, 8), None, where="b")
    assert found.request_variance == pytest.approx(0.04 * 40 / 39)
    assert found.floor == pytest.approx(0.96)


def test_a_replay_has_no_variance_between_requests() -> None:
    assert expectation(SCORE, chain(3), "replay", where="s").request_variance == 0


def test_a_tree_is_expected_to_do_what_was_judged_of_it() -> None:
    tree = {"num_steps": 3, "topk": 4, "num_draft_tokens": 8}
    score = SCORE | {"trees": [tree | {"tokens_per_verify": 2.5, "num_rounds": 900}]}
    found = expectation(score, Settings(3, 4, 8), None, where="s")
    assert (found.mean, found.acceptance_rate) == (1.5, ())
    assert found.round_variance == pytest.approx(1.5 * 1.5)


def test_the_floor_of_a_tree_is_its_worst_set_in_proportion_to_chains() -> None:
    """Chains of 3: 1.2 of all prompts and 1.08 of the hard ones; the tree 2.0, so 1.8."""
    tree = {"num_steps": 3, "topk": 4, "num_draft_tokens": 8}
    score = SCORE | {
        "num_prompts": 4000,
        "prompt_sets": {"easy": {"3": 2.32}, "hard": {"3": 2.08}},
        "trees": [tree | {"tokens_per_verify": 3.0, "num_rounds": 900}],
    }
    found = expectation(score, Settings(3, 4, 8), None, where="s")
    assert found.floor == pytest.approx(1.8)


RANK_WISE = {"acceptance_rate_conditional": [[0.6, 0.2], [0.66, 0.1], [0.5, 0.2]]}


@pytest.mark.parametrize("more", [{}, {"rank_wise": RANK_WISE}], ids=["chains", "with ranks"])
def test_a_tree_that_nobody_judged_is_an_error(more: dict[str, Any]) -> None:
    with pytest.raises(Eagle3Error) as caught:
        expectation(SCORE | more, Settings(3, 4, 8), None, where="s.json")
    assert caught.value.message == (
        "s.json says nothing sure of settings 3,4,8; expected their tokens per verify"
    )
    assert caught.value.hint == "eagle3 score DRAFT --target TARGET --tree 3,4,8 --save"


def test_a_draft_that_is_never_right_has_nothing_to_fall() -> None:
    score = SCORE | {"acceptance_rate_conditional": [0.0], "tokens_per_verify": {"3": 1.0}}
    with pytest.raises(Eagle3Error) as caught:
        expectation(score, chain(3), None, where="s.json")
    assert caught.value.message == (
        "s.json expects no accepted draft token at settings 3,1,4; expected some, or there is no "
        "fall to see"
    )
    assert caught.value.hint == (
        "Find out why with eagle3 check DRAFT --target TARGET and eagle3 score."
    )


def test_a_bench_and_a_sidecar_are_read_too() -> None:
    assert expectation(BENCH, chain(3), None, where="b").mean == pytest.approx(1.2)
    sidecar = {"schema": 1, "config_sha256": "0", "expected_acceptance": SCORE}
    assert expectation(sidecar, chain(3), None, where="d").floor == pytest.approx(0.96)


def test_the_end_of_an_answer_costs_half_a_round_of_mean_size() -> None:
    """Rounds of 1, 2, 3, 4 tokens in 40, 20, 20, 20 %: (6.2 / 2.2 - 1) / 2."""
    found = expectation(SCORE, chain(3), "replay", where="s")
    assert found.lost_tokens == pytest.approx((6.2 / 2.2 - 1) / 2)


@pytest.mark.parametrize(("text", "slack"), [(None, None), ("replay", "replay"), ("0.1", 0.1)])
def test_slack_is_a_share_or_replay(text: str | None, slack: Slack) -> None:
    assert parse_slack(text) == slack


@pytest.mark.parametrize("text", ["1", "-0.1", "nan", "much"])
def test_another_slack_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_slack(text)
    assert caught.value.message == (
        f"--slack is {text!r}, expected a share from 0 to below 1, or replay"
    )


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_expected(tmp_path / "no.json")
    assert caught.value.message == (
        f"--expected {tmp_path}/no.json: No such file or directory; expected a file of score "
        "--json or bench --json"
    )
    assert caught.value.hint == "eagle3 score DRAFT --target TARGET --save"


def test_a_file_is_read_as_json(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(SCORE))
    assert read_expected(tmp_path / "s.json") == SCORE


def test_a_draft_without_a_sidecar_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotFoundError) as caught:
        expected_of_draft(str(tmp_path))
    assert caught.value.message == (
        f"{tmp_path} has no eagle3.json; expected the acceptance that a score keeps there"
    )
    assert caught.value.hint == "eagle3 score DRAFT --target TARGET --save"


def test_a_drafts_sidecar_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "eagle3.json").write_text('{"schema": 1}')
    assert expected_of_draft(str(tmp_path)) == {"schema": 1}
