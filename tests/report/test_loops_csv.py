from __future__ import annotations

import csv
import io

from eagle3_plugin.report.loops_csv import columns, loops_csv
from tests.report import results


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_columns_have_their_units() -> None:
    assert columns(2) == (
        "server",
        "set",
        "concurrency",
        "repeat",
        "begun_at",
        "num_conversations",
        "num_requests",
        "num_tokens",
        "elapsed_s",
        "tokens_per_s",
        "tokens_per_s_per_conversation",
        "time_to_first_token_s_mean",
        "time_to_first_token_s_min",
        "time_to_first_token_s_p50",
        "time_to_first_token_s_p90",
        "time_to_first_token_s_p99",
        "time_to_first_token_s_max",
        "time_per_output_token_s_mean",
        "time_per_output_token_s_min",
        "time_per_output_token_s_p50",
        "time_per_output_token_s_p90",
        "time_per_output_token_s_p99",
        "time_per_output_token_s_max",
        "request_s_mean",
        "request_s_min",
        "request_s_p50",
        "request_s_p90",
        "request_s_p99",
        "request_s_max",
        "num_rounds",
        "num_draft_tokens",
        "accepted_draft_tokens",
        "tokens_per_verify",
        "acceptance_from",
        "num_rounds_counted",
        "acceptance_rate_conditional_1",
        "acceptance_rate_conditional_2",
    )


def test_each_loop_is_a_row_with_all_digits() -> None:
    result = results.sets()
    rows = table(loops_csv(result))
    assert [(r["server"], r["set"], r["repeat"]) for r in rows][:3] == [
        ("baseline", "gsm8k", "0"),
        ("3,1,4", "gsm8k", "0"),
        ("5,1,6", "gsm8k", "0"),
    ]
    assert len(rows) == 10
    assert float(rows[1]["tokens_per_s"]) == result.cells[1].tokens_per_s


def test_what_was_not_measured_is_empty() -> None:
    baseline, chain = table(loops_csv(results.sets()))[:2]
    assert (baseline["tokens_per_verify"], baseline["acceptance_rate_conditional_1"]) == ("", "")
    assert (
        chain["acceptance_rate_conditional_3"] != "",
        chain["acceptance_rate_conditional_4"],
    ) == (
        True,
        "",
    )


def test_without_a_loop_there_is_the_header_alone() -> None:
    assert loops_csv(results.nothing()).splitlines() == [",".join(columns(0))]


def test_a_name_is_no_formula_to_a_spreadsheet() -> None:
    result = results.renamed(results.sets(), {"gsm8k": "=cmd|'/c calc'!A1"})
    assert {row["set"] for row in table(loops_csv(result))} == {"'=cmd|'/c calc'!A1", "my-images"}
