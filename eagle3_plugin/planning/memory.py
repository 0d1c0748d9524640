"""What a pair needs of the GPUs' memory, and the flags that share it out.

All of target, draft and KV cache is taken to be spread evenly over the GPUs. Nothing here is
measured: sizes follow from shapes, and what an engine keeps for itself from its own formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.cost import Machine
from eagle3_plugin.planning.limit_rules import Server, vllm_graph_tokens
from eagle3_plugin.planning.pair import Pair
from eagle3_plugin.planning.settings import OFF, Choice

MIB: Final = 2**20
GIB: Final = 2**30

VLLM_UTILIZATION: Final = 0.92
"""vLLM's default --gpu-memory-utilization (0.32.0, vllm/config/cache.py:102)."""

LARGE_GPU_GIB: Final = 60
LARGE_GPU_RESERVE_MIB: Final = 10 * 1024
NUM_PREFILL_GRAPHS: Final = 58
"""SGLang captures about that many prefill sizes up to 4096 tokens (cuda_graph_hook.py:480)."""

CHUNK_TOKENS: Final = ((35, 4096), (160, 8192), (math.inf, 16384))
"""SGLang's chunked prefill by GPU memory in GiB below which it holds (memory_hook.py:90-170);
below 20 GiB it is 2048, which the reserve takes for the least."""


@dataclass(frozen=True)
class Memory:
    """The memory of one GPU of the machine, in bytes; `tokens_per_request` of KV cache.

    reserve_bytes: activations, graphs and what else the engine keeps for itself.
    kv_bytes: what is left for the KV caches of target and draft.
    """

    total_bytes: int
    target_bytes: int
    draft_bytes: int
    reserve_bytes: int
    target_kv_bytes_per_token: float
    draft_kv_bytes_per_token: float
    tokens_per_request: int

    @property
    def kv_bytes(self) -> int:
        used = self.target_bytes + self.draft_bytes + self.reserve_bytes
        return max(0, self.total_bytes - used)

    @property
    def num_kv_tokens(self) -> int:
        return int(self.kv_bytes / (self.target_kv_bytes_per_token + self.draft_kv_bytes_per_token))

    @property
    def max_requests(self) -> int:
        """Requests of the asked context that fit at the same time."""
        return self.num_kv_tokens // self.tokens_per_request

    @property
    def static_fraction(self) -> float:
        """SGLang's --mem-fraction-static: the target and its KV cache. The draft, its KV cache
        and its graphs come on top of it."""
        own = self.target_bytes + self.num_kv_tokens * self.target_kv_bytes_per_token
        return math.floor(1000 * own / self.total_bytes) / 1000

    def to_json(self) -> dict[str, float]:
        """All fields and what follows from them."""
        return {
            **vars(self),
            "kv_bytes": self.kv_bytes,
            "num_kv_tokens": self.num_kv_tokens,
            "max_requests": self.max_requests,
        }


def memory(
    pair: Pair, machine: Machine, choice: Choice, num_requests: int, context_tokens: int
) -> Memory | None:
    """The memory of each GPU under that load; None for a GPU whose memory is not known."""
    gib = machine.gpu.mem_gib
    if gib is None:
        return None
    is_on = choice is not OFF
    shares = machine.num_gpus
    return Memory(
        total_bytes=int(gib * GIB),
        target_bytes=math.ceil(pair.target_bytes / shares),
        draft_bytes=math.ceil(pair.draft_bytes / shares) if is_on else 0,
        reserve_bytes=_reserve_bytes(machine, num_requests, gib, pair.is_multimodal),
        target_kv_bytes_per_token=pair.target.kv_bytes_per_token / shares,
        draft_kv_bytes_per_token=pair.draft.kv_bytes_per_token / shares if is_on else 0,
        tokens_per_request=context_tokens + reserved_tokens(choice, machine),
    )


def reserved_tokens(choice: Choice, machine: Machine) -> int:
    """Slots of KV cache that a running request holds beyond its tokens.

    SGLang: twice max(steps * topk, draft tokens) (0.5.23, mem_cache/allocation_sizing.py:28-70);
    vLLM: one for each draft token (0.32.0, v1/core/sched/scheduler.py, num_lookahead_tokens).
    """
    if choice is OFF:
        return 1
    if machine.engine == "vllm":
        return choice.num_steps + 1
    return 2 * max(choice.num_steps * choice.topk, choice.num_draft_tokens)


def require_target_fits(found: Memory | None, pair: Pair, machine: Machine) -> None:
    """Raises Eagle3Error where the target cannot run even without speculation."""
    if found is None or found.max_requests >= 1:
        return
    needed = (found.target_bytes + found.reserve_bytes) / GIB
    raise Eagle3Error(
        f"{pair.target_name} needs {needed:.1f} GiB on each of {machine.num_gpus} GPU(s) before "
        f"any KV cache, and {machine.gpu.name} has {found.total_bytes / GIB:g} GiB; expected room "
        f"for one request of {found.tokens_per_request} tokens",
        hint="More GPUs with --num-gpus, a larger one, or a quantised target.",
    )


def memory_flags(found: Memory, choice: Choice, server: Server) -> tuple[str, ...]:
    """The flags of the engine's command line that share the memory out as planned here.

    Graphs are captured up to the most requests, so that no batch runs without one.
    """
    most = str(server.max_requests)
    if server.machine.engine == "sglang":
        fraction = f"{found.static_fraction:.3f}"
        flags = ("--mem-fraction-static", fraction, "--max-running-requests", most)
        return (*flags, "--cuda-graph-max-bs-decode", most)
    flags = ("--gpu-memory-utilization", f"{VLLM_UTILIZATION:g}", "--max-num-seqs", most)
    width = 1 if choice is OFF else choice.num_steps + 1
    tokens = server.max_requests * width
    if tokens <= vllm_graph_tokens(server):
        return flags
    return (*flags, "--max-cudagraph-capture-size", str(tokens))


def _reserve_bytes(machine: Machine, num_requests: int, gib: float, is_multimodal: bool) -> int:
    """SGLang's own formula (0.5.23, memory_hook.py:281-342, 418-462), for vLLM too, whose least
    is what its utilization leaves out."""
    chunk = 2048 if gib < 20 else next(tokens for below, tokens in CHUNK_TOKENS if gib < below)
    mib = 512 + 1.5 * chunk + machine.num_gpus / 8 * 1024
    mib += 2 * num_requests + 8 * NUM_PREFILL_GRAPHS
    if machine.engine == "vllm":
        return int(max(mib * MIB, (1 - VLLM_UTILIZATION) * gib * GIB))
    if gib > LARGE_GPU_GIB:
        mib = max(mib, LARGE_GPU_RESERVE_MIB)
    fraction = 1 - mib * MIB / (gib * GIB)
    return int((1 - fraction * (IMAGE_FRACTION if is_multimodal else 1)) * gib * GIB)


IMAGE_FRACTION: Final = 0.95
"""SGLang leaves 5 % more to targets that read images (memory_hook.py:440)."""
