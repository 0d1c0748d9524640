"""What was said before against what came out: the draft's card, and the planner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eagle3_plugin.measuring.record import BASELINE
from eagle3_plugin.measuring.result import CardFigure, CardTable, Prediction
from eagle3_plugin.report import numbers
from eagle3_plugin.report.page import (
    Basis,
    Cell,
    Column,
    Figure,
    Panel,
    Section,
    Table,
    interval,
    number,
    text,
)
from eagle3_plugin.report.rows import Mark, Row, rows
from eagle3_plugin.report.view import SPEEDUP, View, measured, parallel
from eagle3_plugin.report.words import measure

BASES: dict[str, Basis] = {"measured": "measured", "datasheet": "datasheet", "modelled": "modelled"}

CARD_COLUMNS = (
    Column("set", is_number=False),
    Column("parallel", is_number=False),
    Column("settings", is_number=False),
    Column("measure", is_number=False),
    Column("card", "card"),
    Column("here", "measured"),
    Column("difference"),
)


@dataclass(frozen=True)
class Pair:
    """One promise and its outcome, either with its interval. index: the outcome's colour."""

    measure: str
    name: str
    index: int
    said: tuple[float, float | None, float | None]
    found: tuple[float, float | None, float | None] | None


def card(view: View) -> Section | None:
    """The card's figures beside ours; None without a card."""
    table = view.result.card
    if table is None:
        return None
    pairs = [_card_pair(view, table, figure) for figure in table.figures]
    figure = Figure(
        "The card's promise and what came out",
        f"{table.draft}, as printed at {table.source}.",
        ("card", "measured"),
        view.keys(_shown(view, pairs), "card"),
        tuple(_panels(pairs, "card")),
        _card_table(table),
    )
    return Section("Against the card", (figure, *table.notes))


def predictions(view: View) -> Section | None:
    """The planner's figures beside ours; None where the result carries none."""
    given = view.result.predictions
    if not given:
        return None
    pairs = [_predicted_pair(view, p) for p in given]
    bases = tuple(dict.fromkeys(_basis(p) for p in given))
    figure = Figure(
        "What the planner predicted and what came out",
        "The prediction was made before the run, from the figures that its label names.",
        (*(b for b in bases if b != "measured"), "measured"),
        view.keys(_shown(view, pairs), "predicted"),
        tuple(_panels(pairs, "predicted")),
        _prediction_table(given, pairs),
    )
    return Section("Against the plan", (figure,))


def settings_of(table: CardTable, figure: CardFigure) -> str:
    """The card's, and what ran in their place: "5,4,16 (here 5,1,6)"."""
    run = table.stands_for.get(figure.settings)
    if run is None or _is_of_baseline(figure):
        return figure.settings
    return f"{figure.settings} (here {run})"


def _is_of_baseline(figure: CardFigure) -> bool:
    return figure.measure.startswith(f"{BASELINE}_")


def _card_pair(view: View, table: CardTable, figure: CardFigure) -> Pair:
    found = None if figure.found is None else (figure.found, figure.low, figure.high)
    name = f"{figure.set}, {figure.settings}"
    if figure.concurrency is not None:
        name += f", {parallel(figure.concurrency)}"
    run = table.stands_for.get(figure.settings, figure.settings)
    server = BASELINE if _is_of_baseline(figure) else run
    return Pair(figure.measure, name, _index(view, server), (figure.promised, None, None), found)


def _predicted_pair(view: View, prediction: Prediction) -> Pair:
    summary = view.summary(prediction.server, view.whole, prediction.concurrency)
    found = measured(summary, prediction.measure)
    return Pair(
        prediction.measure,
        f"{prediction.server}, {parallel(prediction.concurrency)}",
        _index(view, prediction.server),
        (prediction.value, prediction.low, prediction.high),
        (found.value, found.low, found.high) if found else None,
    )


def _index(view: View, server: str) -> int:
    """As the view's; -1 also for a server that did not run."""
    return view.index(server) if server in view.speculative else -1


def _basis(prediction: Prediction) -> Basis:
    return BASES.get(prediction.basis, "modelled")


def _shown(view: View, pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The servers that have an outcome in the charts."""
    indices = {pair.index for pair in pairs if pair.found}
    return tuple(server for server in view.servers if view.index(server) in indices)


def _panels(pairs: Sequence[Pair], word: str) -> Iterator[Panel]:
    for name in dict.fromkeys(pair.measure for pair in pairs):
        words, of = measure(name), [pair for pair in pairs if pair.measure == name]
        listed = [_row(pair, word) for pair in of]
        said = "; ".join(f"{r.name}: {', '.join(m.title for m in r.marks)}" for r in listed)
        one = 1.0 if name == SPEEDUP else None
        drawing = rows(listed, words.name, words.form, f"{words.name}: {said}", one)
        yield Panel(words.name.capitalize(), drawing)


def _row(pair: Pair, word: str) -> Row:
    form = measure(pair.measure).form
    marks = [Mark(None, *pair.said, f"{word} {interval(*pair.said, form).text}")]
    if pair.found:
        marks.append(Mark(pair.index, *pair.found, f"here {interval(*pair.found, form).text}"))
    return Row(pair.name, numbers.change(_change(pair)) if pair.found else "missing", tuple(marks))


def _change(pair: Pair) -> float | None:
    return pair.found[0] / pair.said[0] - 1 if pair.found and pair.said[0] else None


def _card_table(table: CardTable) -> Table:
    return Table(
        "The card's figures and ours",
        CARD_COLUMNS,
        tuple(_card_cells(table, figure) for figure in table.figures),
        "A difference is here over card, less one.",
    )


def _card_cells(table: CardTable, figure: CardFigure) -> tuple[Cell, ...]:
    words = measure(figure.measure)
    return (
        text(figure.set),
        text("any" if figure.concurrency is None else figure.concurrency),
        text(settings_of(table, figure)),
        text(words.name),
        number(figure.promised, words.form),
        interval(figure.found, figure.low, figure.high, words.form),
        number(figure.difference, numbers.change),
    )


def _prediction_table(given: Sequence[Prediction], pairs: Sequence[Pair]) -> Table:
    bases = set(map(_basis, given))
    columns = (
        Column("server", is_number=False),
        Column("parallel"),
        Column("measure", is_number=False),
        Column("basis", is_number=False),
        Column("predicted", bases.pop() if len(bases) == 1 else None),
        Column("here", "measured"),
        Column("difference"),
    )
    listed = tuple(_prediction_cells(p, pair) for p, pair in zip(given, pairs, strict=True))
    note = "The basis says what the predicted number rests on."
    return Table("The planner's figures and ours", columns, listed, note)


def _prediction_cells(prediction: Prediction, pair: Pair) -> tuple[Cell, ...]:
    words = measure(prediction.measure)
    found: tuple[float | None, ...] = pair.found or (None, None, None)
    return (
        text(prediction.server),
        text(prediction.concurrency),
        text(words.name),
        text(prediction.basis),
        interval(*pair.said, words.form),
        interval(found[0], found[1], found[2], words.form),
        number(_change(pair), numbers.change),
    )
