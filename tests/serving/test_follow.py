"""A log that grows, read to its last line."""

from __future__ import annotations

import threading
from pathlib import Path

from eagle3_plugin.serving.follow import following


def test_each_line_is_told_once_and_in_order_to_the_last(tmp_path: Path) -> None:
    log, seen, told = tmp_path / "log", [], threading.Event()

    def emit(line: str) -> None:
        seen.append(line)
        told.set()

    with log.open("w") as file:
        file.write("before\nha")
        file.flush()
        with following(log, emit):
            assert told.wait(10)
            file.write("lf\n 10%\r 90%\n\xe9 and no end")
            file.flush()
    assert seen == ["before", "half", " 90%", "\xe9 and no end"]


def test_a_reader_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\n")

    def gone(line: str) -> None:
        raise BrokenPipeError

    with following(log, gone):
        pass


def test_a_log_that_is_not_there_is_not_followed(tmp_path: Path) -> None:
    with following(tmp_path / "log", print):
        pass
