"""How long a step of the target and a round of speculation take, term by term.

The model: a step reads its weights and the KV cache at a share of the memory bandwidth, adds the
matrix products of its tokens, and takes a fixed time. A round is such a step over all the tokens
to verify, num_steps passes of the draft (SGLang: one draft-extend and num_steps - 1 decodes,
eagle_worker_v2.py of 0.5.23; vLLM: as many passes), and what the host takes in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.constants import CostConstants, Errors, Fitted, fitted
from eagle3_plugin.planning.gpus import GpuProfile
from eagle3_plugin.planning.shapes import DraftShape, TargetShape
from eagle3_plugin.settings import Settings

Engine = Literal["sglang", "vllm"]
Basis = Literal["datasheet", "measured", "fitted", "assumed"]

ALL_REDUCE_S: Final = 15e-6
"""One all-reduce of a few tokens between GPUs; two in each layer. Assumed: the order of a small
custom all-reduce over NVLink; PCIe is slower."""

ALL_REDUCES_PER_LAYER: Final = 2

WIDER_PER_DOUBLING: Final = 0.55
"""How much the errors grow with each doubling of the requests beyond those of the fit. Assumed; the
least with which AngelSlim issue 163's 32 requests (0.82x; not in the fit, as its baseline has more
than decoding in it) lie within what the model says of them."""


@dataclass(frozen=True)
class Term:
    """One part of a time.

    basis: datasheet = a published rate of the GPU, times a fitted factor; measured; fitted = a
    constant of constants.toml; assumed = neither published nor fitted, or a rate that the
    profile lists as unsourced.
    """

    name: str
    seconds: float
    basis: Basis
    how: str


@dataclass(frozen=True)
class Cost:
    """A predicted time: the sum of its terms, within `relative_error` in nine of ten cases."""

    terms: tuple[Term, ...]
    relative_error: float

    @property
    def total_s(self) -> float:
        return math.fsum(term.seconds for term in self.terms)

    @property
    def low_s(self) -> float:
        return self.total_s / (1 + self.relative_error)

    @property
    def high_s(self) -> float:
        return self.total_s * (1 + self.relative_error)


@dataclass(frozen=True)
class RoundCost(Cost):
    """`ratio_error`: of the round in baseline steps, which is what a speedup depends on."""

    ratio_error: float


@dataclass(frozen=True)
class Machine:
    """`num_gpus` of one kind that share every layer (tensor parallel), and the engine on them."""

    gpu: GpuProfile
    num_gpus: int
    engine: Engine

    def __post_init__(self) -> None:
        _require_positive("num_gpus", self.num_gpus)

    @property
    def bytes_per_s(self) -> float:
        return self.gpu.bytes_per_s * self.num_gpus

    def compute_s(self, params: float, num_tokens: float, bytes_per_weight: float) -> float:
        """Two FLOPs for each weight and token, at the published rate."""
        return 2 * params * num_tokens / (self.gpu.flops(bytes_per_weight) * self.num_gpus)

    @property
    def bandwidth_basis(self) -> Basis:
        return "assumed" if "mem_bw_gbps" in self.gpu.unsourced else "datasheet"

    @property
    def compute_basis(self) -> Basis:
        is_sourced = self.gpu.has_rate and "bf16_tflops" not in self.gpu.unsourced
        return "datasheet" if is_sourced else "assumed"


@dataclass(frozen=True)
class Load:
    """Requests that decode at the same time, and the tokens that each has in its KV cache."""

    num_requests: int
    context_tokens: int

    def __post_init__(self) -> None:
        _require_positive("num_requests", self.num_requests)
        _require_positive("context_tokens", self.context_tokens)


def baseline_step(
    target: TargetShape, machine: Machine, load: Load, *, fit: Fitted | None = None
) -> Cost:
    """One decoding step without speculation: a token for each request."""
    used = fit or fitted()
    error = _errors(used, target, machine).baseline.p90 * _beyond(used, load)
    return Cost(tuple(_baseline_terms(target, machine, load, used.constants)), error)


def round_cost(
    target: TargetShape,
    draft: DraftShape,
    machine: Machine,
    load: Load,
    settings: Settings,
    *,
    baseline_s: float | None = None,
    fit: Fitted | None = None,
) -> RoundCost:
    """One round of speculation for all requests.

    `baseline_s`: the measured time of a step without speculation under the same load, if there
    is one; it replaces the modelled step. Without it, the error of the modelled step is added.
    Raises UsageError for a tree on vLLM, which drafts chains only.
    """
    used = fit or fitted()
    c = used.constants
    if machine.engine == "vllm" and not settings.is_chain:
        raise UsageError(
            f"settings {settings} are a tree; vLLM drafts chains only",
            hint="Choose topk 1, or --engine sglang.",
        )
    terms = (
        *_target_terms(target, machine, load, c, baseline_s),
        *_verify_terms(target, machine, load, settings, c),
        *_draft_terms(draft, machine, load, settings, c),
        *_host_terms(target, machine, settings, c),
    )
    errors, beyond = _errors(used, target, machine), _beyond(used, load)
    if baseline_s is not None:
        return RoundCost(terms, errors.round.p90 * beyond, errors.round.p90 * beyond)
    either = math.hypot(errors.round.p90, errors.baseline.p90)
    return RoundCost(terms, either * beyond, errors.ratio.p90 * beyond)


def _errors(fit: Fitted, target: TargetShape, machine: Machine) -> Errors:
    return fit.dense if target.experts is None and machine.num_gpus == 1 else fit.other


def _beyond(fit: Fitted, load: Load) -> float:
    """How much wider the errors are for more requests than the fit has seen."""
    doublings = math.log2(max(1.0, load.num_requests / fit.max_requests))
    return 1 + WIDER_PER_DOUBLING * doublings


def _baseline_terms(
    target: TargetShape, machine: Machine, load: Load, c: CostConstants
) -> Iterator[Term]:
    num_bytes = target.step_bytes(load.num_requests)
    yield _reading("target weights", num_bytes, machine, c)
    kv = load.num_requests * load.context_tokens * target.kv_bytes_per_token
    yield _reading("KV cache", kv, machine, c)
    tokens = load.num_requests
    yield _computing("target", target.active_params, tokens, machine, c, target.bytes_per_weight)
    fixed = c.step_s + c.layer_s * target.num_layers
    yield Term("step", fixed, "fitted", f"{target.num_layers} layers of kernels beside the bytes")
    yield from _communication("target", target.num_layers, machine)


def _target_terms(
    target: TargetShape, machine: Machine, load: Load, c: CostConstants, baseline_s: float | None
) -> Iterator[Term]:
    if baseline_s is None:
        yield from _baseline_terms(target, machine, load, c)
        return
    if not (math.isfinite(baseline_s) and baseline_s > 0):
        raise UsageError(
            f"the baseline step is {baseline_s} s, expected a positive time",
            hint="A step takes requests / (tokens per second of all requests).",
        )
    yield Term("baseline step", baseline_s, "measured", "a step without speculation")


def _verify_terms(
    target: TargetShape, machine: Machine, load: Load, settings: Settings, c: CostConstants
) -> Iterator[Term]:
    """What the step takes longer over all tokens to verify than over one for each request."""
    extra = load.num_requests * (settings.num_draft_tokens - 1)
    yield _computing("verify", target.active_params, extra, machine, c, target.bytes_per_weight)
    if target.experts is not None:
        alone = target.step_bytes(load.num_requests)
        together = target.step_bytes(load.num_requests + c.expert_overlap * extra)
        yield _reading("further experts", together - alone, machine, c)
    if not settings.is_chain:
        seconds = c.tree_layer_s * target.num_layers
        yield Term("tree", seconds, "fitted", "attention over a tree in each layer of the target")


def _draft_terms(
    draft: DraftShape, machine: Machine, load: Load, settings: Settings, c: CostConstants
) -> Iterator[Term]:
    steps = settings.num_steps
    yield _reading("draft weights", steps * draft.pass_bytes + draft.fc_bytes, machine, c)
    kv = steps * load.num_requests * load.context_tokens * draft.kv_bytes_per_token
    yield _reading("draft KV cache", kv, machine, c)
    tokens = load.num_requests * (steps + 1 + (steps - 1) * settings.topk)
    yield _computing("draft", draft.pass_params, tokens, machine, c, 2.0)
    yield Term("draft passes", steps * c.pass_s, "fitted", f"{steps} passes beside the bytes")
    yield from _communication("draft", steps, machine)


def _host_terms(
    target: TargetShape, machine: Machine, settings: Settings, c: CostConstants
) -> Iterator[Term]:
    host = c.host_s + (c.sglang_host_s if machine.engine == "sglang" else 0)
    yield Term("host", host, "fitted", f"{machine.engine} between the steps of a round")
    if machine.num_gpus > 1:
        seconds = c.num_gpus_round_s * math.log2(machine.num_gpus)
        yield Term("GPUs in step", seconds, "fitted", f"{machine.num_gpus} GPUs agree on a round")


def _reading(name: str, num_bytes: float, machine: Machine, c: CostConstants) -> Term:
    seconds = c.bandwidth_factor * num_bytes / machine.bytes_per_s
    how = f"{num_bytes / 1e9:.2f} GB at {machine.bytes_per_s / 1e9 / c.bandwidth_factor:.0f} GB/s"
    return Term(name, seconds, machine.bandwidth_basis, how)


def _computing(
    name: str,
    params: float,
    num_tokens: float,
    machine: Machine,
    c: CostConstants,
    bytes_per_weight: float,
) -> Term:
    seconds = c.compute_factor * machine.compute_s(params, num_tokens, bytes_per_weight)
    how = f"{num_tokens:g} tokens through {params / 1e9:.2f} G weights"
    return Term(f"{name} compute", seconds, machine.compute_basis, how)


def _communication(name: str, num_layers: int, machine: Machine) -> Iterator[Term]:
    if machine.num_gpus > 1:
        count = ALL_REDUCES_PER_LAYER * num_layers
        yield Term(f"{name} communication", count * ALL_REDUCE_S, "assumed", f"{count} all-reduces")


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} is {value}, expected at least 1", hint=f"Raise {name}.")
