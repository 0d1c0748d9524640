"""Turns and modalities by themselves: how fast, how late, and how often drafts were right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eagle3_plugin.measuring.record import Quantiles
from eagle3_plugin.measuring.result import Group, Summary
from eagle3_plugin.report import numbers
from eagle3_plugin.report.accepted import acceptance_cells, acceptance_columns, most_positions
from eagle3_plugin.report.page import Cell, Column, Section, Table, count, estimate, number, text
from eagle3_plugin.report.view import SPEED, View, set_name
from eagle3_plugin.report.words import CONDITIONAL_MEANING

NAMES = (
    Column("set", is_number=False),
    Column("parallel"),
    Column("server", is_number=False),
    Column("part", is_number=False),
)

SPEED_COLUMNS = (
    *NAMES,
    Column("answers", "measured"),
    Column("tokens/s per conversation", "measured"),
    Column("speedup", "measured"),
    Column("time to first token, median", "measured"),
    Column("time per output token, median", "measured"),
    Column("end-to-end latency, median", "measured"),
)

NOTE = (
    "Tokens/s and speedup are of these answers alone: their output tokens by the seconds that they "
    "took. There is no tokens/s in all of a part, for other parts run at the same time."
)

CONDITIONAL = f"Position by position: {CONDITIONAL_MEANING}"

Part = tuple[Summary, Group]


def parts(view: View) -> Section | None:
    """None where there is one turn and one modality."""
    found = [(summary, group) for summary in view.summaries() for group in summary.groups]
    if not found:
        return None
    rows = tuple((*_names(part), *_speed_cells(part[1])) for part in found)
    table = Table("Speed of turns and modalities", SPEED_COLUMNS, rows, NOTE)
    tables = (table, *_acceptance(view, found))
    return Section("By turn and by modality", tables, is_folded=True)


def _acceptance(view: View, found: Sequence[Part]) -> Iterator[Table]:
    """Nothing where no server says what it accepted in an answer."""
    most = most_positions(view)
    rows = tuple(
        (*_names(part), *acceptance_cells(known.counts, most))
        for part in found
        if (known := part[1].acceptance)
    )
    if rows:
        columns = (*NAMES, *acceptance_columns(most))
        yield Table("Acceptance of turns and modalities", columns, rows, CONDITIONAL)


def _names(part: Part) -> tuple[Cell, ...]:
    summary, group = part
    return (
        text(set_name(summary.set)),
        count(summary.concurrency),
        text(summary.server),
        text(f"turn {group.name}" if group.by == "turn" else group.name),
    )


def _speed_cells(group: Group) -> tuple[Cell, ...]:
    def median(found: Quantiles | None) -> Cell:
        return number(found.p50 if found else None, numbers.seconds)

    return (
        count(group.num_requests),
        estimate(group.estimates.get(SPEED)),
        estimate(group.ratios.get(SPEED), numbers.ratio),
        median(group.time_to_first_token_s),
        median(group.time_per_output_token_s),
        median(group.request_s),
    )
