"""What a reader has to know before the numbers: what is missing, doubtful, or not as asked."""

from __future__ import annotations

from collections.abc import Iterator

from eagle3_plugin.measuring.result import Missing
from eagle3_plugin.report.equality import verdict
from eagle3_plugin.report.page import Column, Notice, Section, Table, count, text
from eagle3_plugin.report.view import View

COLUMNS = (
    Column("server", is_number=False),
    Column("set", is_number=False),
    Column("parallel", is_number=False),
    Column("repeat", is_number=False),
    Column("conversations"),
    Column("reason", is_number=False),
)


def notices(view: View) -> Iterator[Notice]:
    """Worst first; then, in one line each, whether outputs equal the baseline's."""
    result = view.result
    if result.is_partial:
        yield Notice("bad", _partial(view), tuple(_said(m) for m in result.missing))
    elif result.missing:
        num = sum(m.num_conversations for m in result.missing)
        refused = f"The servers refused {num:,} conversation(s); the numbers are of the rest."
        yield Notice("doubt", refused, tuple(_said(m) for m in result.missing))
    if result.problems:
        text = "Doubtful: some of the figures below contradict each other."
        yield Notice("bad", text, result.problems)
    notes = [f"{server.name}: {note}" for server in result.servers for note in server.notes]
    if notes or result.provenance.notes:
        yield Notice("doubt", "Notes on this run.", (*result.provenance.notes, *notes))
    yield from map(verdict, result.equality)


def missing(view: View) -> Section | None:
    """None where all is there."""
    if not view.result.missing:
        return None
    listed = tuple(
        (
            text(m.server),
            text("all" if m.set is None else m.set),
            text("all" if m.concurrency is None else m.concurrency),
            text("all" if m.repeat is None else m.repeat + 1),
            count(m.num_conversations),
            text(m.reason),
        )
        for m in view.result.missing
    )
    return Section("What is missing", (Table("Not measured", COLUMNS, listed),))


def _partial(view: View) -> str:
    num = sum(m.num_conversations for m in view.result.missing)
    if not num:
        return "Partial: the run did not come to its end."
    rest = "the numbers are of the rest" if view.loads else "nothing was measured"
    return f"Partial: {num:,} conversation(s) of this run are missing; {rest}."


def _said(one: Missing) -> str:
    parts = [
        one.server,
        "all sets" if one.set is None else one.set,
        "all loads" if one.concurrency is None else f"{one.concurrency} parallel",
        "all repeats" if one.repeat is None else f"repeat {one.repeat + 1}",
    ]
    reason = " ".join(one.reason.split())
    return f"{', '.join(parts)}: {one.num_conversations} conversation(s) missing: {reason}"
