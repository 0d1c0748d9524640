"""Acceptance from the tables of drafts' cards; those of the two seeds are in cards.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import Acceptance, Interval, total_alternatives
from eagle3_plugin.planning.probe_constants import ProbeConstants, probe_constants
from eagle3_plugin.planning.rates import Rates, fitted_rates
from eagle3_plugin.planning.settings import OFF, parse
from eagle3_plugin.settings import Settings

PATH = Path(__file__).with_name("cards.toml")

DECAYS = tuple(step / 100 for step in range(80, 121))
"""Where the decay is looked for when a card has several chain lengths."""

Table = Mapping[Settings, Mapping[str, float]]
"""Settings -> benchmark -> tokens per verify."""


@dataclass(frozen=True)
class CardSpeed:
    """Speeds of one benchmark: tokens per second of each conversation, and their ratio."""

    settings: str
    benchmark: str
    concurrency: int
    tokens_per_s: float
    baseline_tokens_per_s: float
    speedup: float


@dataclass(frozen=True)
class Card:
    """One card's figures; `draft` and `target` are hub names, `note` is what they leave open.

    letter: what `eagle3 bench --card` also takes. engine_words: of the card's server. sets: the
    sets of eagle3 bench by the card's benchmarks. concurrency: of the card's run. max_new_tokens,
    limit (of each set, None = all): assumed, for cards do not say them.
    """

    draft: str
    target: str
    source: str
    note: str
    letter: str
    engine_words: tuple[str, ...]
    concurrency: tuple[int, ...]
    max_new_tokens: int
    sets: Mapping[str, str]
    tokens_per_verify: Table
    speeds: tuple[CardSpeed, ...]
    limit: int | None = None

    @property
    def benchmarks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for row in self.tokens_per_verify.values() for name in row))


@cache
def cards() -> Mapping[str, Card]:
    """The cards that ship with the package, by the draft's name."""
    entries = tomllib.loads(PATH.read_text(encoding="utf-8"))["card"]
    return {entry["draft"]: _card(entry) for entry in entries}


def find_card(name: str) -> Card:
    """The card of a draft, by its letter or its hub name; UsageError for any other."""
    for card in cards().values():
        if name in (card.draft, card.letter):
            return card
    known = ", ".join(f"{card.letter} ({card.draft})" for card in cards().values())
    raise UsageError(
        f"no card {name!r} in this release, expected one of {known}",
        hint="Bench the draft by itself: eagle3 bench ENGINE --target T --draft D --sets ...",
    )


def card_acceptance(draft: str, benchmark: str | None = None) -> Acceptance:
    """What a draft's card promises, for one benchmark or for the mean over all of them.

    Without a benchmark the interval spans all of the card's. Raises UsageError for a draft
    without a card here, and for a benchmark that its card does not have.
    """
    card = cards().get(draft)
    if card is None:
        raise UsageError(
            f"no card of {draft!r} in this release, expected one of {', '.join(cards())}",
            hint="Measure the draft: eagle3 score DRAFT --target TARGET --save",
        )
    if benchmark is not None and benchmark not in card.benchmarks:
        raise UsageError(
            f"the card of {draft} has no benchmark {benchmark!r}, "
            f"expected one of {', '.join(card.benchmarks)}",
            hint="Leave the benchmark out for the mean over all of them.",
        )
    names = card.benchmarks if benchmark is None else (benchmark,)
    table = {s: {n: row[n] for n in names if n in row} for s, row in card.tokens_per_verify.items()}
    return _acceptance({s: row for s, row in table.items() if row}, card.source)


def _acceptance(table: Table, source: str) -> Acceptance:
    """The mean over benchmarks is expected; each benchmark by itself is an alternative."""
    constants = probe_constants()
    known = {settings: _spread(row.values()) for settings, row in table.items()}
    means = {settings: fmean(row.values()) for settings, row in table.items()}
    names = dict.fromkeys(name for row in table.values() for name in row)
    by_benchmark = [{s: row[name] for s, row in table.items() if name in row} for name in names]
    others = tuple(r for totals in by_benchmark for r in _alternatives(totals, constants))
    return Acceptance("card", source, _rates(means, constants), others, known, None, constants)


def _rates(totals: Mapping[Settings, float], constants: ProbeConstants) -> Rates:
    """The decaying rates nearest to all totals; a single total leaves the decay as fitted."""

    def made(decay: float) -> Rates:
        settings, total = next(iter(totals.items()))
        return fitted_rates(total, settings, decay, constants.trees)

    def error(rates: Rates) -> float:
        pairs = totals.items()
        return sum((constants.trees.tokens_per_verify(rates, s) / t - 1) ** 2 for s, t in pairs)

    decays: Iterable[float] = DECAYS if len(totals) > 1 else (constants.decay,)
    return min(map(made, decays), key=error)


def _alternatives(totals: Mapping[Settings, float], constants: ProbeConstants) -> tuple[Rates, ...]:
    if len(totals) > 1:
        return (_rates(totals, constants),)
    ((settings, total),) = totals.items()
    return total_alternatives(total, settings, constants)


def _spread(totals: Collection[float]) -> Interval:
    low, high = min(totals), max(totals)
    return Interval(low, min(max(fmean(totals), low), high), high)


def _card(entry: Mapping[str, Any]) -> Card:
    made = {
        "tokens_per_verify": _table(entry),
        "engine_words": tuple(entry["engine_words"]),
        "concurrency": tuple(entry["concurrency"]),
        "speeds": tuple(CardSpeed(**speed) for speed in entry.get("speeds", ())),
    }
    return Card(**{**entry, **made})


def _table(entry: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    parsed = {parse(text): row for text, row in entry["tokens_per_verify"].items()}
    return {settings: row for settings, row in parsed.items() if settings is not OFF}
