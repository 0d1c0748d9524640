"""All settings under one load, fastest first, and the one to run.

Two rules. Speculation is on only where the low end of the predicted speedup is above 1: off costs
nothing, a loss is paid by every request, and the published losses (SpecForge issue 339, AngelSlim
issue 163) lie where the model's error is largest.

Settings are ranked by the geometric mean of the expected speedup and its low end. So what was
measured wins over what is inferred and only a little better, and a tree of which only bounds are
known, which counts with its low end, is not chosen on hope. On SpecBundle's cells of
Llama-3.1-8B, chosen from the total of 3,1,4, 5,1,6, 5,3,6 and 7,4,8 alone, this leaves 0.3, 0.1,
4.3 and 6.7 % of the best measured speed on the table; the expected speedup alone would leave 0.1,
0.1, 2.3 and 3.6 %, the low end alone 1.1, 0.2, 13 and 22 %. Those trees are narrow, and the tree
model was fitted on them: of a wide one (5,4,16 of a seed's card) the expectation for chains is
further off than that, hence the middle way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import Interval
from eagle3_plugin.planning.asked import Asked
from eagle3_plugin.planning.cost import (
    Cost,
    Load,
    RoundCost,
    Term,
    baseline_step,
    round_cost,
)
from eagle3_plugin.planning.limits import Rejected, allowed
from eagle3_plugin.planning.memory import GIB, memory
from eagle3_plugin.planning.points import MAX_BASELINE_RATIO
from eagle3_plugin.planning.rates import max_tokens_per_verify
from eagle3_plugin.planning.settings import OFF, Choice, candidates, chains
from eagle3_plugin.settings import Settings


@dataclass(frozen=True)
class Range:
    """A predicted speedup; `expected` is None where only bounds are known."""

    low: float
    expected: float | None
    high: float

    @property
    def cautious(self) -> float:
        """What a choice is ranked by."""
        return self.low if self.expected is None else math.sqrt(self.low * self.expected)

    def __str__(self) -> str:
        bounds = f"{self.low:.2f}x to {self.high:.2f}x"
        return bounds if self.expected is None else f"{self.expected:.2f}x ({bounds})"


@dataclass(frozen=True)
class Ranked:
    """One choice under a load.

    tokens_per_s: of all requests, expected; at the low end where nothing more is known.
    break_even_tokens_per_verify: below it the choice is slower than off.
    """

    choice: Choice
    speedup: Range
    tokens_per_s: float
    tokens_per_verify: Interval
    break_even_tokens_per_verify: float
    cost: Cost

    @property
    def passes(self) -> bool:
        """Whether it is faster than off even at its low end."""
        return self.choice is not OFF and self.speedup.low > 1

    def to_json(self) -> dict[str, Any]:
        """All fields; of the cost its total."""
        return {
            "settings": choice_json(self.choice),
            "predicted_speedup": dict(vars(self.speedup)),
            "cautious_speedup": self.speedup.cautious,
            "tokens_per_s": self.tokens_per_s,
            "tokens_per_verify": self.tokens_per_verify.to_json(),
            "break_even_tokens_per_verify": self.break_even_tokens_per_verify,
            "round_s": self.cost.total_s,
        }


@dataclass(frozen=True)
class Ranking:
    """Every choice under one load, best first, and those that are not ranked."""

    num_requests: int
    ranked: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]

    @property
    def best(self) -> Ranked:
        """The best that passes, else off."""
        return next((r for r in self.ranked if r.passes), self.of(OFF))

    @property
    def choice(self) -> Choice:
        return self.best.choice

    @property
    def reason(self) -> str:
        """Why this choice: what goes on after its name."""
        best, num_passing = self.best, sum(r.passes for r in self.ranked)
        if best.choice is not OFF:
            return (
                f"is predicted at {best.speedup}: the best of {num_passing} settings that are "
                "faster than off even at the low end"
            )
        others = [r for r in self.ranked if r.choice is not OFF]
        if not others:
            return f"because no settings can be run: {self.rejected[0].reason}"
        nearest = max(others, key=lambda r: r.speedup.cautious)
        return (
            f"because no settings are faster at the low end; {nearest.choice} is predicted at "
            f"{nearest.speedup}, and breaks even at {nearest.break_even_tokens_per_verify:.2f} "
            "tokens per verify"
        )

    def of(self, choice: Choice) -> Ranked:
        """That choice; raises KeyError when it is not ranked."""
        found = {r.choice: r for r in self.ranked}
        return found[choice]

    def to_json(self) -> dict[str, Any]:
        """The choice, its reason and its round in terms, all that is ranked and all that is not."""
        return {
            "num_requests": self.num_requests,
            "choice": choice_json(self.choice),
            "reason": self.reason,
            "terms": [dict(vars(term)) for term in self.best.cost.terms],
            "ranking": [r.to_json() for r in self.ranked],
            "rejected": [
                {"settings": choice_json(r.choice), "limit": r.limit, "reason": r.reason}
                for r in self.rejected
            ],
        }


Yields = Mapping[Choice, Interval]


def choice_json(choice: Choice) -> dict[str, int] | str:
    """The public form of a choice."""
    return "off" if choice is OFF else dict(vars(choice))


def yields_of(asked: Asked) -> Yields:
    """Tokens per verify of every candidate; they do not depend on the load.

    Settings that the acceptance knows by measurement are candidates too.
    """
    known = (s for s in asked.acceptance.known if not s.is_chain or s not in chains())
    choices = dict.fromkeys((*candidates(), *known))
    return {choice: asked.acceptance.tokens_per_verify(choice) for choice in choices}


def rank(asked: Asked, num_requests: int, yields: Yields) -> Ranking:
    """The ranking of these choices under one load."""
    load = Load(num_requests, asked.context_tokens)
    baseline = _baseline(asked, load)
    kept, rejected = allowed(yields, asked.server)
    ranked, left_out = [], list(rejected)
    for choice in kept:
        if choice is OFF:
            ranked.append(_off(baseline, num_requests))
            continue
        found = _ranked(asked, load, choice, yields[choice], baseline)
        (left_out if isinstance(found, Rejected) else ranked).append(found)  # type: ignore[arg-type]
    ranked.sort(key=_order)
    return Ranking(num_requests, tuple(ranked), tuple(left_out))


def _baseline(asked: Asked, load: Load) -> Cost:
    """The profile's step, the modelled one, or the measured one if it can be one of decoding (as
    in points.py)."""
    if asked.measured is not None:
        step = asked.measured.cost(OFF, load.num_requests)
        assert step is not None
        return step
    modelled = baseline_step(asked.pair.target, asked.machine, load)
    if asked.baseline_tokens_per_s is None:
        return modelled
    least_s = asked.pair.target.step_bytes(1) / asked.machine.bytes_per_s
    fastest, slowest = 1 / least_s, 1 / (MAX_BASELINE_RATIO * modelled.total_s)
    given = asked.baseline_tokens_per_s / load.num_requests
    if not slowest <= given <= fastest:
        most, least = (load.num_requests * speed for speed in (fastest, slowest))
        raise UsageError(
            f"a baseline of {asked.baseline_tokens_per_s:g} tokens/s for {load.num_requests} "
            f"request(s), expected {least:.0f} to {most:.0f}: beyond, it holds more than decoding "
            f"(prefill, an image encoder, a client that waits), or the memory is not that fast",
            hint="Measure decoding alone, of all requests together: eagle3 bench URL --concurrency "
            f"{load.num_requests}; or leave --baseline-tokens-per-s out.",
        )
    seconds = load.num_requests / asked.baseline_tokens_per_s
    how = f"{asked.baseline_tokens_per_s:g} tokens/s without speculation"
    return Cost((Term("baseline step", seconds, "measured", how),), 0.0)


def _off(baseline: Cost, num_requests: int) -> Ranked:
    one = Interval(1.0, 1.0, 1.0)
    speed = num_requests / baseline.total_s
    return Ranked(OFF, Range(1.0, 1.0, 1.0), speed, one, 1.0, baseline)


def _ranked(
    asked: Asked, load: Load, settings: Settings, tokens: Interval, baseline: Cost
) -> Ranked | Rejected:
    if reason := _too_large(asked, load, settings):
        return Rejected(settings, "memory", reason)
    cost = _round(asked, load, settings, baseline)
    if cost is None:
        reason = "the profile has no time for it: eagle3 tune runs chains, and trees with --tree"
        return Rejected(settings, "not-measured", reason)
    break_even = cost.total_s / baseline.total_s
    most = max_tokens_per_verify(settings)
    if break_even / (1 + cost.ratio_error) >= most:
        reason = f"breaks even at {break_even:.2f} tokens per verify and yields {most:g} at most"
        return Rejected(settings, "break-even", reason)
    speedup = _speedup(tokens, break_even, cost)
    per_round = tokens.low if tokens.expected is None else tokens.expected
    speed = load.num_requests * per_round / cost.total_s
    return Ranked(settings, speedup, speed, tokens, break_even, cost)


def _round(asked: Asked, load: Load, settings: Settings, baseline: Cost) -> RoundCost | None:
    """The profile's round, None where it has none; without a profile the modelled one."""
    if asked.measured is None:
        pair = asked.pair
        known_s = baseline.total_s if asked.baseline_tokens_per_s is not None else None
        return round_cost(
            pair.target, pair.draft, asked.machine, load, settings, baseline_s=known_s
        )
    found = asked.measured.cost(settings, load.num_requests)
    if found is None:
        return None
    ratio_error = math.hypot(found.relative_error, baseline.relative_error)
    return RoundCost(found.terms, found.relative_error, ratio_error)


