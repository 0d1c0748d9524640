"""Intervals by resampling: conversations and repeats are drawn again, for both servers alike.

What is resampled is a table [repeat, conversation, turn] of each server. A draw takes as many
conversations and as many repeats as there are, with replacement, and all turns of each; the same
draw is used for the server and for its baseline, so what is common to both cancels in the ratio.
The interval is that between percentiles of the draws (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapters 8 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.measuring.record import Estimate
from eagle3_plugin.measuring.result import Bootstrap, Cell, Measure, Request

Array = NDArray[np.float64]

BOOTSTRAP: Final = Bootstrap(
    method="percentile bootstrap over conversations and repeats, paired with the baseline's",
    num_resamples=1000,
    seed=0,
    level=0.95,
)
CHUNK: Final = 50
"""Draws that are made at a time, to bound the memory."""

FIELDS: Final = ("tokens", "busy_s", "first_s", "per_token_s", "rounds", "accepted")


@dataclass(frozen=True)
class Table:
    """One server's answers, each field [..., repeat, conversation, turn], NaN where none is.

    rate: what tokens by busy seconds have to be multiplied with to give tokens by seconds of the
    loop: the requests that ran at a time on average, held as measured.
    """

    fields: Mapping[str, Array]
    rate: float

    def drawn(self, repeats: NDArray[np.int64], conversations: NDArray[np.int64]) -> Table:
        """[draw, repeat, conversation, turn], from indices [draw, repeat], [draw, conversation]."""
        index = (repeats[:, :, None], conversations[:, None, :])
        return Table({name: field[index] for name, field in self.fields.items()}, self.rate)


def table(cells: Sequence[Cell], keys: Sequence[tuple[str, int]], num_repeats: int) -> Table:
    """The answers of cells of one server; keys: (set, conversation) in the order of the columns."""
    columns = {key: place for place, key in enumerate(keys)}
    num_turns = max((r.turn + 1 for cell in cells for r in cell.requests), default=1)
    shape = (num_repeats, len(keys), num_turns)
    fields = {name: np.full(shape, np.nan) for name in FIELDS}
    busy_s = elapsed_s = 0.0
    for cell in cells:
        elapsed_s += cell.elapsed_s
        for request in cell.requests:
            busy_s += request.request_s
            place = columns.get((cell.set, request.conversation))
            if place is not None:
                for name, value in _values(request).items():
                    fields[name][cell.repeat, place, request.turn] = value
    return Table(fields, busy_s / elapsed_s if elapsed_s else 0.0)


def per_output_token_s(request: Request) -> float:
    """The time after the first token by the tokens after the first; NaN with less than two."""
    if request.time_to_first_token_s is None or request.num_tokens < 2:
        return np.nan
    return (request.request_s - request.time_to_first_token_s) / (request.num_tokens - 1)


def estimate(
    measure: Measure, server: Table, baseline: Table | None, how: Bootstrap
) -> Estimate | None:
    """The measure of the server, or with a baseline the ratio of the two; None without a value."""
    statistic = STATISTICS[measure]

    def value(ours: Table, theirs: Table | None) -> Array:
        found = statistic(ours)
        return found if theirs is None else found / statistic(theirs)

    with np.errstate(all="ignore"):
        middle = float(value(server, baseline))
        if not np.isfinite(middle):
            return None
        values = [value(*pair) for pair in _draws(server, baseline, how)]
    drawn = np.concatenate(values) if values else np.empty(0)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Estimate(value=middle, low=None, high=None)
    tail = (1 - how.level) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return Estimate(value=middle, low=float(low), high=float(high))


def _draws(
    server: Table, baseline: Table | None, how: Bootstrap
) -> Iterator[tuple[Table, Table | None]]:
    num_repeats, num_conversations, _ = server.fields["tokens"].shape
    if num_conversations < 2:
        return
    generator = np.random.default_rng(how.seed)
    for first in range(0, how.num_resamples, CHUNK):
        count = min(CHUNK, how.num_resamples - first)
        repeats = generator.integers(num_repeats, size=(count, num_repeats))
        conversations = generator.integers(num_conversations, size=(count, num_conversations))
        drawn = baseline and baseline.drawn(repeats, conversations)
        yield server.drawn(repeats, conversations), drawn


def _values(request: Request) -> dict[str, float]:
    first_s, counts = request.time_to_first_token_s, request.counts
    return {
        "tokens": request.num_tokens,
        "busy_s": request.request_s,
        "first_s": np.nan if first_s is None else first_s,
        "per_token_s": per_output_token_s(request),
        "rounds": np.nan if counts is None else counts.num_rounds,
        "accepted": np.nan if counts is None else counts.accepted_draft_tokens,
    }


def _per_conversation(t: Table) -> Array:
    speeds = np.nansum(t.fields["tokens"], -1) / np.nansum(t.fields["busy_s"], -1)
    return _mean(speeds)


def _in_all(t: Table) -> Array:
    return t.rate * _sum(t.fields["tokens"]) / _sum(t.fields["busy_s"])


def _per_verify(t: Table) -> Array:
    return 1 + _sum(t.fields["accepted"]) / _sum(t.fields["rounds"])


def _median(name: str) -> Callable[[Table], Array]:
    def median(t: Table) -> Array:
        values = np.sort(t.fields[name].reshape(*t.fields[name].shape[:-3], -1), axis=-1)
        count = np.isfinite(values).sum(-1)[..., None]
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)
        ends = [np.take_along_axis(values, at, -1)[..., 0] for at in (low, high)]
        middle: Array = (ends[0] + ends[1]) / 2
        return middle

    return median


def _sum(values: Array) -> Array:
    total: Array = np.nansum(values, axis=(-3, -2, -1))
    return total


def _mean(values: Array) -> Array:
    """Over repeats and conversations, of those that have a value."""
    known = np.isfinite(values)
    total: Array = np.where(known, values, 0).sum((-2, -1)) / known.sum((-2, -1))
    return total


STATISTICS: Final[Mapping[Measure, Callable[[Table], Array]]] = {
    "tokens_per_s_per_conversation": _per_conversation,
    "tokens_per_s": _in_all,
    "time_to_first_token_s": _median("first_s"),
    "time_per_output_token_s": _median("per_token_s"),
    "request_s": _median("busy_s"),
    "tokens_per_verify": _per_verify,
}
