"""What the trainer is doing, on stderr: moving bars on a terminal, else a line for each thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID, TimeElapsedColumn

Update = Callable[[str, int, int], None]
"""What is being done, steps done, steps in all."""


@contextmanager
def progress_lines(quiet: bool) -> Iterator[Update]:
    """A function that shows progress; nothing is shown until it is called."""
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _announce(console)
        return
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        yield _move(bar)


def _move(bar: Progress) -> Update:
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done)

    return update


def _announce(console: Console) -> Update:
    def update(what: str, done: int, total: int) -> None:
        if done == 1:
            console.print(f"{what}: {total} steps")

    return update
