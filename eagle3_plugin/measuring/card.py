"""A draft's card beside what came out of a run of its protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from eagle3_plugin.measuring.record import BASELINE, Estimate
from eagle3_plugin.measuring.result import CardFigure, CardTable, Measure, Summary
from eagle3_plugin.planning.cards import Card, CardSpeed

SPEED: Measure = "tokens_per_s_per_conversation"
BASELINE_SPEED = f"baseline_{SPEED}"
SPEEDUP = "speedup"

Key = tuple[str, str, int]
"""Server, set, concurrency."""


def card_table(
    card: Card,
    summaries: Sequence[Summary],
    stands_for: Mapping[str, str],
    notes: Sequence[str] = (),
) -> CardTable:
    """Every figure that the card prints, with ours where there is one.

    stands_for: the server's name by the card's settings; itself where it is not named.
    """
    found = {(s.server, s.set, s.concurrency): s for s in summaries}
    figures = [*_acceptance(card, found, stands_for), *_speeds(card, found, stands_for)]
    return CardTable(
        draft=card.draft,
        source=card.source,
        notes=(card.note, *notes),
        stands_for={asked: run for asked, run in stands_for.items() if asked != run},
        figures=tuple(figures),
    )


def _acceptance(
    card: Card, found: Mapping[Key, Summary], stands_for: Mapping[str, str]
) -> Iterator[CardFigure]:
    """The card prints one figure for all loads; ours is shown for each."""
    for settings, row in card.tokens_per_verify.items():
        server = stands_for.get(str(settings), str(settings))
        for benchmark, promised in row.items():
            name = card.sets[benchmark]
            for concurrency in card.concurrency:
                summary = found.get((server, name, concurrency))
                ours = summary and summary.estimates.get("tokens_per_verify")
                yield _figure(
                    name, concurrency, str(settings), "tokens_per_verify", promised, ours or None
                )


def _speeds(
    card: Card, found: Mapping[Key, Summary], stands_for: Mapping[str, str]
) -> Iterator[CardFigure]:
    for speed in card.speeds:
        name = card.sets[speed.benchmark]
        server = stands_for.get(speed.settings, speed.settings)
        ours = found.get((server, name, speed.concurrency))
        base = found.get((BASELINE, name, speed.concurrency))
        for measure, promised, value in _pairs(speed, ours, base):
            yield _figure(name, speed.concurrency, speed.settings, measure, promised, value)


def _pairs(
    speed: CardSpeed, ours: Summary | None, base: Summary | None
) -> Iterator[tuple[str, float, Estimate | None]]:
    yield SPEED, speed.tokens_per_s, ours.estimates.get(SPEED) if ours else None
    yield BASELINE_SPEED, speed.baseline_tokens_per_s, base.estimates.get(SPEED) if base else None
    yield SPEEDUP, speed.speedup, ours.ratios.get(SPEED) if ours else None


def _figure(
    name: str,
    concurrency: int,
    settings: str,
    measure: str,
    promised: float,
    ours: Estimate | None,
) -> CardFigure:
    return CardFigure(
        set=name,
        concurrency=concurrency,
        settings=settings,
        measure=measure,
        promised=promised,
        found=ours.value if ours else None,
        low=ours.low if ours else None,
        high=ours.high if ours else None,
        difference=ours.value / promised - 1 if ours else None,
    )
