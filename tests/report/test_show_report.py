"""The summary in a terminal of 80 columns."""

from __future__ import annotations

import pytest

from eagle3_plugin import console
from eagle3_plugin.show_report import show_result
from tests.report import results


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "_width", 80)


@pytest.mark.usefixtures("narrow")
def test_the_table_has_the_speedup_with_its_interval_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_result(results.with_speedup(results.sets(), "5,1,6", 2, 2.25))
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line for line in lines if line.startswith("│ all sets") and "5,1,6" in line)
    assert "2.25x (2.15-2.35)" in row
    assert max(len(line) for line in lines if line.startswith("│")) <= 80
    assert any(line.startswith("fastest at 2 parallel: 5,1,6, 2.25x (2.15-2.35)") for line in lines)


def test_a_speedup_below_1_is_not_called_the_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(results.with_speedup(results.card(), "5,4,16", 1, 0.5))
    assert "fastest at 1 parallel: the baseline; then 5,4,16, 0.500x" in capsys.readouterr().out


def test_what_is_missing_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(results.sets())
    first, detail, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("attention: Partial: 12 conversation(s) of this run are missing")
    assert detail.endswith("the engine ended with exit code 137 while it served")


def test_the_card_is_a_table_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(results.card())
    out = capsys.readouterr().out
    assert "tokens per verify: the card, and here" in out
    assert "3.33" in out
    assert "the card: https://huggingface.co/Zjcxy-SmartAI/" in out


@pytest.mark.usefixtures("narrow")
def test_what_ran_in_place_of_the_cards_settings_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_result(results.stand_in())
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "5,4,16 (here 5,1,6)" in line and "mt-bench-zh" in line]
    assert max(len(line) for line in lines if line.startswith("│")) <= 80


def test_names_with_markup_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(results.renamed(results.sets(), {"gsm8k": "[red]x[/]"}))
    assert "[red]x[/]" in capsys.readouterr().out


@pytest.mark.parametrize("make", [results.nothing, results.one_cell])
def test_a_result_without_speculation_needs_no_table_of_it(
    make: results.Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    show_result(make())
    assert "fastest" not in capsys.readouterr().out
