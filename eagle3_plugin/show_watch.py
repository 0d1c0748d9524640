"""A watched engine on a terminal: a view that renews itself, or a line for each reading."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from eagle3_plugin import console
from eagle3_plugin.console import percent
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.watching.window import is_full

if TYPE_CHECKING:
    from eagle3_plugin.settings import Settings
    from eagle3_plugin.watching.advice import Advice
    from eagle3_plugin.watching.expected import Expectation
    from eagle3_plugin.watching.rule import Rule
    from eagle3_plugin.watching.watch import Sight

BAR_WIDTH = 30
NO_POSITIONS = "SGLang has acceptance by position in each answer only, not in its metrics"

Show = Callable[["Sight", "Rule | None", "Advice | None"], None]


@contextmanager
def showing() -> Iterator[Show]:
    """A live view where stdout is a terminal, else lines; the terminal is as before afterwards."""
    if not console.out.is_terminal:
        yield lambda *seen: console.out.print(line(*seen), markup=False)
        return
    with Live(console=console.out, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda *seen: live.update(view(*seen), refresh=True)


def line(sight: Sight, rule: Rule | None, advice: Advice | None) -> str:
    """One reading on one line."""
    parts = [_time(), _load(sight)]
    if sight.trouble is None and sight.watched.settings is not None:
        parts.append(_tokens_per_verify(sight, rule))
        counts = sight.total.counts if sight.total else None
        if counts and sight.watched.reports_positions:
            parts.append("accepted " + " ".join(map(percent, counts.acceptance_rate)))
    parts += [f"{name} {text}" for name, text in _notes(sight, rule, advice)]
    return " | ".join(parts)


def view(sight: Sight, rule: Rule | None, advice: Advice | None) -> RenderableType:
    """The whole view: load, acceptance by position, evidence for an alarm, the planner's choice."""
    watched = sight.watched
    drafting = "no speculation" if watched.settings is None else f"settings {watched.settings}"
    parts: list[RenderableType] = [
        Text.from_markup(f"[bold]{escape(watched.url)}[/]  {watched.engine}, {drafting}"),
        Text(f"{_time()}  {_load(sight)}", style="red" if sight.trouble else ""),
    ]
    if watched.settings is not None:
        parts.append(Text(_tokens_per_verify(sight, rule), style="bold"))
        parts.append(_positions(sight, rule))
    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, text in _notes(sight, rule, advice):
        style = "bold red" if name == "ALARM" else "bold"
        facts.add_row(Text(name, style=style), Text(text))
    return Group(*parts, facts, Text("Ctrl-C ends the watch", style="dim"))


def _positions(sight: Sight, rule: Rule | None) -> RenderableType:
    if not sight.watched.reports_positions:
        return Text(NO_POSITIONS, style="dim")
    counts = sight.total.counts if sight.total else None
    rates = counts.acceptance_rate if counts else ()
    expected = rule.expected.acceptance_rate if rule and _is_full(sight) else ()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("position", "accepted", "expected", ""):
        table.add_column(title, justify="right" if title else "left")
    for index, rate in enumerate(rates):
        known = expected[index] if index < len(expected) else None
        table.add_row(str(index), percent(rate), percent(known), _bar(rate or 0.0, known))
    return table


def _bar(rate: float, expected: float | None) -> Text:
    """As long as the rate, with a mark where it is expected to end."""
    length = round(BAR_WIDTH * rate)
    cells = ["█" if i < length else " " for i in range(BAR_WIDTH + 1)]
    if expected is not None:
        cells[round(BAR_WIDTH * expected)] = "|"
    is_low = expected is not None and rate < 0.8 * expected
    return Text("".join(cells), style="red" if is_low else "green")


def _is_full(sight: Sight) -> bool:
    """Else positions that were not drafted would look as if they were rejected."""
    settings, counts = sight.watched.settings, sight.total.counts if sight.total else None
    return settings is None or counts is None or is_full(settings, counts)


def _load(sight: Sight) -> str:
    if sight.trouble is not None:
        return f"cannot be read: {sight.trouble.message}"
    if sight.reading is None or sight.total is None:
        return "first reading"
    reading, total = sight.reading, sight.total
    text = f"{reading.num_running:g} running, {reading.num_waiting:g} waiting"
    return f"{text}, {total.tokens_per_s:.1f} tokens/s over {total.elapsed_s:.0f} s"


def _tokens_per_verify(sight: Sight, rule: Rule | None) -> str:
    counts = sight.total.counts if sight.total else None
    expected = "" if rule is None else f", {_expected(rule.expected)}"
    if counts is None or counts.tokens_per_verify is None:
        return f"no round in the window{expected}"
    least = "" if sight.watched.reports_positions else "at least "
    return f"{least}{counts.tokens_per_verify:.2f} tokens per verify{expected}"


def _expected(expected: Expectation) -> str:
    return f"expected {expected.tokens_per_verify:.2f}, healthy from {1 + expected.floor:.2f}"


def _notes(sight: Sight, rule: Rule | None, advice: Advice | None) -> list[tuple[str, str]]:
    notes = []
    if sight.num_restarts:
        notes.append(("restarts", f"{sight.num_restarts}, counted anew each time"))
    if sight.num_unjudged:
        notes.append(("not judged", f"{sight.num_unjudged} rounds of another draft length"))
    if not _is_full(sight):
        notes.append(("positions", "shares of all rounds, of which some drafted fewer tokens"))
    if sight.verdict is not None and rule is not None:
        verdict = sight.verdict
        since = f"{verdict.num_requests:g} requests, {verdict.num_rounds} rounds"
        name = "ALARM" if verdict.is_alarm else "evidence"
        notes.append((name, f"{percent(verdict.evidence)} of an alarm, from {since}"))
    if advice is not None:
        notes.append(("planner", _advice(advice, sight.watched.settings)))
    return notes


def _advice(advice: Advice, settings: Settings | None) -> str:
    if advice.choice is None:
        return f"no plan: {advice.problem}"
    speedup = "" if advice.speedup is None else f", {advice.speedup:.2f}x predicted"
    now = "as it runs" if advice.choice == settings else "now"
    if advice.choice is OFF:
        return f"would leave speculation off at {advice.num_requests} request(s)"
    return f"would set {advice.choice} {now}, at {advice.num_requests} request(s){speedup}"


def _time() -> str:
    return datetime.datetime.now().strftime("%H:%M:%S")
