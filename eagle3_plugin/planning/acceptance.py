"""What is known of a draft's acceptance, as tokens per verify at any settings.

Chains of autoregressive drafts are prefix-consistent: the first tokens of a long chain are those
of a shorter one, so the conditional rates of one run give every chain up to its length. Not quite:
a short chain begins more of its rounds inside easy stretches, and the tiny pair yielded 4 to 6 %
more with chains of 1 to 3 than the first positions of its chain of 7 say (planning/measured.py).
Trees need the rates of the second and later candidates, or there are bounds only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.probe_constants import ProbeConstants, probe_constants
from eagle3_plugin.planning.rates import (
    Ranks,
    Rates,
    check_tokens_per_verify,
    fitted_rates,
    max_tokens_per_verify,
    tree_range,
)
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings, chain

Basis = Literal["measured", "card", "assumed"]

CONFIDENCE_Z = 1.96
"""95 % of a normal distribution."""


@dataclass(frozen=True)
class Interval:
    """Tokens per verify. `expected` is None where only bounds are known."""

    low: float
    expected: float | None
    high: float

    def __post_init__(self) -> None:
        middle = self.low if self.expected is None else self.expected
        if not 1 <= self.low <= middle <= self.high:
            raise UsageError(
                f"tokens per verify from {self.low:g} to {self.high:g}, expected {self.expected}; "
                "expected 1 <= low <= expected <= high"
            )

    def to_json(self) -> dict[str, float | None]:
        """All fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class RankWise:
    """conditional[depth][rank]: given the tokens so far are right, how often that candidate is.

    Only the shares of what the first candidate misses are taken from it. The first candidate's
    own rate is that of chains: a score counts ranks at every token, and chains reach a depth
    where the text is easy. Ranks that were not measured count as never right; depths beyond the
    measured ones keep the last one's shares.
    """

    conditional: tuple[tuple[float, ...], ...]

    def ranks(self, rates: Rates) -> Ranks:
        """The rates of all candidates, where those of the first ones are `rates`."""

        def at(depth: int, topk: int) -> Sequence[float]:
            row = self.conditional[min(depth, len(self.conditional) - 1)]
            first, missed = rates.at(depth), 1 - row[0]
            rest = [rate / missed * (1 - first) if missed else 0.0 for rate in row[1:topk]]
            return [first, *rest]

        return at


@dataclass(frozen=True)
class Acceptance:
    """One draft's acceptance on one kind of text.

    basis: `measured` on this pair, `card` = stated by the draft's card, or `assumed`.
    source: the file, address or rule that it comes from.
    rates: the expected conditional rates; alternatives: others that the source allows as well,
        which make the interval.
    known: tokens per verify at settings that were measured themselves.
    """

    basis: Basis
    source: str
    rates: Rates
    alternatives: tuple[Rates, ...] = ()
    known: Mapping[Settings, Interval] = field(default_factory=dict)
    rank_wise: RankWise | None = None
    constants: ProbeConstants = field(default_factory=probe_constants, repr=False)

    def tokens_per_verify(self, settings: Choice) -> Interval:
        """Known, else from the rates; a tree without rank-wise rates has bounds only."""
        if settings is OFF:
            return Interval(1.0, 1.0, 1.0)
        if settings in self.known:
            return self.known[settings]
        if settings.is_chain:
            return self._chain(settings.num_steps)
        return self._bounds(settings) if self.rank_wise is None else self._tree(settings)

    def to_json(self, settings: Sequence[Choice] = ()) -> dict[str, Any]:
        """What it is based on, its rates, and tokens per verify at the asked settings."""
        return {
            "basis": self.basis,
            "source": self.source,
            "acceptance_rate_conditional": list(self.rates.conditional),
            "decay": self.rates.decay,
            "has_rank_wise": self.rank_wise is not None,
            "tokens_per_verify": {str(s): self.tokens_per_verify(s).to_json() for s in settings},
        }

    def _chain(self, num_steps: int) -> Interval:
        expected = self.rates.chain_tokens_per_verify(num_steps)
        every = [expected, *(r.chain_tokens_per_verify(num_steps) for r in self.alternatives)]
        return Interval(min(every), expected, max(every))

    def _tree(self, settings: Settings) -> Interval:
        """Between nodes spread level by level and the best nodes; expected as SGLang's trees do."""
        assert self.rank_wise is not None
        even, best = tree_range(self.rank_wise.ranks(self.rates), settings)
        expected = even + self.constants.trees.selection(settings) * (best - even)
        bounds = self._bounds(settings)
        return Interval(max(even, min(bounds.low, expected)), expected, max(best, expected))

    def _bounds(self, settings: Settings) -> Interval:
        """What no tree of these settings can fall below or rise above.

        Low: the draft's first candidate has the best score of all, so it is always in the tree,
        and the first position is right as often as a chain's. No more is sure: the second token
        of the greedy path can lose its place to other candidates, and in SpecForge's SpecBundle
        runs trees of as many tokens as a chain yield less than it in 134 of 174 pairs. So "at
        least the chain of as many steps" would be wrong.
        High: every level right; the rates of later candidates are unknown and can add up to 1.
        A tree of the same steps and topk picks from the same candidates in the same order, so
        one with fewer tokens is part of one with more; where one is known, it bounds the other.
        """
        firsts = [rates.at(0) for rates in (self.rates, *self.alternatives)]
        lows, highs = [1 + min(firsts)], [max_tokens_per_verify(settings)]
        for other, interval in self.known.items():
            if (other.num_steps, other.topk) == (settings.num_steps, settings.topk):
                larger = settings.num_draft_tokens > other.num_draft_tokens
                (lows if larger else highs).append(interval.low if larger else interval.high)
        return Interval(min(max(lows), min(highs)), None, min(highs))


