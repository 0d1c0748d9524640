"""How long requests took: the distribution of each time, and by set, for each server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from eagle3_plugin.measuring.result import Request
from eagle3_plugin.report import numbers
from eagle3_plugin.report.page import (
    Cell,
    Column,
    Figure,
    Panel,
    Section,
    Table,
    count,
    interval,
    number,
    text,
)
from eagle3_plugin.report.ridges import Ridge, percentile, ridges
from eagle3_plugin.report.view import View, parallel, set_name
from eagle3_plugin.report.words import MEASURES


def per_output_token_s(request: Request) -> float | None:
    """The time after the first token by the tokens after it; None with less than two."""
    first_s = request.time_to_first_token_s
    if first_s is None or request.num_tokens < 2:
        return None
    return (request.request_s - first_s) / (request.num_tokens - 1)


TIMES: Final[dict[str, Callable[[Request], float | None]]] = {
    "time_to_first_token_s": lambda request: request.time_to_first_token_s,
    "time_per_output_token_s": per_output_token_s,
    "request_s": lambda request: request.request_s,
}

COLUMNS = (
    Column("measure", is_number=False),
    Column("parallel"),
    Column("server", is_number=False),
    Column("answers", "measured"),
    Column("median", "measured"),
    Column("ratio to the baseline", "measured"),
    Column("90 % within", "measured"),
    Column("99 % within", "measured"),
    Column("longest", "measured"),
)

SET_COLUMNS = (
    Column("set", is_number=False),
    Column("parallel"),
    Column("server", is_number=False),
    Column("answers", "measured"),
    *(
        Column(f"{MEASURES[name].name}, {part}", "measured")
        for name in TIMES
        for part in ("median", "95 % within")
    ),
)


def latency(view: View) -> Section | None:
    """None where no request was answered."""
    found = [
        (name, load, listed)
        for load in view.loads
        for name in TIMES
        if (listed := tuple(_ridges(view, name, load)))
    ]
    if not found:
        return None
    figure = Figure(
        "How long requests took",
        "All sets together. Few requests are a dot each; of more, the height says how many. The "
        "solid line is the median, the dashed one the 90th percentile.",
        ("measured",),
        (),
        tuple(_panel(name, load, listed) for name, load, listed in found),
        _table(view, found),
    )
    return Section("Latency", (figure, *_by_set(view)))


def _panel(name: str, load: int, listed: Sequence[Ridge]) -> Panel:
    said = "; ".join(
        f"{ridge.name}: median {numbers.seconds(percentile(ridge.values, 0.5))}, "
        f"90 % within {numbers.seconds(percentile(ridge.values, 0.9))}"
        for ridge in listed
    )
    word = MEASURES[name].name
    drawing = ridges(listed, word, f"{word} with {parallel(load)}: {said}")
    return Panel(f"{word.capitalize()}, {parallel(load)}", drawing)


def _ridges(view: View, name: str, load: int) -> Iterator[Ridge]:
    for server in view.servers:
        values = _values(name, view.requests(server, view.whole, load))
        if values:
            yield Ridge(view.index(server), server, values)


def _values(name: str, requests: Iterable[Request]) -> tuple[float, ...]:
    return tuple(value for r in requests if (value := TIMES[name](r)) is not None)


def _table(view: View, found: Sequence[tuple[str, int, Sequence[Ridge]]]) -> Table:
    listed = tuple(
        _cells(view, name, load, ridge) for name, load, of_load in found for ridge in of_load
    )
    return Table("Latency by load, measure and server", COLUMNS, listed)


def _by_set(view: View) -> Iterator[Table]:
    """Nothing where the table of all sets says it already."""
    rows = tuple(
        _set_cells(set, load, server, found)
        for set in view.sets
        for load in view.loads
        for server in view.servers
        if (found := tuple(view.requests(server, set, load)))
    )
    if len(view.sets) > 1:
        yield Table("Latency by set, load and server", SET_COLUMNS, rows)


def _set_cells(set: str, load: int, server: str, found: Sequence[Request]) -> tuple[Cell, ...]:
    by_measure = [_values(name, found) for name in TIMES]
    times = (
        number(percentile(values, share) if values else None, numbers.seconds)
        for values in by_measure
        for share in (0.5, 0.95)
    )
    return (text(set_name(set)), count(load), text(server), count(len(found)), *times)


def _cells(view: View, name: str, load: int, ridge: Ridge) -> tuple[Cell, ...]:
    summary = view.summary(ridge.name, view.whole, load)
    ratios = {} if summary is None else {str(key): e for key, e in summary.ratios.items()}
    by = ratios.get(name)
    late = (percentile(ridge.values, share) for share in (0.9, 0.99))
    return (
        text(MEASURES[name].name),
        count(load),
        text(ridge.name),
        count(len(ridge.values)),
        number(percentile(ridge.values, 0.5), numbers.seconds),
        interval(by.value, by.low, by.high, numbers.ratio) if by else Cell(numbers.NONE),
        *(number(value, numbers.seconds) for value in late),
        number(max(ridge.values), numbers.seconds),
    )
