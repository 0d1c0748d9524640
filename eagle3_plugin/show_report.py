"""A result in a terminal: what is missing, whether outputs are equal, and the main tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from eagle3_plugin import console
from eagle3_plugin.report import numbers
from eagle3_plugin.report.build import fastest
from eagle3_plugin.report.missing import notices
from eagle3_plugin.report.page import Notice
from eagle3_plugin.report.promised import settings_of
from eagle3_plugin.report.view import SPEED, View, measured, set_name, speedup
from eagle3_plugin.report.words import measure

if TYPE_CHECKING:
    from eagle3_plugin.measuring.record import Estimate
    from eagle3_plugin.measuring.result import CardTable, Result, Summary

COLUMNS = ("set", "parallel", "server", "tokens/s\neach", "speedup", "tokens/\nverify")
CARD_COLUMNS = ("set", "parallel", "settings", "card", "here", "difference")
"""`each`: of a conversation. Narrow enough for a terminal of 80 columns."""

COLOURS = {"good": "green", "doubt": "blue", "bad": "bold red"}
WORDS = {"good": "ok", "doubt": "note", "bad": "attention"}


def show_result(result: Result) -> None:
    """The summaries, and the card beside ours; what a reader must know stands before them."""
    view = View(result)
    for notice in notices(view):
        _show_notice(notice)
    rows = [_row(summary) for summary in view.summaries()]
    if rows:
        console.print_table("", COLUMNS, rows)
    if result.card:
        _show_card(result.card)
    best = fastest(view)
    if best:
        _show_fastest(view, best)


def _show_notice(notice: Notice) -> None:
    colour, word = COLOURS[notice.kind], WORDS[notice.kind]
    console.out.print(f"[{colour}]{word}:[/] {escape(notice.text)}")
    for detail in notice.details:
        console.out.print(f"  {escape(detail)}")


def _show_fastest(view: View, server: str) -> None:
    summary = view.summary(server, view.whole, view.loads[0])
    found = speedup(summary)
    first = "the baseline; then " if found and found.value < 1 else ""
    console.out.print(
        f"fastest at {view.loads[0]} parallel: {first}[bold green]{escape(server)}[/], "
        f"{_with_interval(found)}, "
        f"{_short(measured(summary, 'tokens_per_verify'))} tokens per verify"
    )


def _show_card(card: CardTable) -> None:
    """One table a measure."""
    for name in dict.fromkeys(figure.measure for figure in card.figures):
        words = measure(name)
        rows = [
            (
                figure.set,
                "any" if figure.concurrency is None else figure.concurrency,
                settings_of(card, figure),
                words.form(figure.promised),
                words.form(figure.found),
                numbers.change(figure.difference),
            )
            for figure in card.figures
            if figure.measure == name
        ]
        console.print_table(f"{words.name}: the card, and here", CARD_COLUMNS, rows)
    for line in (f"the card: {card.source}", *card.notes):
        console.out.print(line, markup=False)


def _row(summary: Summary) -> tuple[str, ...]:
    return (
        set_name(summary.set),
        str(summary.concurrency),
        summary.server,
        _short(measured(summary, SPEED)),
        _with_interval(speedup(summary)),
        _short(measured(summary, "tokens_per_verify")),
    )


def _short(found: Estimate | None) -> str:
    return numbers.short(found.value if found else None)


def _with_interval(found: Estimate | None) -> str:
    """1.64x (1.55-1.70): narrow, for a terminal of 80 columns."""
    if found is None:
        return numbers.NONE
    low, high = numbers.short(found.low), numbers.short(found.high)
    return numbers.ratio(found.value) + (f" ({low}-{high})" if found.low is not None else "")
