"""What `eagle3 tune` says: each measurement with the time that is left, and the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eagle3_plugin import console
from eagle3_plugin.planning.settings import OFF

if TYPE_CHECKING:
    from pathlib import Path

    from eagle3_plugin.serving import process
    from eagle3_plugin.serving.tune import Progress, Report, Tuned

SCHEMA = 1
COLUMNS = ("settings", "tokens/s", "speedup", "round ms", "within", "tokens/verify", "basis")


@contextmanager
def reporting(*, quiet: bool) -> Iterator[tuple[Report, process.Progress]]:
    """A line for each measurement, and a bar on a terminal; quiet: with nothing on stdout."""
    console_of_lines = console.err if quiet else console.out
    with console.progress_bar("tune", hidden=quiet) as update:

        def report(progress: Progress) -> None:
            console_of_lines.print(progress_line(progress), markup=False)
            update(progress.done, progress.total)

        yield report, lambda elapsed_s, line: None


def progress_line(progress: Progress) -> str:
    """One measurement, or the start of a server."""
    left = "" if progress.left_s is None else f", about {duration(progress.left_s)} left"
    return f"[{progress.done} of {progress.total}{left}] {progress.what}"


def duration(seconds: float) -> str:
    """To the second up to two minutes, then to the minute."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def show_tuned(tuned: Tuned, path: Path) -> None:
    """The speeds at each load, the choice, the file."""
    for num_requests, speeds in tuned.speeds:
        off = next(s for s in speeds if s.choice is OFF)
        rows = []
        for s in speeds:
            cost = tuned.measured.cost(s.choice, num_requests)
            tokens = tuned.measured.acceptance.tokens_per_verify(s.choice).expected
            assert cost is not None
            assert tokens is not None
            speed, ratio = f"{s.tokens_per_s:.1f}", f"{s.tokens_per_s / off.tokens_per_s:.2f}x"
            basis = "measured" if s.is_measured else "between"
            round_ms, error = f"{1e3 * cost.total_s:.2f}", f"{100 * s.relative_error:.0f} %"
            rows.append([str(s.choice), speed, ratio, round_ms, error, f"{tokens:.2f}", basis])
        console.print_table(f"{num_requests} request(s) at a time", COLUMNS, rows)
        best, rivals = tuned.best(num_requests), ", ".join(map(str, tuned.rivals(num_requests)))
        unsure = f" (not told apart by these errors: {rivals})" if rivals else ""
        console.out.print(f"fastest: [bold green]{best}[/]{unsure}\n")
    console.out.print(f"profile: {console.shown(path)}", markup=False)


def tuned_json(tuned: Tuned, path: Path) -> dict[str, Any]:
    """The public form, schema 1."""
    return {
        "schema": SCHEMA,
        "profile": str(path),
        "loads": [
            {
                "num_requests": num_requests,
                "choice": str(tuned.best(num_requests)),
                "not_told_apart": [str(choice) for choice in tuned.rivals(num_requests)],
                "speeds": [
                    {
                        "settings": str(s.choice),
                        "tokens_per_s": s.tokens_per_s,
                        "is_measured": s.is_measured,
                        "relative_error": s.relative_error,
                    }
                    for s in speeds
                ],
            }
            for num_requests, speeds in tuned.speeds
        ],
    }
