"""What people see: tables, progress, next steps. Machines get `print_json` on stdout instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

COLOURS = {"error": "bold red", "warning": "yellow", "info": "blue"}


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(message: str, hint: str | None) -> None:
    err.print(f"[bold red]error:[/] {escape(message)}")
    for line in (hint or "").splitlines():
        err.print(f"[cyan]hint:[/] {escape(line)}")


def print_next(*commands: str) -> None:
    """The commands that a user would want next."""
    out.print("\n[bold]next:[/]")
    for command in commands:
        out.print(f"  {escape(command)}")


def print_pairs(title: str, pairs: Sequence[tuple[str, Any]]) -> None:
    """A two-column table of facts."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, escape(str(value)))
    out.print(table)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table with a header; everything but the first column is aligned right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


@contextmanager
def progress_bar(title: str, *, hidden: bool = False) -> Iterator[Callable[..., None]]:
    """A bar on stderr; the yielded function takes (done, total) and an optional new title."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    silent = hidden or not err.is_terminal
    with Progress(*columns, console=err, disable=silent, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: float, total: float | None, description: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=description or title)

        yield update


def shown(name: object) -> str:
    """A path or hub id as people read it: the home folder is ~."""
    home = str(Path.home())
    text = str(name)
    return "~" + text[len(home) :] if text.startswith(home + "/") else text


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
