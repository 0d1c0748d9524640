"""What the planner would set now, for the load and the acceptance that an engine has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.acceptance import Acceptance, from_rates, from_total
from eagle3_plugin.planning.asked import MAX_CONCURRENCY, Asked
from eagle3_plugin.planning.plan import plan
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings
from eagle3_plugin.watching.window import is_full

if TYPE_CHECKING:
    from eagle3_plugin.serving.acceptance import AcceptanceCounts

MIN_ROUNDS: Final = 100
"""With fewer in the window, the acceptance is not known well enough to plan by."""

EVERY_S: Final = 10.0

SHORTER: Final = (
    "rounds with shorter drafts are in the window, which do not tell how often the last positions "
    "are right"
)


@dataclass(frozen=True)
class Advice:
    """The choice, and its predicted speedup over no speculation; problem: why there is none."""

    choice: Choice | None
    speedup: float | None
    num_requests: int
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The choice as its settings, or off."""
        return {
            "choice": None if self.choice is None else str(self.choice),
            "predicted_speedup": self.speedup,
            "num_requests": self.num_requests,
            "problem": self.problem,
        }


@dataclass
class Adviser:
    """Plans anew at most every EVERY_S seconds."""

    asked: Asked
    _at_s: float = field(init=False, default=float("-inf"), repr=False)
    _last: Advice | None = field(init=False, default=None, repr=False)

    def advise(
        self, now_s: float, num_running: float, settings: Settings, counts: AcceptanceCounts
    ) -> Advice | None:
        """The advice for this load; None before there are enough rounds."""
        if now_s - self._at_s < EVERY_S or counts.num_rounds < MIN_ROUNDS:
            return self._last
        self._at_s = now_s
        load = min(MAX_CONCURRENCY, max(1, round(num_running)))
        if is_full(settings, counts):
            self._last = advise(self.asked, load, measured(settings, counts))
        else:
            self._last = Advice(None, None, load, SHORTER)
        return self._last


def advise(asked: Asked, num_requests: int, acceptance: Acceptance) -> Advice:
    """What the planner would set under this load with this acceptance."""
    try:
        made = plan(replace(asked, acceptance=acceptance, first=num_requests, last=num_requests))
    except Eagle3Error as error:
        return Advice(None, None, num_requests, error.message)
    best = made.deciding.best
    speedup = 1.0 if made.choice is OFF else best.speedup.expected
    return Advice(made.choice, speedup, num_requests)


def measured(settings: Settings, counts: AcceptanceCounts) -> Acceptance:
    """The acceptance of the window: by position where the engine has it, else the total."""
    source = f"{counts.num_rounds} rounds of this engine"
    rates = [rate for rate in counts.acceptance_rate_conditional if rate is not None]
    if rates:
        return from_rates(rates, source, num_rounds=counts.num_rounds)
    tokens = min(counts.tokens_per_verify or 1.0, settings.num_steps + 1.0)
    return from_total(tokens, settings, source)
