"""Plans of the seeds and of published rows, for the tests of planning."""

from __future__ import annotations

from typing import Any

from eagle3_plugin.planning.acceptance import Acceptance, from_total
from eagle3_plugin.planning.asked import Asked
from eagle3_plugin.planning.cost import Engine, Machine
from eagle3_plugin.planning.gpus import find_gpu
from eagle3_plugin.planning.pair import Pair, read_pair
from eagle3_plugin.planning.points import Point

SEED_A = (
    "Qwen/Qwen3-4B-Instruct-2507",
    "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh",
)
SEED_B = ("Qwen/Qwen3-VL-2B-Instruct", "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3")


def asked(
    names: tuple[str, str] = SEED_A,
    gpu: str = "RTX 4090",
    engine: Engine = "sglang",
    acceptance: Acceptance | None = None,
    **changes: Any,
) -> Asked:
    """A request for one GPU, with the acceptance of the draft's card unless another is given."""
    pair, known = read_pair(*names)
    return Asked(pair, Machine(find_gpu(gpu), 1, engine), acceptance or known, **changes)


def asked_of(point: Point, *, has_baseline: bool = False) -> Asked:
    """A published row as a request: its tokens per verify is all that is known of the draft."""
    pair = Pair(
        point.target_name, "", point.target, point.draft, "", "", 2 * point.target.num_params
    )
    acceptance = from_total(point.tokens_per_verify, point.settings, point.source)
    load = point.load.num_requests
    baseline = load / point.baseline_s if has_baseline else None
    return Asked(pair, point.machine, acceptance, load, load, baseline_tokens_per_s=baseline)
