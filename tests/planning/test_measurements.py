from __future__ import annotations

import re
from pathlib import Path

import pytest

from eagle3_plugin.errors import Eagle3Error, NotFoundError, UsageError
from eagle3_plugin.planning.measurements import (
    COLUMNS,
    Group,
    GroupKey,
    Point,
    decide,
    parse_points,
    read_points,
)
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings, chain

HEADER = ",".join(COLUMNS)
PROBE = chain(3)


def parsed(*rows: str) -> tuple[Group, ...]:
    return parse_points("\n".join((HEADER, *rows)), "points.csv")


def test_a_row_without_results_is_a_candidate() -> None:
    (group,) = parsed("T,D,gsm8k,8,3,1,4,2.64,1071.29,1488.36", "T,D,gsm8k,8,5,3,6,,,")

    assert group == Group(
        GroupKey("T", "D", "gsm8k", 8),
        {
            PROBE: Point(PROBE, 2.64, 1071.29, 1488.36),
            Settings(5, 3, 6): Point(Settings(5, 3, 6), None, None, None),
        },
    )
    assert group.candidates == (OFF, PROBE, Settings(5, 3, 6))


def test_rows_that_differ_in_more_than_settings_are_of_different_groups() -> None:
    rows = ["T,D,a,8", "T,D,b,8", "T,D,a,1", "U,D,a,8", "T,E,a,8"]

    assert len(parsed(*(f"{row},3,1,4,2.0,100,150" for row in rows))) == 5


def test_a_group_gets_a_choice_of_its_settings_and_predictions_for_all() -> None:
    # From the sweep: Llama-3.1-8B, math500, where the chain of 7 was the fastest.
    groups = parsed(
        "T,D,math500,1,3,1,4,3.48,181.8,468.5",
        "T,D,math500,1,5,1,6,,,",
        "T,D,math500,1,7,1,8,,,",
        "T,D,math500,1,7,4,8,,,",
    )

    (found,) = decide(groups, PROBE).decisions

    assert found.choice == chain(7)
    assert list(map(str, found.predicted_speedup)) == ["off", "3,1,4", "5,1,6", "7,1,8", "7,4,8"]
    assert found.predicted_speedup[PROBE] == pytest.approx(2.577, abs=0.001)
    # Measured: 3.112 and 3.340.
    assert found.predicted_speedup[chain(5)] == pytest.approx(3.112, rel=0.05)
    assert found.predicted_speedup[chain(7)] == pytest.approx(3.340, rel=0.05)


def test_the_results_of_other_rows_change_nothing() -> None:
    probe = "T,D,b,8,3,1,4,2.64,1000,1400"
    alone = parsed(probe, "T,D,b,8,5,1,6,,,")
    measured = parsed(probe, "T,D,b,8,5,1,6,5.9,1000,9000")

    assert decide(alone, PROBE) == decide(measured, PROBE)


def test_the_baseline_may_be_in_another_row_of_the_group() -> None:
    groups = parsed("T,D,b,8,3,1,4,2.64,,1400", "T,D,b,8,5,1,6,,1000,")

    assert decide(groups, PROBE).decisions[0].predicted_speedup[PROBE] == 1.4


def test_where_everything_loses_the_choice_is_off() -> None:
    (found,) = decide(parsed("T,D,b,1,3,1,4,1.86,180,129.2"), PROBE).decisions

    assert (found.choice, found.to_json()["choice"]) == (OFF, "off")


def test_groups_without_the_probe_are_skipped_and_named() -> None:
    groups = parsed("T,D,a,8,3,1,4,2.64,1000,1400", "T,D,b,8,5,1,6,3.0,1000,1500")

    found = decide(groups, PROBE)

    assert [d.key.benchmark for d in found.decisions] == ["a"]
    assert found.skipped == (GroupKey("T", "D", "b", 8),)


