"""From requests to cells, and from cells to what people read: spreads, groups, ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from eagle3_plugin.measuring.bootstrap import (
    BOOTSTRAP,
    STATISTICS,
    Table,
    estimate,
    per_output_token_s,
    table,
)
from eagle3_plugin.measuring.record import ALL_SETS, BASELINE, Acceptance, Estimate, Quantiles
from eagle3_plugin.measuring.result import Bootstrap, Cell, Group, Measure, Request, Summary
from eagle3_plugin.serving.acceptance import AcceptanceCounts

Estimates = dict[Measure, Estimate]
GroupKey = Callable[[Request], Any]

GROUPED_BY: Final[Mapping[Literal["turn", "modality"], GroupKey]] = {
    "turn": lambda request: request.turn + 1,
    "modality": lambda request: request.modality,
}
GROUP_MEASURES: Final = tuple(measure for measure in STATISTICS if measure != "tokens_per_s")
"""See Group."""


def make_cell(
    *,
    server: str,
    set: str,
    concurrency: int,
    repeat: int,
    begun_at: str,
    elapsed_s: float,
    requests: Sequence[Request],
    counted: AcceptanceCounts | None,
    num_rounds_counted: int | None = None,
) -> Cell:
    """A cell of these answers. counted: the engine's counters over the loop."""
    told = acceptance(requests)
    read = None if counted is None else Acceptance.of(counted)
    num_tokens = sum(r.num_tokens for r in requests)
    return Cell(
        server=server,
        set=set,
        concurrency=concurrency,
        repeat=repeat,
        begun_at=begun_at,
        num_conversations=len({r.conversation for r in requests}),
        num_requests=len(requests),
        num_tokens=num_tokens,
        elapsed_s=elapsed_s,
        tokens_per_s=num_tokens / elapsed_s if elapsed_s else 0.0,
        tokens_per_s_per_conversation=_per_conversation(requests),
        **_latencies(requests),
        acceptance=told or read,
        acceptance_from="answers" if told else "counters" if read else None,
        counted=read,
        num_rounds_counted=counted.num_rounds if counted else num_rounds_counted,
        requests=tuple(requests),
    )


def summaries(cells: Sequence[Cell], how: Bootstrap = BOOTSTRAP) -> tuple[Summary, ...]:
    """One for each server, set and concurrency, and one of all sets where there are several.

    A ratio is of the conversations that both servers answered.
    """
    sets = list(dict.fromkeys(cell.set for cell in cells))
    wanted = [*sets, ALL_SETS] if len(sets) > 1 else sets
    found: list[Summary] = []
    for name in wanted:
        chosen = [cell for cell in cells if name in (ALL_SETS, cell.set) and cell.requests]
        for concurrency in sorted({cell.concurrency for cell in chosen}):
            at = [cell for cell in chosen if cell.concurrency == concurrency]
            found += _of_load(name, concurrency, at, how)
    return tuple(found)


def acceptance(requests: Iterable[Request]) -> Acceptance | None:
    """The sum over these answers; None where none of them speculated."""
    counts = [r.counts.value for r in requests if r.counts is not None]
    return Acceptance.of(AcceptanceCounts.total(counts, 0)) if counts else None


def quantiles(values: Iterable[float]) -> Quantiles | None:
    """The spread of the values that are known; None without one."""
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return None
    p50, p90, p99 = (float(q) for q in np.quantile(known, (0.5, 0.9, 0.99)))
    return Quantiles(
        mean=float(known.mean()),
        min=float(known.min()),
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(known.max()),
    )


def _pooled(cells: Sequence[Cell]) -> Acceptance | None:
    counts = [cell.acceptance.counts for cell in cells if cell.acceptance is not None]
    return Acceptance.of(AcceptanceCounts.total(counts, 0)) if counts else None


def _of_load(name: str, concurrency: int, cells: Sequence[Cell], how: Bootstrap) -> list[Summary]:
    num_repeats = 1 + max(cell.repeat for cell in cells)
    servers = list(dict.fromkeys(cell.server for cell in cells))
    by_server = {s: [cell for cell in cells if cell.server == s] for s in servers}
    found = []
    for server, ours in by_server.items():
        base = [] if server == BASELINE else by_server.get(BASELINE, [])
        requests = _requests(ours)
        estimates, ratios = _measured(ours, base, tuple(STATISTICS), num_repeats, how)
        found.append(
            Summary(
                server=server,
                set=name,
                concurrency=concurrency,
                num_repeats=len({cell.repeat for cell in ours}),
                num_conversations=len(_keys(ours)),
                num_requests=len(requests),
                num_tokens=sum(r.num_tokens for r in requests),
                estimates=_with_counters(estimates, _pooled(ours)),
                ratios=ratios,
                acceptance=_pooled(ours),
                groups=tuple(_groups(ours, base, num_repeats, how)),
            )
        )
    return found


