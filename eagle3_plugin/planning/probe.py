"""From one measured setting and a baseline to the speedup of other settings.

A round of a chain of s steps costs, in baseline steps,
    1 + x + (step_fixed + step_share * x) * (s - 3),
where x is what three steps add: draft passes, more tokens to verify, the host. A step is a part
of that, and there is a part that each pair has (fitted over pairs; probe_fit.py). A tree costs
`tree_overhead` more, and `node_share` of a step for each token beyond a chain's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import Acceptance, from_total
from eagle3_plugin.planning.probe_constants import ProbeConstants, probe_constants
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings

REFERENCE_STEPS = 3


@dataclass(frozen=True)
class Probe:
    """One measurement: tokens per verify at these settings, and the speedup over none."""

    settings: Settings
    tokens_per_verify: float
    speedup: float
    constants: ProbeConstants = field(default_factory=probe_constants, repr=False)

    def __post_init__(self) -> None:
        if self.speedup <= 0:
            raise UsageError(f"speedup is {self.speedup:g}, expected more than 0")
        _ = self.acceptance

    @cached_property
    def acceptance(self) -> Acceptance:
        """Rates that fall with depth as published ones do, and yield the probe's total."""
        total, c = self.tokens_per_verify, self.constants
        return from_total(total, self.settings, "probe", constants=c)

    @property
    def round_ratio(self) -> float:
        """The probe's round time over a baseline step."""
        return self.tokens_per_verify / self.speedup

    @property
    def overhead(self) -> float:
        """What three steps add to a baseline step; the typical value where that cannot be.

        A round includes a step of the target, so a baseline slower than the round is no
        baseline of this server (SpecBundle has such a pair), and says nothing of its overhead.
        """
        c = self.constants
        slope = _steps_beyond(self.settings, c)
        fixed = c.tree_overhead * (not self.settings.is_chain) + c.step_fixed * slope
        overhead = (self.round_ratio - 1 - fixed) / (1 + c.step_share * slope)
        return overhead if overhead > 0 else c.typical_overhead

    def expected_tokens_per_verify(self, settings: Settings) -> float:
        """The probe's own are as measured; a tree's follow from the chain's rates, roughly."""
        if settings == self.settings:
            return self.tokens_per_verify
        return self.constants.trees.tokens_per_verify(self.acceptance.rates, settings)

    def expected_round_ratio(self, settings: Settings) -> float:
        """Round time over a baseline step; the probe's own is as measured."""
        modelled = self._modelled_ratio(settings) / self._modelled_ratio(self.settings)
        return self.round_ratio * modelled

    def predicted_speedup(self, choice: Choice) -> float:
        """Expected speedup; the probe's own is as measured, and without speculation it is 1."""
        if choice is OFF:
            return 1.0
        return self.expected_tokens_per_verify(choice) / self.expected_round_ratio(choice)

    def cautious_speedup(self, choice: Choice) -> float:
        """What a choice is ranked by: the expected speedup, but of a tree the least possible.

        A total says little of candidates that were not counted, so a tree is not chosen on hope.
        """
        if choice is OFF or choice == self.settings or choice.is_chain:
            return self.predicted_speedup(choice)
        return self.acceptance.tokens_per_verify(choice).low / self.expected_round_ratio(choice)

    def best(self, candidates: Iterable[Choice]) -> Choice:
        """The choice with the best cautious speedup; the shorter one where two are equal."""
        ordered = sorted(candidates, key=lambda c: (0, 0, 0) if c is OFF else _numbers(c))
        return max(ordered, key=self.cautious_speedup)

    def _modelled_ratio(self, settings: Settings) -> float:
        """The modelled round, in baseline steps."""
        c, x = self.constants, self.overhead
        tree = 0.0 if settings.is_chain else c.tree_overhead
        return 1 + x + tree + (c.step_fixed + c.step_share * x) * _steps_beyond(settings, c)


def _steps_beyond(settings: Settings, constants: ProbeConstants) -> float:
    """Steps beyond three; further tokens to verify count as their share of a step."""
    more_tokens = settings.num_draft_tokens - 1 - settings.num_steps
    return settings.num_steps - REFERENCE_STEPS + constants.node_share * max(more_tokens, 0)


def _numbers(settings: Settings) -> tuple[int, int, int]:
    return settings.num_steps, settings.topk, settings.num_draft_tokens