def test_the_json_form() -> None:
    found = decide(parsed("T,D,a,8,3,1,4,2.8,1000,1400", "T,D,b,8,5,1,6,,,"), PROBE)

    assert found.to_json() == {
        "schema": 1,
        "probe": {"num_steps": 3, "topk": 1, "num_draft_tokens": 4},
        "groups": [
            {
                "target": "T",
                "draft": "D",
                "benchmark": "a",
                "concurrency": 8,
                "choice": {"num_steps": 3, "topk": 1, "num_draft_tokens": 4},
                "predicted_speedup": {"off": 1.0, "3,1,4": pytest.approx(1.4)},
            }
        ],
        "skipped": [{"target": "T", "draft": "D", "benchmark": "b", "concurrency": 8}],
    }


def test_a_probe_that_nobody_measured_is_an_error_that_names_those_that_were() -> None:
    with pytest.raises(UsageError) as caught:
        decide(parsed("T,D,a,8,3,1,4,2.64,1000,1400", "T,D,a,8,5,1,6,,,"), chain(5))

    assert caught.value.message == (
        "none of the 1 groups has tokens_per_verify, tokens_per_s and a baseline at the probe 5,1,6"
    )
    assert caught.value.hint == "Measured in some group: 3,1,4"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("T,D,b,8,3,1,4,2,1000,1400,9", "line 2: more than 10 cells, expected one for each column"),
        ("T,D,b,x,3,1,4,2,1000,1400", "line 2: concurrency is 'x', expected a whole number"),
        ("T,D,b,8,3", "line 2: topk is None, expected a whole number"),
        ("T,D,b,8,3,1,9,2,1000,1400", "line 2: settings 3,1,9: num_draft_tokens is 9, expected 4"),
        (
            "T,D,b,8,3,1,4,0.9,1000,1400",
            "line 2: 0.9 tokens per verify with settings 3,1,4, expected 1",
        ),
        (
            "T,D,b,8,3,1,4,4.1,1000,1400",
            "line 2: 4.1 tokens per verify with settings 3,1,4, expected 1",
        ),
        ("T,D,b,8,3,1,4,2,0,1400", "baseline_tokens_per_s is '0', expected a number above 0"),
        ("T,D,b,8,3,1,4,2,1000,fast", "tokens_per_s is 'fast', expected a number above 0"),
        ("T,D,b,8,3,1,4,2,1000,nan", "tokens_per_s is 'nan', expected a number above 0"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(row: str, message: str) -> None:
    with pytest.raises(Eagle3Error, match=re.escape(message)):
        parsed(row)


def test_all_wrong_rows_are_listed() -> None:
    with pytest.raises(Eagle3Error) as caught:
        parsed("T,D,b,8,3,1,4,,,", "T,D,b,8,3,1,4,,,", "T,D,b,8,0,1,4,,,")

    assert caught.value.message == (
        "points.csv: 2 wrong row(s)\n"
        "  line 3: 3,1,4 is there twice in its group\n"
        "  line 4: settings 0,1,4: num_steps is 0, expected at least 1"
    )


def test_missing_columns_are_named() -> None:
    with pytest.raises(Eagle3Error, match="has no columns topk, num_draft_tokens"):
        parse_points(HEADER.replace("topk,num_draft_tokens,", ""), "points.csv")


def test_a_file_without_rows_is_an_error() -> None:
    with pytest.raises(Eagle3Error, match=r"points\.csv has no rows, expected at least one"):
        parsed()


def test_a_cell_beyond_the_readers_limit_is_not_csv() -> None:
    with pytest.raises(Eagle3Error, match=r"points\.csv is not CSV: field larger than field limit"):
        parsed(f"{'T' * 200_000},D,b,8,3,1,4,,,")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file or directory, expected a CSV file"):
        read_points(tmp_path / "points.csv")


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_bytes(b"target\xff")

    with pytest.raises(Eagle3Error, match=r"points\.csv is not UTF-8 \(byte 6\), expected CSV"):
        read_points(tmp_path / "points.csv")
