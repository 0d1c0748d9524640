"""An engine watched for as long as one likes: a reading each interval, and what it comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from eagle3_plugin.errors import EngineError
from eagle3_plugin.watching.reading import Reading, Watched, connect, read
from eagle3_plugin.watching.rule import Rule, Verdict
from eagle3_plugin.watching.window import Step, Window

SCHEMA: Final = 1

FULL_SHARE: Final = 0.99
"""Of the draft tokens that full rounds have; with fewer, rounds of another length are among them
that an expectation of this length is not for."""


@dataclass(frozen=True)
class Sight:
    """An engine at one moment.

    reading: None while it cannot be read; trouble: why. total: of the window, None before the
    second reading. verdict: None without a rule or a round. num_restarts: of the engine, since the
    start. num_unjudged: as in Watch.
    """

    watched: Watched
    reading: Reading | None
    total: Step | None
    num_running: float
    verdict: Verdict | None
    trouble: EngineError | None
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

    num_requests, num_rounds: counted since its start, which give the rounds of a request.
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

    def __post_init__(self) -> None:
        self.rule = self.make_rule(self.watched)

    def see(self, clock: Callable[[], float] = time.monotonic) -> Sight:
        """Reads the engine once; a failure is told in the sight, not raised."""
        try:
            if self._is_stale:
                self._reconnect()
            reading = read(self.watched, clock)
        except EngineError as error:
            self._is_stale = True
            return self._sight(None, error)
        num_restarts = self.window.num_restarts
        step = self.window.add(reading)
        if self.window.num_restarts > num_restarts:
            self._begin_anew()
        if step is not None:
            self._judge(step, reading)
        return self._sight(reading, None)

    def _reconnect(self) -> None:
        """After it was gone, an engine may run with other settings, or count anew."""
        found = connect(self.watched.url)
        self.window.clear()
        if found != self.watched:
            self.watched = found
            self._begin_anew()
        self._is_stale = False

    def _begin_anew(self) -> None:
        """Another draft may run now, so what spoke against the last one is void."""
        self._is_stale = True
        self._verdict, self.rule = None, self.make_rule(self.watched)

    def _judge(self, step: Step, reading: Reading) -> None:
        counts, rule = step.counts, self.rule
        if rule is None or counts is None or reading.counts is None or counts.num_rounds <= 0:
            return
        full = counts.num_rounds * (rule.expected.settings.num_draft_tokens - 1)
        if counts.num_draft_tokens < FULL_SHARE * full:
            self.num_unjudged += counts.num_rounds
            return
        rounds_per_request = reading.counts.num_rounds / max(1.0, reading.num_finished)
        self._verdict = rule.add(
            counts.num_rounds, counts.accepted_draft_tokens, step.num_finished, rounds_per_request
        )

    def _sight(self, reading: Reading | None, trouble: EngineError | None) -> Sight:
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