def _measured(
    ours: Sequence[Cell],
    base: Sequence[Cell],
    measures: Sequence[Measure],
    num_repeats: int,
    how: Bootstrap,
) -> tuple[Estimates, Estimates]:
    """The measures of these answers, and their ratios to the baseline's; base may be empty."""
    keys = _keys(ours)
    alone = _compact(table(ours, keys, num_repeats))
    estimates = dict(_estimates(measures, alone, None, how))
    both = sorted(set(keys) & set(_keys(base)))
    if not both:
        return estimates, {}
    server, baseline = _common(table(ours, both, num_repeats), table(base, both, num_repeats))
    ratios = _estimates(measures, _compact(server), _compact(baseline), how)
    return estimates, dict(ratios)


def _with_counters(found: Estimates, counted: Acceptance | None) -> Estimates:
    """Counters are of a whole loop: a value, and nothing to resample."""
    total = counted and counted.tokens_per_verify
    if total and "tokens_per_verify" not in found:
        found["tokens_per_verify"] = Estimate(value=total, low=None, high=None)
    return found


def _common(ours: Table, theirs: Table) -> tuple[Table, Table]:
    """Both without the answers that the other lacks: of a run that was cut off."""
    turns = min(t.fields["tokens"].shape[2] for t in (ours, theirs))
    known = np.isfinite(ours.fields["tokens"][..., :turns])
    known &= np.isfinite(theirs.fields["tokens"][..., :turns])

    def kept(t: Table) -> Table:
        fields = {n: np.where(known, f[..., :turns], np.nan) for n, f in t.fields.items()}
        return Table(fields, t.rate)

    return kept(ours), kept(theirs)


def _compact(t: Table) -> Table:
    """Without the turns that no answer is of: those of other groups."""
    used = np.isfinite(t.fields["tokens"]).any(axis=(0, 1))
    if used.all() or not used.any():
        return t
    return Table({name: field[..., used] for name, field in t.fields.items()}, t.rate)


def _estimates(
    measures: Sequence[Measure], server: Table, baseline: Table | None, how: Bootstrap
) -> Iterator[tuple[Measure, Estimate]]:
    for measure in measures:
        found = estimate(measure, server, baseline, how)
        if found is not None:
            yield measure, found


def _groups(
    ours: Sequence[Cell], base: Sequence[Cell], num_repeats: int, how: Bootstrap
) -> Iterator[Group]:
    """By turn, and by modality where there is more than one of it."""
    for by, key_of in GROUPED_BY.items():
        keys = sorted({key_of(r) for r in _requests(ours)})
        for key in keys if len(keys) > 1 else ():
            chosen = _of_group(ours, key_of, key)
            members = _requests(chosen)
            estimates, ratios = _measured(
                chosen, _of_group(base, key_of, key), GROUP_MEASURES, num_repeats, how
            )
            yield Group(
                by=by,
                name=str(key),
                num_requests=len(members),
                num_tokens=sum(r.num_tokens for r in members),
                estimates=estimates,
                ratios=ratios,
                **_latencies(members),
                acceptance=acceptance(members),
            )


def _of_group(cells: Sequence[Cell], key_of: GroupKey, key: int | str) -> list[Cell]:
    """The cells with no other answers; their own figures are still of all."""
    chosen = ((cell, [r for r in cell.requests if key_of(r) == key]) for cell in cells)
    return [cell.model_copy(update={"requests": tuple(kept)}) for cell, kept in chosen if kept]


def _requests(cells: Sequence[Cell]) -> list[Request]:
    return [request for cell in cells for request in cell.requests]


def _keys(cells: Sequence[Cell]) -> list[tuple[str, int]]:
    return sorted({(cell.set, r.conversation) for cell in cells for r in cell.requests})


def _latencies(requests: Sequence[Request]) -> dict[str, Quantiles | None]:
    firsts = (r.time_to_first_token_s for r in requests)
    return {
        "time_to_first_token_s": quantiles(f for f in firsts if f is not None),
        "time_per_output_token_s": quantiles(map(per_output_token_s, requests)),
        "request_s": quantiles(r.request_s for r in requests),
    }


def _per_conversation(requests: Sequence[Request]) -> float:
    """See Measure."""
    tokens: dict[int, int] = {}
    busy_s: dict[int, float] = {}
    for r in requests:
        tokens[r.conversation] = tokens.get(r.conversation, 0) + r.num_tokens
        busy_s[r.conversation] = busy_s.get(r.conversation, 0.0) + r.request_s
    speeds = [tokens[c] / busy_s[c] for c in tokens if busy_s[c]]
    return float(np.mean(speeds)) if speeds else 0.0
