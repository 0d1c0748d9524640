"""The loops as CSV: one row each, all digits, seconds and tokens."""

from __future__ import annotations

import csv
import io
from typing import Final

from eagle3_plugin.measuring.record import Acceptance, Quantiles
from eagle3_plugin.measuring.result import Cell, Result

NAMES: Final = ("server", "set", "concurrency", "repeat", "begun_at")
COUNTS: Final = ("num_conversations", "num_requests", "num_tokens")
SPEEDS: Final = ("elapsed_s", "tokens_per_s", "tokens_per_s_per_conversation")
TIMES: Final = ("time_to_first_token_s", "time_per_output_token_s", "request_s")
COUNTED: Final = ("acceptance_from", "num_rounds_counted")
ACCEPTED: Final = ("num_rounds", "num_draft_tokens", "accepted_draft_tokens", "tokens_per_verify")
RATE: Final = "acceptance_rate_conditional"

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet takes a cell for a formula; a name that begins so gets an apostrophe."""

Value = str | int | float | None


def loops_csv(result: Result) -> str:
    """The text of the file; an empty cell is what was not measured. Repeats begin at 0."""
    most = max((_num_positions(cell.acceptance) for cell in result.cells), default=0)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns(most))
    for cell in result.cells:
        writer.writerow([_safe(value) for value in _row(cell, most)])
    return out.getvalue()


def columns(num_positions: int) -> tuple[str, ...]:
    """The header, for drafts of at most so many positions (counted from 1)."""
    spreads = (f"{name}_{part}" for name in TIMES for part in Quantiles.model_fields)
    rates = (f"{RATE}_{place + 1}" for place in range(num_positions))
    return (*NAMES, *COUNTS, *SPEEDS, *spreads, *ACCEPTED, *COUNTED, *rates)


def _row(cell: Cell, num_positions: int) -> list[Value]:
    own: list[Value] = [getattr(cell, name) for name in (*NAMES, *COUNTS, *SPEEDS)]
    spreads: list[Value] = [
        getattr(getattr(cell, name), part, None)
        for name in TIMES
        for part in Quantiles.model_fields
    ]
    accepted: list[Value] = [getattr(cell.acceptance, name, None) for name in ACCEPTED]
    counted: list[Value] = [getattr(cell, name) for name in COUNTED]
    rates = list(cell.acceptance.acceptance_rate_conditional) if cell.acceptance else []
    empty = [None] * (num_positions - len(rates))
    return [*own, *spreads, *accepted, *counted, *rates, *empty]


def _num_positions(found: Acceptance | None) -> int:
    return len(found.acceptance_rate_conditional) if found else 0


def _safe(value: Value) -> Value:
    is_formula = isinstance(value, str) and value.startswith(FORMULA_STARTS)
    return f"'{value}" if is_formula else value
