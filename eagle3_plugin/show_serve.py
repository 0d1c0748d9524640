"""What `eagle3 serve` says: the check, the choice, the command, and the engine's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eagle3_plugin import console
from eagle3_plugin.serving.causes import plain
from eagle3_plugin.serving.launch import Voice

if TYPE_CHECKING:
    from eagle3_plugin.errors import Eagle3Error
    from eagle3_plugin.serving.choice import Chosen
    from eagle3_plugin.serving.compose import Command
    from eagle3_plugin.serving.preflight import Preflight
    from eagle3_plugin.serving.redact import Secrets


def show_preflight(flight: Preflight) -> None:
    """Errors and warnings; what is only worth knowing is left to `eagle3 check`."""
    for problem in flight.problems:
        _finding("error", problem.id, problem.message, problem.hint or "")
    findings = flight.report.findings if flight.report else ()
    for finding in findings:
        if finding.severity != "info":
            _finding(finding.severity, finding.id, finding.found, finding.remedy)
    if flight.ok:
        by = "with the plugin" if flight.plugin else "as stock"
        _say("check", f"ok: nothing that would make the result wrong, served {by}")


def show_unchecked(error: Eagle3Error) -> None:
    """The check could not be made."""
    _finding("warning", "not-checked", error.message, error.hint or "")


def show_choice(chosen: Chosen, command: Command) -> None:
    """Why these settings, what the user's words replaced, and the command as it would be typed."""
    for reason in chosen.reasons:
        head, _, rest = reason.partition(": ")
        _say(head, rest)
    for note in command.notes:
        _say("note", note)
    if command.adaptive is not None:
        path, text = command.adaptive
        _say("schedule", f"{path} will hold {' '.join(text.split())}")
    console.out.print(f"\n{command.shown}\n", markup=False)


@contextmanager
def speaking(secrets: Secrets) -> Iterator[Voice]:
    """A voice for `launch`: stages on stdout, the engine's log on stderr, nothing secret in either.

    While the engine loads, a terminal shows how long that takes.
    """
    with console.progress_bar("loading") as update:

        def stage(text: str) -> None:
            console.out.print(secrets.hide(text), markup=False)

        def line(text: str) -> None:
            console.err.print(secrets.hide(plain(text)), markup=False)

        yield Voice(line, stage, lambda elapsed_s: update(elapsed_s, None))


def _finding(severity: str, id: str, found: str, remedy: str) -> None:
    colour = console.COLOURS[severity]
    console.out.print(f"[{colour}]{severity}[/] \\[{id}] ", end="")
    console.out.print(found, markup=False)
    for text in remedy.splitlines():
        console.out.print(f"    remedy: {text}", markup=False)


def _say(head: str, text: str) -> None:
    console.out.print(f"[bold]{head}[/]: ", end="")
    console.out.print(text, markup=False)
