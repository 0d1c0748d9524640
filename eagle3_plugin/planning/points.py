"""Published measurements that state all that the cost of a round depends on; why others do not.

data/published_points.csv holds the rows of Qwen3 and Llama 3 targets, EAGLE-3, SGLang or vLLM,
with a stated GPU, as their sources print them. Only what is not printed is worked out here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eagle3_plugin.planning.constants import Fitted
from eagle3_plugin.planning.cost import Engine, Load, Machine, baseline_step
from eagle3_plugin.planning.gpus import find_gpu
from eagle3_plugin.planning.shapes import DraftShape, TargetShape, known_target
from eagle3_plugin.settings import Settings

PATH = Path(__file__).with_name("data") / "published_points.csv"

CONTEXT_TOKENS: Final = 1024
"""No source states it. With a measured baseline step it moves a round by less than 1 %."""

MAX_BASELINE_RATIO: Final = 2.0
"""A baseline more than that much slower than modelled was measured end to end, prefill, image
encoder or client included: its ratio to a round is not one of decoding."""

_GPU_NAMES: Mapping[str, str] = {"H100": "NVIDIA H100 80GB HBM3"}
"""Sources say H100 alone; those with several in one server are the SXM kind."""

_NEEDED = (
    "num_gpus", "concurrency", "num_steps", "topk", "num_draft_tokens", "tokens_per_verify",
    "baseline_tokens_per_s", "tokens_per_s",
)  # fmt: skip

Row = Mapping[str, str]


@dataclass(frozen=True)
class Point:
    """One measurement: a step without speculation and a round with it, under the same load."""

    source: str
    target_name: str
    target: TargetShape
    draft: DraftShape
    machine: Machine
    load: Load
    settings: Settings
    tokens_per_verify: float
    baseline_s: float
    round_s: float

    @property
    def speedup(self) -> float:
        return self.tokens_per_verify * self.baseline_s / self.round_s

    @property
    def is_dense(self) -> bool:
        """A dense target on one GPU."""
        return self.target.experts is None and self.machine.num_gpus == 1


@dataclass(frozen=True)
class Excluded:
    """A row that is not used, and the rule that it falls under."""

    source: str
    reason: str


def read_points(prior: Fitted, path: Path = PATH) -> tuple[list[Point], list[Excluded]]:
    """The rows that can be fitted, and the others. `prior` is what a baseline is judged by: it
    must not come from the rows themselves.
    """
    points: list[Point] = []
    excluded: list[Excluded] = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            reason = _incomplete(row)
            if reason is None:
                point = _point(row)
                reason = _impossible(point, prior)
            if reason is None:
                points.append(point)
            else:
                excluded.append(Excluded(row["source"], reason))
    return points, excluded


def _incomplete(row: Row) -> str | None:
    if row["trust"] == "C":
        return "trust C: a blog figure or a claim"
    missing = [name for name in _NEEDED if not _is_number(row[name])]
    return f"not stated: {', '.join(missing)}" if missing else None


def _point(row: Row) -> Point:
    engine: Engine = "vllm" if row["engine"].startswith("vLLM") else "sglang"
    target, draft = known_target(row["target"])
    gpu = find_gpu(_GPU_NAMES.get(row["gpu"], row["gpu"]))
    requests = int(row["concurrency"])
    tokens_per_verify = float(row["tokens_per_verify"])
    at_once = 1 if "per request" in row["notes"] else requests
    steps, topk, tokens = (int(row[k]) for k in ("num_steps", "topk", "num_draft_tokens"))
    # vLLM counts drafted tokens, SGLang all that are verified.
    settings = Settings(steps, topk, tokens + 1 if engine == "vllm" else tokens)
    return Point(
        source=row["source"],
        target_name=row["target"],
        target=target,
        draft=draft,
        machine=Machine(gpu, int(row["num_gpus"]), engine),
        load=Load(requests, CONTEXT_TOKENS),
        settings=settings,
        tokens_per_verify=tokens_per_verify,
        baseline_s=at_once / float(row["baseline_tokens_per_s"]),
        round_s=tokens_per_verify * at_once / float(row["tokens_per_s"]),
    )


def _impossible(point: Point, prior: Fitted) -> str | None:
    if point.round_s <= point.baseline_s:
        return "impossible: a round shorter than a step"
    num_bytes = point.target.step_bytes(1)
    if point.baseline_s < num_bytes / point.machine.bytes_per_s:
        return "impossible: a step faster than the memory"
    modelled = baseline_step(point.target, point.machine, point.load, fit=prior).total_s
    if point.baseline_s > MAX_BASELINE_RATIO * modelled:
        return f"baseline over {MAX_BASELINE_RATIO:g} times the modelled: more than decoding"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
