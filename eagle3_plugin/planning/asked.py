"""What a plan is made for, and how it is read from what a user types."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import Acceptance
from eagle3_plugin.planning.acceptance_sources import parse_acceptance
from eagle3_plugin.planning.cost import Engine, Machine
from eagle3_plugin.planning.gpus import GpuProfile, find_gpu, parse_gpu
from eagle3_plugin.planning.limit_rules import Server
from eagle3_plugin.planning.limits import parse_flags
from eagle3_plugin.planning.local_gpus import LocalGpu, local_gpus
from eagle3_plugin.planning.measured import (
    Measured,
    find_measured,
    read_measured,
    require_same,
)
from eagle3_plugin.planning.pair import Pair, read_pair
from eagle3_plugin.planning.points import CONTEXT_TOKENS

Goal = Literal["latency", "throughput"]
GOALS: tuple[Goal, ...] = ("latency", "throughput")
MAX_CONCURRENCY: Final = 1024


@dataclass(frozen=True)
class Asked:
    """What a plan is made for.

    first, last: requests at the same time, from and to. context_tokens: of each request.
    goal: of a range, `latency` decides at its low end and `throughput` at its high end; under one
    load the fastest round serves both. baseline_tokens_per_s: measured without speculation, of
    all requests together, under a single load. measured: a profile of eagle3 tune; then its times
    count, and what it has none for is not ranked. passed_over: why the profile that is kept of
    this pair and hardware was not taken; None where it was, or where there is none.
    """

    pair: Pair
    machine: Machine
    acceptance: Acceptance
    first: int = 1
    last: int = 1
    context_tokens: int = CONTEXT_TOKENS
    goal: Goal = "latency"
    baseline_tokens_per_s: float | None = None
    flags: Mapping[str, str] = field(default_factory=dict)
    measured: Measured | None = None
    passed_over: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= MAX_CONCURRENCY:
            raise UsageError(
                f"concurrency from {self.first} to {self.last}, "
                f"expected 1 <= first <= last <= {MAX_CONCURRENCY}",
                hint="Write --concurrency 4, or a range: --concurrency 1..64.",
            )
        if self.measured is not None and self.baseline_tokens_per_s is not None:
            raise UsageError(
                f"a measured baseline beside the profile {self.measured.source}, which has its "
                "own; expected one of them",
                hint="Leave --baseline-tokens-per-s or --profile out.",
            )
        if self.measured is not None and not self.measured.covers(self.first, self.last):
            raise UsageError(
                f"{self.measured.source} was measured at {_listed(self.measured.loads)} requests "
                f"at a time; expected loads from {self.first} to {self.last} within",
                hint="Ask for fewer with --concurrency, or measure more with eagle3 tune.",
            )
        if self.baseline_tokens_per_s is None:
            return
        if self.first != self.last:
            raise UsageError(
                f"a measured baseline and loads from {self.first} to {self.last}; expected the one "
                "load that it was measured under",
                hint="Give --concurrency N with --baseline-tokens-per-s, or leave the latter out.",
            )
        if not (math.isfinite(self.baseline_tokens_per_s) and self.baseline_tokens_per_s > 0):
            raise UsageError(
                f"the baseline is {self.baseline_tokens_per_s:g} tokens/s, expected more than 0"
            )

    @property
    def server(self) -> Server:
        return Server(self.machine, self.last, self.flags, self.pair.model_type)


def read_asked(
    target: str,
    draft: str,
    engine: Engine,
    *,
    gpu: str | None,
    num_gpus: int,
    acceptance: str | None,
    concurrency: str,
    context_tokens: int,
    goal: str,
    baseline_tokens_per_s: float | None,
    server_flags: Sequence[str],
    profile: Path | None = None,
) -> Asked:
    """What the options name. Raises UsageError for a wrong one.

    gpu: None means the GPUs of this machine. acceptance: None means the best that is known of the
    draft (pair.py). profile: None means the one that eagle3 tune keeps of this pair on these GPUs,
    if it covers the loads and no baseline is given.
    """
    if goal not in GOALS:
        raise UsageError(f"--goal is {goal!r}, expected {' or '.join(GOALS)}")
    first, last = parse_concurrency(concurrency)
    measured, passed_over = None if profile is None else read_measured(profile), None
    if measured is not None:
        require_same(measured.profile.subject, engine, target, draft, measured.source)
    elif baseline_tokens_per_s is None:
        hardware = parse_gpu(gpu).name if gpu else local_hardware()
        measured = find_measured(engine, target, draft, hardware, num_gpus)
        passed_over = _why_not(measured, first, last)
        measured = None if passed_over else measured
    machine = _machine(measured, gpu, num_gpus, engine)
    given = parse_acceptance(acceptance) if acceptance else None
    pair, known = read_pair(target, draft)
    return Asked(
        pair,
        machine,
        given or (measured.acceptance if measured else known),
        first,
        last,
        context_tokens,
        "latency" if goal == "latency" else "throughput",
        baseline_tokens_per_s,
        parse_flags(server_flags, engine),
        measured,
        passed_over,
    )


def parse_concurrency(text: str) -> tuple[int, int]:
    """First and last load of "4" or "1..64"."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:\.\.\s*(\d{1,6})\s*)?", text, re.ASCII)
    if match is None:
        raise UsageError(
            f"--concurrency is {text!r}, expected a number of requests or a range",
            hint="For example --concurrency 4 or --concurrency 1..64.",
        )
    return int(match[1]), int(match[2] or match[1])