def _speedup(tokens: Interval, break_even: float, cost: RoundCost) -> Range:
    """The errors of acceptance and of cost have nothing to do with each other, so they add up as
    the root of the sum of their squares; bounds are no error, and multiply."""
    error = cost.ratio_error
    if tokens.expected is None:
        low, high = tokens.low / break_even, tokens.high / break_even
        return Range(low / (1 + error), None, high * (1 + error))
    expected = tokens.expected / break_even
    below = math.hypot(error, tokens.expected / tokens.low - 1)
    above = math.hypot(error, tokens.high / tokens.expected - 1)
    return Range(expected / (1 + below), expected, expected * (1 + above))


def _too_large(asked: Asked, load: Load, settings: Settings) -> str | None:
    """Why that many requests do not fit, None if they do or the memory is not known."""
    num, context = load.num_requests, load.context_tokens
    found = memory(asked.pair, asked.machine, settings, num, context)
    if found is None or found.max_requests >= num:
        return None
    return (
        f"{num} requests of {found.tokens_per_request} tokens do not fit: "
        f"{found.kv_bytes / GIB:.1f} GiB are left for KV cache, room for {found.max_requests}"
    )


def _order(ranked: Ranked) -> tuple[float, Sequence[int]]:
    """Fastest first; the shorter settings where two are equal, off before all."""
    choice = ranked.choice
    return -ranked.speedup.cautious, () if choice is OFF else tuple(vars(choice).values())
