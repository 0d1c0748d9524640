"""Where the numbers come from: everything that one would need to run it again."""

from __future__ import annotations

from collections.abc import Iterator

from eagle3_plugin.measuring.provenance import Model, Provenance, Sampling
from eagle3_plugin.measuring.result import Cell as Loop
from eagle3_plugin.measuring.result import Result
from eagle3_plugin.report import numbers
from eagle3_plugin.report.page import (
    Block,
    Cell,
    Column,
    Section,
    Table,
    count,
    number,
    text,
)
from eagle3_plugin.report.view import View
from eagle3_plugin.report.words import CONDITIONAL_MEANING, MEASURES, SETTINGS_MEANING
from eagle3_plugin.serving.client import NEUTRAL

FACTS = (Column("fact", is_number=False), Column("value", is_number=False))
NOT_KNOWN = "not known"

LOOP_COLUMNS = (
    Column("server", is_number=False),
    Column("set", is_number=False),
    Column("parallel"),
    Column("repeat"),
    Column("begun (UTC)", is_number=False),
    Column("conversations", "measured"),
    Column("answers", "measured"),
    Column("output tokens", "measured"),
    Column("duration", "measured"),
    Column("tokens/s per conversation", "measured"),
    Column("tokens/s in all", "measured"),
    Column("tokens per verify", "measured"),
    Column("by", is_number=False),
    Column("rounds", "measured"),
    Column("rounds, by the engine's counters", "measured"),
)


def provenance(view: View) -> Section:
    """Folded: it is long, and complete."""
    return Section("Provenance", tuple(_blocks(view.result)), is_folded=True)


def loops(view: View) -> Section:
    """Each loop by itself, with the engine's own count beside ours."""
    listed = tuple(map(_loop_cells, view.result.cells))
    return Section("All loops", (Table("One row a loop", LOOP_COLUMNS, listed),), is_folded=True)


def definitions(view: View) -> Section:
    """What each measure is, and how the intervals were made."""
    how = view.result.bootstrap
    said = tuple((text(words.name), text(words.meaning)) for words in MEASURES.values())
    rows = (*said, (text("conditional acceptance"), text(CONDITIONAL_MEANING)))
    intervals = (
        f"Intervals hold {100 * how.level:g} %: {how.method}, {how.num_resamples:,} resamples, "
        f"seed {how.seed}. Medians and percentiles are over requests."
    )
    columns = (Column("measure", is_number=False), Column("meaning", is_number=False))
    table = Table("Measures", columns, rows)
    return Section("How the numbers are made", (SETTINGS_MEANING, intervals, table), True)


def _blocks(result: Result) -> Iterator[Block]:
    found = result.provenance
    yield _facts("Run", _run(found))
    yield _facts("Machine and software", _machine(found))
    yield _facts("Requests", _requests(found))
    yield _models(found)
    yield _servers(result)
    yield _sets(result)


def _run(p: Provenance) -> Iterator[tuple[str, str | None]]:
    yield "command", p.command
    yield "started (UTC)", p.started_at
    yield "finished (UTC)", p.finished_at or "not finished"
    yield "duration (measured)", numbers.duration(p.duration_s)
    yield "resumed", f"{p.num_resumed:,} answer(s) from before a resume"
    yield "settings", "; ".join(p.settings) or "none"
    yield "parallel conversations", ", ".join(map(str, p.concurrency))
    yield "repeats", str(p.num_repeats)
    yield "conversations of each set", "all" if p.limit is None else f"the first {p.limit}"
    yield "warm-up requests, left out", str(p.num_warm_up_requests)


def _machine(p: Provenance) -> Iterator[tuple[str, str | None]]:
    yield "device", p.machine.device
    yield "hardware", p.machine.hardware
    yield "number of GPUs", None if p.machine.num_gpus is None else str(p.machine.num_gpus)
    yield "driver", p.machine.driver
    yield "system", p.machine.system
    yield "engine", f"{p.engine} {p.versions.engine or NOT_KNOWN}"
    yield "eagle3 plugin", p.versions.plugin
    yield "torch", p.versions.torch
    yield "transformers", p.versions.transformers
    yield "Python", p.versions.python


def _requests(p: Provenance) -> Iterator[tuple[str, str | None]]:
    thinking = {None: "not sent: the template's default", True: "on", False: "off"}
    yield "temperature", f"{p.sampling.temperature:g}"
    yield from _limits(p.sampling)
    yield "seed", str(p.sampling.seed)
    yield "most tokens of an answer", str(p.sampling.max_tokens)
    yield "end-of-text token", "ignored" if p.sampling.ignore_eos else "ends an answer"
    yield "sha256 of the chat template", p.chat.template_sha256
    yield "thinking", thinking[p.chat.thinking]
    yield "words for the engine", " ".join(p.words) or "none"


def _limits(sampling: Sampling) -> Iterator[tuple[str, str | None]]:
    """By the requests' own names; an older result says none of them."""
    for name in ("top_p", "top_k", *NEUTRAL):
        value = getattr(sampling, name)
        yield name, None if value is None else f"{value:g}"


def _facts(caption: str, pairs: Iterator[tuple[str, str | None]]) -> Table:
    return Table(caption, FACTS, tuple((text(n), text(v or NOT_KNOWN)) for n, v in pairs))


def _models(p: Provenance) -> Table:
    columns = tuple(
        Column(name, is_number=name == "size")
        for name in ("model", "name", "revision", "file", "size", "sha256")
    )
    rows = [*_files("target", p.target), *(_files("draft", p.draft) if p.draft else ())]
    return Table("Models", columns, tuple(rows))


def _files(role: str, model: Model) -> Iterator[tuple[Cell, ...]]:
    names = (text(role), text(model.name), text(model.revision or "none"))
    for file in model.files:
        size = Cell(numbers.num_bytes(file.num_bytes), f"{file.num_bytes} bytes")
        yield (*names, text(file.name), size, text(file.sha256 or "not read"))
    if not model.files:
        yield (*names, text(None), text(None), text("not read"))


def _servers(result: Result) -> Table:
    columns = tuple(
        Column(name, is_number=name == "healthy after")
        for name in ("server", "settings", "healthy after", "started by", "URL", "notes")
    )
    rows = tuple(
        (
            text(s.name),
            text(s.settings),
            number(s.started_s, numbers.seconds),
            text(s.command or "not by this tool"),
            text(s.url),
            text("; ".join(s.notes) or None),
        )
        for s in result.servers
    )
    return Table("Servers", columns, rows)


def _sets(result: Result) -> Table:
    columns = tuple(
        Column(name, is_number=name in ("conversations", "turns"))
        for name in ("set", "source", "revision", "conversations", "turns", "sha256")
    )
    rows = tuple(
        (
            text(s.name),
            text(s.source),
            text(s.revision or "none"),
            count(s.num_conversations),
            count(s.num_turns),
            text(s.sha256),
        )
        for s in result.sets
    )
    return Table("Sets", columns, rows)


def _loop_cells(loop: Loop) -> tuple[Cell, ...]:
    found = loop.acceptance
    return (
        text(loop.server),
        text(loop.set),
        count(loop.concurrency),
        count(loop.repeat + 1),
        text(loop.begun_at),
        count(loop.num_conversations),
        count(loop.num_requests),
        count(loop.num_tokens),
        number(loop.elapsed_s, numbers.seconds),
        number(loop.tokens_per_s_per_conversation),
        number(loop.tokens_per_s),
        number(found.tokens_per_verify) if found else Cell(numbers.NONE),
        text(loop.acceptance_from),
        count(found.num_rounds if found else None),
        count(loop.num_rounds_counted),
    )