def from_rates(
    rates: Sequence[float],
    source: str,
    *,
    basis: Basis = "measured",
    num_rounds: int | None = None,
    known: Mapping[int, float] | None = None,
    trees: Mapping[Settings, Interval] | None = None,
    rank_wise: RankWise | None = None,
) -> Acceptance:
    """From conditional rates by depth, and what else was counted.

    known: tokens per verify by chain length; trees: by settings.

    num_rounds: verify rounds behind the rates. They give each rate its 95 % interval, taken at
    all depths at once; rounds of one text are not independent, so it is a least width.
    """
    constants = probe_constants()
    decay, *other_decays = constants.decays
    expected = Rates(tuple(rates), decay)
    alternatives = tuple(
        Rates(_moved(expected, num_rounds, sign), d)
        for sign, d in zip((-1, 1), other_decays, strict=True)
    )
    made = Acceptance(basis, source, expected, alternatives, {}, rank_wise, constants)
    counted = {
        chain(length): _around(value, made.tokens_per_verify(chain(length)))
        for length, value in (known or {}).items()
    }
    counted |= trees or {}
    return Acceptance(basis, source, expected, alternatives, counted, rank_wise, constants)


def counted_interval(tokens_per_verify: float, settings: Settings, num_rounds: int) -> Interval:
    """The 95 % interval of a mean over so many rounds of which only the mean is known.

    Values from 1 to m with mean t vary by (m - t)(t - 1) at most (Bhatia and Davis 2000).
    """
    check_tokens_per_verify(tokens_per_verify, settings)
    most = max_tokens_per_verify(settings)
    variance = (most - tokens_per_verify) * (tokens_per_verify - 1)
    error = CONFIDENCE_Z * (variance / num_rounds) ** 0.5
    low, high = tokens_per_verify - error, tokens_per_verify + error
    return Interval(max(1.0, low), tokens_per_verify, min(most, high))


def from_total(
    tokens_per_verify: float,
    settings: Settings,
    source: str,
    *,
    basis: Basis = "measured",
    constants: ProbeConstants | None = None,
) -> Acceptance:
    """From tokens per verify at one setting: exact there, wider the further from it."""
    constants = constants or probe_constants()
    expected = fitted_rates(tokens_per_verify, settings, constants.decay, constants.trees)
    known = {settings: Interval(tokens_per_verify, tokens_per_verify, tokens_per_verify)}
    others = total_alternatives(tokens_per_verify, settings, constants)
    return Acceptance(basis, source, expected, others, known, None, constants)


def total_alternatives(
    tokens_per_verify: float, settings: Settings, constants: ProbeConstants
) -> tuple[Rates, ...]:
    """The rates that explain a total with the decay at its ends; a tree's total less and more
    the error with which it follows from rates."""
    error = 0.0 if settings.is_chain else constants.tree_error
    most = max_tokens_per_verify(settings)
    totals = {min(most, max(1.0, tokens_per_verify * (1 + sign * error))) for sign in (-1, 1)}
    return tuple(
        fitted_rates(total, settings, decay, constants.trees)
        for total in sorted(totals)
        for decay in (constants.decay_low, constants.decay_high)
    )


def _moved(rates: Rates, num_rounds: int | None, sign: int) -> tuple[float, ...]:
    """The rates at one end of their 95 % intervals; of so many rounds fewer reach each depth."""
    if not num_rounds:
        return rates.conditional
    moved, reaching = [], float(num_rounds)
    for rate in rates.conditional:
        error = CONFIDENCE_Z * (rate * (1 - rate) / reaching) ** 0.5 if reaching >= 1 else 1.0
        moved.append(min(1.0, max(0.0, rate + sign * error)))
        reaching *= rate
    return tuple(moved)


def _around(value: float, interval: Interval) -> Interval:
    return Interval(min(value, interval.low), value, max(value, interval.high))
