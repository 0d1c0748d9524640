"""An engine watched for as long as one likes: a reading each interval, and what it comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from eagle3_plugin.errors import Eagle3Error, EngineError
from eagle3_plugin.watching.lengths import Spans
from eagle3_plugin.watching.reading import Reading, Watched, connect, read
from eagle3_plugin.watching.rule import Rule, Verdict
from eagle3_plugin.watching.window import Step, Window, is_full

SCHEMA: Final = 1


@dataclass(frozen=True)
class Sight:
    """An engine at one moment.

    reading: None while it cannot be read or judged; trouble: why. total: of the window, None before
    the second reading. verdict: None without a rule or a round. num_restarts: of the engine, since
    the start. num_unjudged: as in Watch.
    """

    watched: Watched
    reading: Reading | None
    total: Step | None
    num_running: float
    verdict: Verdict | None
    trouble: Eagle3Error | None
    num_restarts: int
    num_unjudged: int = 0

    @property
    def is_alarm(self) -> bool:
        return self.verdict is not None and self.verdict.is_alarm

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1."""
        reading, total, verdict = self.reading, self.total, self.verdict
        counts = total.counts if total else None
        settings = self.watched.settings
        return {
            "schema": SCHEMA,
            "url": self.watched.url,
            "engine": self.watched.engine,
            "settings": None if settings is None else str(settings),
            "trouble": self.trouble.message if self.trouble else None,
            "num_restarts": self.num_restarts,
            "num_rounds_not_judged": self.num_unjudged,
            "num_running": reading.num_running if reading else None,
            "num_waiting": reading.num_waiting if reading else None,
            "window_s": total.elapsed_s if total else None,
            "tokens_per_s": total.tokens_per_s if total else None,
            "num_rounds": counts.num_rounds if counts else None,
            "tokens_per_verify": counts.tokens_per_verify if counts else None,
            "acceptance_rate": list(counts.acceptance_rate)
            if counts and self.watched.reports_positions
            else None,
            "alarm": None
            if verdict is None
            else {
                "is_alarm": verdict.is_alarm,
                "evidence": verdict.evidence,
                "fall": verdict.fall,
                "num_requests": verdict.num_requests,
                "num_rounds": verdict.num_rounds,
                "tokens_per_verify": verdict.tokens_per_verify,
            },
        }


MakeRule = Callable[[Watched], Rule | None]
"""The rule for an engine's settings; None: it is only looked at."""


@dataclass
class Watch:
    """The window and the rule of one engine.

    num_unjudged: rounds in readings whose drafts were not of the full length, which the rule leaves
    out (vLLM's schedule by batch size, and the end of the context).
    """

    watched: Watched
    window: Window
    make_rule: MakeRule
    num_unjudged: int = 0
    rule: Rule | None = field(init=False)
    _verdict: Verdict | None = field(init=False, default=None, repr=False)
    _is_stale: bool = field(init=False, default=False, repr=False)
    _has_rule: bool = field(init=False, default=True, repr=False)
    _spans: Spans = field(init=False, default_factory=Spans, repr=False)

    def __post_init__(self) -> None:
        self.rule = self.make_rule(self.watched)

    def see(self, clock: Callable[[], float] = time.monotonic) -> Sight:
        """Reads the engine once; a failure is told in the sight, not raised."""
        try:
            if self._is_stale:
                self._reconnect()
            reading = read(self.watched, clock)
            num_restarts = self.window.num_restarts
            step = self.window.add(reading)
            if self.window.num_restarts > num_restarts:
                self._begin_anew(self.watched)
        except Eagle3Error as error:
            self._is_stale = True
            return self._sight(None, error)
        if self.rule is not None:
            self._judge(self.rule, step, reading)
        return self._sight(reading, None)

    def _reconnect(self) -> None:
        """After it was gone, an engine may run with other settings, or count anew."""
        found = connect(self.watched.url)
        self.window.clear()
        self._spans = Spans()
        if found != self.watched or not self._has_rule:
            self._begin_anew(found)
        self._is_stale = False

    def _begin_anew(self, watched: Watched) -> None:
        """Another draft may run now, so what spoke against the last one is void; raises Eagle3Error
        for settings that nothing is expected of."""
        self._is_stale = True
        self.watched, self._spans = watched, Spans()
        self._verdict, self.rule, self._has_rule = None, None, False
        self.rule, self._has_rule = self.make_rule(watched), True

    def _judge(self, rule: Rule, step: Step | None, reading: Reading) -> None:
        spans = self._spans.add(reading, 1 + rule.expected.floor)
        counts = step.counts if step else None
        if step is None or counts is None or counts.num_rounds <= 0:
            return
        if not is_full(rule.expected.settings, counts):
            self.num_unjudged += counts.num_rounds
            return
        self._verdict = rule.add(
            counts.num_rounds, counts.accepted_draft_tokens, step.num_finished, spans
        )

    def _sight(self, reading: Reading | None, trouble: Eagle3Error | None) -> Sight:
        return Sight(
            self.watched,
            reading,
            self.window.total,
            self.window.num_running,
            self._verdict,
            trouble,
            self.window.num_restarts,
            self.num_unjudged,
        )


def sights(
    watch: Watch, interval_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Sight]:
    """What is seen each interval, without an end."""
    due = time.monotonic()
    while True:
        yield watch.see()
        due = max(due + interval_s, time.monotonic())
        sleep(max(0.0, due - time.monotonic()))


def fallen(sight: Sight, rule: Rule) -> EngineError:
    """The alarm as an error."""
    verdict, expected = sight.verdict, rule.expected
    assert verdict is not None
    return EngineError(
        f"acceptance fell: {verdict.tokens_per_verify or 1:.2f} tokens per verify over "
        f"{verdict.num_rounds} rounds ({verdict.num_requests:g} requests); expected "
        f"{expected.tokens_per_verify:.2f}, "
        f"and at least {1 + expected.floor:.2f} ({expected.source})",
        hint=f"eagle3 check DRAFT --target TARGET --engine {sight.watched.engine} finds wrong "
        "wiring; if the prompts have changed instead, score the draft with such prompts.",
    )
