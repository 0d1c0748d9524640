"""What the tiny models are made of and how they are trained; its hash names the cached result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from eagle3_plugin.errors import MissingExtraError

VERSION = 1
"""Raise it when the trainer changes what the same numbers mean."""

SEED = 20261122
VOCAB_SIZE = 2048
PROMPT_TOKENS, NEW_TOKENS = 32, 128
NUM_HELD_OUT_PROMPTS = 24
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class TargetRecipe:
    """A Qwen3 (or, with experts, Qwen3-MoE) from scratch, and what it writes after training.

    num_text_tokens: how much of the corpus it sees. Less text is learned by heart, and a model
        that knows its text by heart loops less.
    num_continuations: greedy continuations of training prompts, the drafts' training data.
    """

    vocab_size: int = VOCAB_SIZE
    hidden_size: int = 128
    intermediate_size: int = 384
    num_layers: int = 8
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    num_experts: int = 0
    num_experts_per_token: int = 0
    max_position_embeddings: int = 2048
    rope_theta: float = 1_000_000.0
    steps: int = 280
    batch: int = 16
    sequence: int = 128
    matrix_rate: float = 0.02
    other_rate: float = 0.02
    num_text_tokens: int = 150_000
    num_continuations: int = 768


@dataclass(frozen=True)
class DraftRecipe:
    """Training-time test: `steps` of which the first `num_early_steps` unroll only `early_unroll`.

    decay: the weight of unrolled step k is decay ** k.
    """

    steps: int = 330
    num_early_steps: int = 200
    early_unroll: int = 2
    unroll: int = 4
    decay: float = 0.8
    batch: int = 16
    num_continuations: int = 768
    matrix_rate: float = 0.02
    other_rate: float = 0.02


DENSE = TargetRecipe()
MOE = replace(
    DENSE,
    num_layers=4,
    intermediate_size=256,
    num_experts=4,
    num_experts_per_token=2,
    steps=124,
    num_continuations=256,
)
Quality = Literal["good", "short"]
DRAFTS: Mapping[Quality, DraftRecipe] = {
    "good": DraftRecipe(),
    "short": DraftRecipe(steps=100, num_early_steps=100, num_continuations=256),
}


def cache_key(recipe: Mapping[str, Any]) -> str:
    """A short hash of a recipe with everything that its result depends on."""
    text = json.dumps({**recipe, **_surroundings()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_json(recipe: TargetRecipe | DraftRecipe) -> dict[str, Any]:
    """The recipe's fields, as a job and a hash have them."""
    return asdict(recipe)


def _surroundings() -> dict[str, Any]:
    versions = {name: installed_version(name) for name in ("torch", "transformers", "tokenizers")}
    return {"version": VERSION, "seed": SEED, "precision": precision(), **versions}


def precision(cpu_info: Path = CPU_INFO) -> Literal["bfloat16", "float32"]:
    """The type that the models train in: bfloat16 where the CPU multiplies it, else float32."""
    flags = cpu_info.read_text() if cpu_info.exists() else ""
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def installed_version(package: str) -> str:
    """The version of a package that training needs; raises MissingExtraError without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise MissingExtraError(
            f"training a tiny pair needs {package}, which is not installed",
            hint="pip install 'eagle3-plugin[torch]'",
        ) from None
