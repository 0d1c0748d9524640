"""The page of a result: its headline, its warnings, its figures, and then all the rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from eagle3_plugin.measuring.equal import Equality
from eagle3_plugin.measuring.result import Result
from eagle3_plugin.report import numbers
from eagle3_plugin.report.accepted import acceptance
from eagle3_plugin.report.equality import equalities
from eagle3_plugin.report.latency import latency
from eagle3_plugin.report.missing import missing, notices
from eagle3_plugin.report.page import Cell, Page, Section, Tile, interval
from eagle3_plugin.report.parts import parts
from eagle3_plugin.report.promised import card, predictions
from eagle3_plugin.report.provenance import definitions, loops, provenance
from eagle3_plugin.report.speed import speed
from eagle3_plugin.report.view import View, measured, set_name, speedup

ENGINES = {"vllm": "vLLM", "sglang": "SGLang"}


def page(result: Result) -> Page:
    """What the report says of this result, section by section."""
    view = View(result)
    return Page(
        title=_title(view),
        lead=_lead(view),
        notices=tuple(notices(view)),
        tiles=tuple(_tiles(view)),
        sections=tuple(_sections(view)),
    )


def fastest(view: View) -> str | None:
    """The server with the largest speedup at the smallest load; None without a baseline."""
    found = {
        server: estimate.value
        for server in view.speculative
        for load in view.loads[:1]
        if (estimate := speedup(view.summary(server, view.whole, load)))
    }
    return max(found, key=lambda server: found[server], default=None)


def _sections(view: View) -> Iterator[Section]:
    if view.loads:
        yield speed(view)
    found = (card(view), predictions(view), acceptance(view), latency(view), equalities(view))
    yield from (section for section in (*found, missing(view), parts(view)) if section)
    if view.result.cells:
        yield loops(view)
    yield definitions(view)
    yield provenance(view)


def _title(view: View) -> str:
    """The models' names without their owners or folders."""
    found = view.result.provenance
    target = _last(found.target.name)
    return f"{_last(found.draft.name)} on {target}" if found.draft else f"Speed of {target}"


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _lead(view: View) -> str:
    found = view.result.provenance
    engine = f"{ENGINES[found.engine]} {found.versions.engine or ''}".strip()
    machine = found.machine.hardware or found.machine.device or "unknown hardware"
    if (found.machine.num_gpus or 1) > 1:
        machine = f"{found.machine.num_gpus} x {machine}"
    answers = sum(cell.num_requests for cell in view.result.cells)
    measured = f"{answers:,} answers in {numbers.duration(found.duration_s)}"
    return f"{engine} on {machine}. {measured}, from {_time(found.started_at)}."


def _time(stamp: str) -> str:
    """To the minute, as people write it; what is no time stamp stays as it is."""
    try:
        return datetime.fromisoformat(stamp).strftime("%-d %B %Y, %H:%M %Z").strip()
    except ValueError:
        return stamp


def _tiles(view: View) -> Iterator[Tile]:
    best = fastest(view)
    server = best or next(iter(view.speculative), None)
    if server is None or view.whole is None:
        return
    if len(view.speculative) > 1 and best:
        yield Tile("Fastest settings", Cell(best), "steps, top-k, draft tokens", "measured")
    if best:
        for load in dict.fromkeys((view.loads[0], view.loads[-1])):
            yield from _speedup_tile(view, best, load)
    yield from _verify_tile(view, server)
    yield from _equality_tile(view)


def _speedup_tile(view: View, server: str, load: int) -> Iterator[Tile]:
    found = speedup(view.summary(server, view.whole, load))
    if found is None:
        return
    spread = "one conversation: no interval"
    if found.low is not None and found.high is not None:
        level = f"{100 * view.result.bootstrap.level:g} %"
        spread = f"{level}: {numbers.ratio(found.low)} to {numbers.ratio(found.high)}"
        spread += f"; {_judged(found.low, found.high)}"
    exact = interval(found.value, found.low, found.high).exact
    value = Cell(numbers.ratio(found.value), exact)
    yield Tile(f"Speedup of {server}, {load} parallel", value, spread, "measured")


def _judged(low: float, high: float) -> str:
    """What an interval of a speedup says."""
    return "faster" if low > 1 else "slower" if high < 1 else "faster or slower"


def _verify_tile(view: View, server: str) -> Iterator[Tile]:
    load = view.loads[0]
    found = measured(view.summary(server, view.whole, load), "tokens_per_verify")
    if found:
        value = Cell(numbers.short(found.value), numbers.exact(found.value))
        where = f"{set_name(view.whole or '')}, {load} parallel; with the bonus token"
        yield Tile(f"Tokens per verify, {server}", value, where, "measured")


def _equality_tile(view: View) -> Iterator[Tile]:
    compared = [e for e in view.result.equality if e.how == "outputs" and e.num_compared]
    if compared:
        equal, of = (sum(map(part, compared)) for part in (_num_equal, _num_compared))
        note = f"of {of:,} outputs at temperature 0"
        yield Tile("Equal to the baseline's", Cell(f"{equal:,}"), note, "measured")


def _num_equal(equality: Equality) -> int:
    return equality.num_equal


def _num_compared(equality: Equality) -> int:
    return equality.num_compared
