"""Whether the outputs are the baseline's: a line each, and the places where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from eagle3_plugin.measuring.equal import ALPHA, ComparedBy, Difference, Equality, TokenLogprobs
from eagle3_plugin.report import numbers
from eagle3_plugin.report.page import (
    Block,
    Cell,
    Column,
    Kind,
    Notice,
    Section,
    Table,
    number,
    text,
)
from eagle3_plugin.report.view import View

COLUMNS = (
    Column("where", is_number=False),
    Column("verdict", is_number=False),
    Column("first apart at"),
    Column("here", is_number=False),
    Column("baseline", is_number=False),
    Column("log-probabilities here", "measured"),
    Column("log-probabilities, baseline", "measured"),
    Column("why", is_number=False),
)


def verdict(equality: Equality) -> Notice:
    """One sentence about one server."""
    return Notice(_kind(equality), f"{equality.server}: {_sentence(equality)}")


def equalities(view: View) -> Section | None:
    """None where the result says nothing of it (no baseline)."""
    if not view.result.equality:
        return None
    return Section("Equality with the baseline", tuple(_blocks(view)))


def _kind(equality: Equality) -> Kind:
    if equality.ok is None:
        return "doubt"
    return "good" if equality.ok else "bad"


def _blocks(view: View) -> Iterator[Block]:
    for equality in view.result.equality:
        yield verdict(equality)
        if equality.differences:
            yield _table(equality)


def _sentence(equality: Equality) -> str:
    why = f" ({equality.why})" if equality.why else ""
    if equality.how == "none":
        return f"not compared with the baseline: {equality.why or 'no reason given'}."
    if equality.how == "distribution":
        found = "differs from" if not equality.ok else "does not differ from"
        p = numbers.short(equality.p_value)
        return (
            f"at this temperature the distribution of outputs {found} the baseline's "
            f"(p = {p}, limit {ALPHA:g}){why}."
        )
    return f"{_of_outputs(equality)}{why}.{_left_out(equality)}"


_COMPARED_BY: Final[Mapping[ComparedBy | None, str]] = {
    "token_ids": ", token by token",
    "text": ", by their text",
    "token_ids_or_text": ", token by token where there are token ids, else by their text",
    None: "",
}


def _of_outputs(equality: Equality) -> str:
    compared, equal = map(numbers.count, (equality.num_compared, equality.num_equal))
    by = _COMPARED_BY[equality.compared_by]
    if equality.num_equal == equality.num_compared:
        return f"all {compared} outputs equal the baseline's{by}"
    counts = f"near-ties: {equality.num_near_ties}, different: {equality.num_different}"
    return f"{equal} of {compared} outputs equal the baseline's{by}; {counts}"


def _left_out(equality: Equality) -> str:
    if not equality.num_not_compared:
        return ""
    return (
        f" {equality.num_not_compared} were not compared: later turns whose history already "
        "differed, or missing answers."
    )


def _table(equality: Equality) -> Table:
    return Table(
        f"Where {equality.server} leaves the baseline",
        COLUMNS,
        tuple(map(_cells, equality.differences)),
        _note(equality),
    )


def _note(equality: Equality) -> str:
    if equality.near_tie_nats is None:
        return ""
    gap = numbers.short(equality.near_tie_nats)
    return (
        f"A near-tie: both servers give the two tokens log-probabilities at most {gap} nats apart. "
        "In each pair the first is of the token here, the second of the baseline's."
    )


def _cells(difference: Difference) -> tuple[Cell, ...]:
    d = difference
    where = (
        f"{d.set}, conversation {d.conversation + 1}, turn {d.turn + 1}, {d.concurrency} parallel"
    )
    words = {True: "near-tie", False: "different", None: "unknown"}
    unit = "character" if isinstance(d.found, str) else "token"
    return (
        text(f"{where}, repeat {d.repeat + 1}"),
        text(words[d.is_near_tie]),
        text(f"{unit} {d.position + 1}"),
        _output(d.found),
        _output(d.expected),
        _logprobs(d.logprobs),
        _logprobs(d.baseline_logprobs),
        text(d.why),
    )


def _output(found: tuple[int, ...] | str) -> Cell:
    if isinstance(found, str):
        return text(f"“{found}”")
    return text(" ".join(map(str, found)) or "(end)")


def _logprobs(found: TokenLogprobs | None) -> Cell:
    if found is None:
        return Cell(numbers.NONE, "not given by the engine")
    ours, theirs = number(found.found), number(found.expected)
    return Cell(f"{ours.text}, {theirs.text}", f"{ours.exact}, {theirs.exact}")