def _why_not(kept: Measured | None, first: int, last: int) -> str | None:
    """Why a profile that was found, and not named, is not taken; None if it is, or is not there."""
    if kept is None or kept.covers(first, last):
        return None
    return (
        f"the kept profile {kept.source} is not used: it was measured at {_listed(kept.loads)} "
        f"requests at a time, and loads from {first} to {last} are asked for with --concurrency"
    )


def _machine(measured: Measured | None, gpu: str | None, num_gpus: int, engine: Engine) -> Machine:
    """The machine of the profile, else the one that is named, else this one's GPUs."""
    if measured is None:
        return Machine(parse_gpu(gpu) if gpu else local_gpu(), num_gpus, engine)
    subject = measured.profile.subject
    if gpu is not None and parse_gpu(gpu).name != subject.hardware:
        raise UsageError(
            f"--profile {measured.source} was measured on {subject.hardware}; expected --gpu {gpu}",
            hint="Leave --gpu out, or run eagle3 tune there.",
        )
    try:
        profile = find_gpu(subject.hardware)
    except UsageError:  # a CPU, or a GPU that we know no rates of: the measured times do
        profile = GpuProfile(subject.hardware, measured.source, "measured")
    return Machine(profile, subject.num_gpus, engine)


def _listed(loads: Sequence[int]) -> str:
    return ", ".join(map(str, loads)) or "no"


def local_gpu() -> GpuProfile:
    """The profile of this machine's GPUs; raises UsageError for none, and for several kinds."""
    only = _only_kind()
    return find_gpu(only.name, only.mem_gib)


def local_hardware() -> str:
    """The name of that profile, or the driver's for GPUs that have none."""
    only = _only_kind()
    try:
        return find_gpu(only.name, only.mem_gib).name
    except UsageError:
        return only.name


def _only_kind() -> LocalGpu:
    found = dict.fromkeys(local_gpus())
    if not found:
        raise UsageError(
            "neither nvidia-smi nor rocm-smi shows a GPU on this machine; expected one, or --gpu",
            hint='Name the GPU that it will run on: --gpu "RTX 4090".',
        )
    if len(found) > 1:
        raise UsageError(
            f"this machine has GPUs of {len(found)} kinds: {', '.join(g.name for g in found)}; "
            "expected one kind",
            hint="Name the one that it will run on with --gpu.",
        )
    (only,) = found
    return only
