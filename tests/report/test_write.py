"""Where the files go, and that none is lost; the verb as it is typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from eagle3_plugin.cli_report import report
from eagle3_plugin.errors import Eagle3Error, NotFoundError, OutputError, UsageError
from eagle3_plugin.report.write import report_files, write_report
from tests.report import results

APP = typer.Typer()
APP.command()(report)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A result in a folder of its own."""
    return Path(shutil.copy(results.EXAMPLES / "example_card.json", tmp_path / "run.json"))


def test_the_page_stands_beside_the_result(source: Path) -> None:
    assert report_files(source, None, ()) == {"html": source.with_name("run.html")}
    assert report_files(source, None, ["csv", "markdown"]) == {
        "html": source.with_name("run.html"),
        "markdown": source.with_name("run.md"),
        "csv": source.with_name("run.csv"),
    }


def test_a_named_page_takes_the_others_along(source: Path, tmp_path: Path) -> None:
    assert report_files(source, tmp_path / "for you.html", ["markdown"]) == {
        "html": tmp_path / "for you.html",
        "markdown": tmp_path / "for you.md",
    }


def test_a_folder_gets_the_result_too(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert report_files(source, out, ()) == {"html": out / "run.html", "json": out / "run.json"}
    assert report_files(source, source.parent, ()) == {"html": source.with_name("run.html")}


def test_another_suffix_is_wrong_use(source: Path) -> None:
    with pytest.raises(UsageError, match=r"--out is 'x\.pdf'; expected a folder, or a file whose"):
        report_files(source, Path("x.pdf"), ())


def test_a_file_that_exists_is_kept_and_nothing_else_is_written(source: Path) -> None:
    files = report_files(source, None, ["markdown"])
    files["markdown"].write_text("mine")
    with pytest.raises(OutputError, match=r"run\.md exists, expected a name that is free"):
        write_report(source, files, force=False)
    assert files["markdown"].read_text() == "mine"
    assert not files["html"].exists()
    write_report(source, files, force=True)
    assert files["markdown"].read_text().startswith("# Eagle3-Qwen3-4B")


def test_the_result_itself_is_never_replaced(source: Path) -> None:
    named = Path(shutil.move(source, source.with_suffix(".html")))
    with pytest.raises(UsageError, match="would take the place of the result"):
        write_report(named, report_files(named, None, ()), force=True)


def test_a_folder_in_the_place_of_a_file_is_not_replaced(source: Path) -> None:
    source.with_suffix(".html").mkdir()
    with pytest.raises(OutputError, match=r"run\.html exists"):
        write_report(source, report_files(source, None, ()), force=True)


def test_a_folder_that_cannot_be_made_is_an_error(source: Path, tmp_path: Path) -> None:
    files = report_files(source, tmp_path / "no" / "such", ())
    with pytest.raises(OutputError, match="could not be written: No such file or directory"):
        write_report(source, files, force=False)


def test_what_is_no_result_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    with pytest.raises(NotFoundError, match=r"other\.json cannot be read"):
        write_report(other, report_files(other, None, ()), force=False)
    other.write_text('{"schema": 1, "kind": "plan"}')
    with pytest.raises(Eagle3Error, match="has schema 1 and kind 'plan'; expected 1 and 'bench'"):
        write_report(other, report_files(other, None, ()), force=False)
    assert list(tmp_path.iterdir()) == [other]


def test_the_verb_shows_the_result_and_names_what_it_wrote(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(source), "--out", str(tmp_path / "out"), "--markdown", "--csv"]
    with capsys.disabled():
        run = CliRunner().invoke(APP, words)
    assert (run.exit_code, run.exception) == (0, None)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["run.csv", "run.html", "run.json", "run.md"]
    assert (tmp_path / "out" / "run.json").read_bytes() == source.read_bytes()
    again = CliRunner().invoke(APP, words)
    assert isinstance(again.exception, OutputError)
    assert CliRunner().invoke(APP, [*words, "--force"]).exit_code == 0
