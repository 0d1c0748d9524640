"""What training shows on stderr."""

from __future__ import annotations

import pytest

from eagle3_plugin.tiny.progress import progress_lines


def _train(quiet: bool = False) -> None:
    with progress_lines(quiet) as update:
        for what in ("train the target", "let it write"):
            for done in (1, 2, 3):
                update(what, done, 3)


def test_a_log_gets_one_line_for_each_thing(capsys: pytest.CaptureFixture[str]) -> None:
    _train()
    assert capsys.readouterr() == ("", "train the target: 3 steps\nlet it write: 3 steps\n")


def test_a_terminal_gets_one_bar_for_each_thing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    _train()
    last = capsys.readouterr().err.split("\n")[-3:]
    assert [line.count("100%") for line in last[:2]] == [1, 1]
    assert "train the target" in last[0]
    assert "let it write" in last[1]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    _train(quiet=True)
    assert capsys.readouterr() == ("", "")
