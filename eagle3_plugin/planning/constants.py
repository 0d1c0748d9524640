"""The constants of the cost model, read from constants.toml, which fit.py writes."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("constants.toml")


@dataclass(frozen=True)
class CostConstants:
    """What all GPUs, engines and models share.

    bandwidth_factor: time of reading weights over the time at published bandwidth.
    compute_factor: time that one more token's matrix products add over the time at the
        published dense rate; they are added to the reads, as if nothing of them were hidden.
    step_s, layer_s: what a step of the target takes beside bytes and FLOPs, fixed and per layer.
    pass_s: what one pass of the draft takes beside bytes and FLOPs.
    host_s, sglang_host_s: what a round takes beside its steps; SGLang's is higher by the second.
    tree_layer_s: what a layer of the target takes longer over a tree than over a chain
        (attention in two calls and a merge, instead of one call).
    expert_overlap: how much a further token of one sequence counts, of one of another sequence,
        for the number of experts that a step touches; 1 = routed without regard to the sequence.
    num_gpus_round_s: what a round takes longer for each doubling of the GPUs.
    """

    bandwidth_factor: float
    compute_factor: float
    step_s: float
    layer_s: float
    pass_s: float
    host_s: float
    sglang_host_s: float
    tree_layer_s: float
    expert_overlap: float
    num_gpus_round_s: float


@dataclass(frozen=True)
class ModelError:
    """Relative errors of predictions, each source left out of the fit in its turn.

    mean: of the absolute errors; p90: what nine of ten absolute errors do not exceed.
    """

    mean: float
    p90: float


@dataclass(frozen=True)
class Errors:
    """Of a round from a measured baseline step; of a modelled baseline step; and of their ratio,
    the cost of a round in steps, when both are modelled: it is what a speedup depends on.
    """

    round: ModelError
    baseline: ModelError
    ratio: ModelError


@dataclass(frozen=True)
class Fitted:
    """The constants, and the errors for dense targets on one GPU and for all others.

    max_requests: the greatest load of the rows that the errors are of.
    """

    constants: CostConstants
    dense: Errors
    other: Errors
    max_requests: int


@cache
def fitted() -> Fitted:
    """The fit that ships with the package."""
    table = tomllib.loads(PATH.read_text(encoding="utf-8"))
    dense, other = (
        Errors(**{name: ModelError(**values) for name, values in table["error"][kind].items()})
        for kind in ("dense", "other")
    )
    constants = CostConstants(**table["constants"])
    return Fitted(constants, dense, other, table["error"]["max_requests"])
