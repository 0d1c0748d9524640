"""What `eagle3 bench` says while it runs; the result itself is in show_report.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eagle3_plugin import console

if TYPE_CHECKING:
    from eagle3_plugin.measuring.journal import CellKey


@dataclass(frozen=True)
class Voice:
    """Who is told what while it runs."""

    cell: Callable[[CellKey, int, int], None]
    started: Callable[[str, str], None]
    loading: Callable[[float, str], None]


@contextmanager
def speaking(*, quiet: bool) -> Iterator[Voice]:
    """A line for each server that is started, and a bar on a terminal."""
    with console.progress_bar("bench", hidden=quiet) as update:

        def cell(key: CellKey, done: int, total: int) -> None:
            update(done, total, f"{key.server}, {key.set}, {key.concurrency} at a time")

        def started(name: str, command: str) -> None:
            if not quiet:
                console.err.print(f"start {name}", markup=False)

        yield Voice(cell, started, lambda elapsed_s, line: update(elapsed_s, None, "start"))
