"""The constants that probe_fit.py fits, read from probe_constants.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eagle3_plugin.planning.rates import TreeShare

PATH = Path(__file__).with_name("probe_constants.toml")


@dataclass(frozen=True)
class ProbeConstants:
    """What all pairs share, in units of one baseline step where a time is meant.

    decay, decay_low, decay_high: the ratio of a conditional rate to the one before it: fitted,
        and the 5th and 95th percentile over pairs and benchmarks.
    typical_low, typical_rate, typical_high: the first conditional rate of published pairs:
        10th percentile, median, 90th percentile.
    step_fixed, step_share: a further step of a chain costs step_fixed baseline steps and
        step_share of what speculation with three steps adds to a baseline step.
    typical_overhead: what three steps add to a baseline step; the median.
    sibling, narrow, wide: see TreeShare.
    tree_overhead: what a tree costs more than a chain of as many steps and tokens.
    node_share: what one more token to verify costs, as a share of one more step. Assumed.
    tree_error: how far a tree's tokens per verify are from what its chain's rates predict, as a
        share; the 95th percentile.
    """

    decay: float
    decay_low: float
    decay_high: float
    typical_low: float
    typical_rate: float
    typical_high: float
    step_fixed: float
    step_share: float
    typical_overhead: float
    sibling: float
    narrow: float
    wide: float
    tree_overhead: float
    node_share: float
    tree_error: float

    @property
    def trees(self) -> TreeShare:
        return TreeShare(self.sibling, self.narrow, self.wide)

    @property
    def decays(self) -> tuple[float, float, float]:
        """Fitted, low, high."""
        return self.decay, self.decay_low, self.decay_high


@cache
def probe_constants() -> ProbeConstants:
    """The constants that ship with the package."""
    table = tomllib.loads(PATH.read_text(encoding="utf-8"))
    return ProbeConstants(**table["constants"])
