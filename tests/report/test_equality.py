"""What the report says of outputs that are the baseline's, and of those that are not."""

from __future__ import annotations

import pytest

from eagle3_plugin.measuring.result import Result
from eagle3_plugin.report.equality import equalities, verdict
from eagle3_plugin.report.page import Notice, Table
from eagle3_plugin.report.view import View
from tests.report import results


def differences(result: Result) -> Table:
    section = equalities(View(result))
    assert section is not None
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    return table


def test_equality_is_one_sentence_a_server() -> None:
    apart, equal = map(verdict, results.sets().equality)
    assert equal == Notice("good", "5,1,6: all 24 outputs equal the baseline's, token by token.")
    assert (apart.kind, apart.text) == (
        "bad",
        "3,1,4: 34 of 36 outputs equal the baseline's, token by token; near-ties: 1, different: 1. "
        "12 were not compared: later turns whose history already differed, or missing answers.",
    )


def test_why_stands_within_the_sentence() -> None:
    found = results.sets().equality[1].model_copy(update={"why": "the limit is assumed"})
    assert verdict(found).text == (
        "5,1,6: all 24 outputs equal the baseline's, token by token (the limit is assumed)."
    )


def test_near_ties_alone_are_no_failure() -> None:
    changes = {"num_equal": 35, "num_different": 0}
    assert verdict(results.sets().equality[0].model_copy(update=changes)).kind == "good"


@pytest.mark.parametrize(
    ("p_value", "kind", "words"),
    [
        (0.25, "good", "does not differ from the baseline's (p = 0.250, limit 0.001)"),
        (0.0004, "bad", "differs from the baseline's (p = 0.000400, limit 0.001)"),
    ],
)
def test_a_distribution_is_judged_by_its_p_value(p_value: float, kind: str, words: str) -> None:
    found = verdict(results.distribution(p_value))
    assert found.kind == kind
    assert words in found.text
    assert "2,000 first tokens of a vocabulary of 32" in found.text


def test_what_was_not_compared_says_why() -> None:
    why = "temperature 0.7 on the CPU"
    found = results.distribution(0.5).model_copy(update={"how": "none", "why": why})
    assert verdict(found) == Notice("doubt", f"5,1,6: not compared with the baseline: {why}.")


def test_a_difference_is_shown_at_its_place_with_both_log_probabilities() -> None:
    table = differences(results.sets())
    assert tuple(cell.text for cell in table.rows[0]) == (
        "gsm8k, conversation 3, turn 1, 2 parallel, repeat 1",
        "near-tie",
        "token 58",
        "9707 11 358",
        "21806 25 220",
        "-0.693, -0.693",
        "-0.694, -0.693",
        "both servers give the two tokens log-probabilities at most 0.0006 nats apart",
    )
    assert table.rows[0][5].exact == "-0.6931, -0.6934"


def test_an_output_that_ends_early_and_an_engine_without_logprobs_are_told() -> None:
    whole = results.sets()
    changes = {"found": (), "logprobs": None, "baseline_logprobs": None, "is_near_tie": None}
    difference = whole.equality[0].differences[0].model_copy(update=changes)
    equality = whole.equality[0].model_copy(update={"differences": (difference,)})
    table = differences(whole.model_copy(update={"equality": (equality,)}))
    assert [cell.text for cell in table.rows[0]][1:7] == [
        "unknown",
        "token 58",
        "(end)",
        "21806 25 220",
        "-",
        "-",
    ]
