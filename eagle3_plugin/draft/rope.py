"""Rotary position embedding: frequencies of every rope type, and M-RoPE.

Formulas: transformers 5.19, modeling_rope_utils.py and the rotary classes of Qwen2-VL (blocks)
and Qwen3-VL (interleaved). Frequencies are float32, as every trainer has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from eagle3_plugin.draft.config import Rope


def frequencies(rope: Rope, head_dim: int) -> tuple[Tensor, float]:
    """Inverse frequencies [head_dim / 2] and the factor that cos and sin are multiplied by."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return _TYPES[rope.type](1.0 / rope.theta**exponents, rope, head_dim)


def cos_sin(rope: Rope, head_dim: int, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """cos and sin, each [B, T, head_dim].

    positions: [B, T], or [3, B, T] with the axes time, height, width. 1-D positions stand for
        the same value on all three axes, which is what text tokens have.
    """
    inverse, factor = frequencies(rope, head_dim)
    wide = torch.promote_types(dtype, torch.float32)
    angles = positions[..., None].to(wide) * inverse.to(positions.device, wide)
    if positions.dim() == 3:
        axes = _axis_of_frequency(rope, head_dim).to(positions.device)
        angles = angles.gather(0, axes.expand(1, *angles.shape[1:]))[0]
    both = torch.cat([angles, angles], dim=-1)
    return (both.cos() * factor).to(dtype), (both.sin() * factor).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, heads, T, head_dim] rotated; the two halves of head_dim are the pairs (GPT-NeoX)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]


def _axis_of_frequency(rope: Rope, head_dim: int) -> Tensor:
    """For each of the head_dim / 2 frequencies, the axis (0, 1, 2) whose position it turns by."""
    if rope.mrope_section is None:
        return torch.zeros(head_dim // 2, dtype=torch.int64)
    if not rope.mrope_interleaved:
        sections = [torch.full((size,), axis) for axis, size in enumerate(rope.mrope_section)]
        return torch.cat(sections)
    axes = torch.zeros(head_dim // 2, dtype=torch.int64)
    for axis in (1, 2):
        axes[axis : 3 * rope.mrope_section[axis] : 3] = axis
    return axes


def _default(inverse: Tensor, rope: Rope, head_dim: int) -> tuple[Tensor, float]:
    return inverse, 1.0


def _linear(inverse: Tensor, rope: Rope, head_dim: int) -> tuple[Tensor, float]:
    return inverse / rope.parameters["factor"], 1.0


def _yarn(inverse: Tensor, rope: Rope, head_dim: int) -> tuple[Tensor, float]:
    """YaRN (arXiv 2309.00071): fast frequencies stay, slow ones are divided by the factor."""
    p = rope.parameters
    factor = p["factor"]
    low = math.floor(_turns_dimension(rope, head_dim, p.get("beta_fast", 32.0)))
    high = math.ceil(_turns_dimension(rope, head_dim, p.get("beta_slow", 1.0)))
    start, end = max(low, 0), min(high, head_dim - 1)
    width = end - start if end != start else 0.001
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32) - start) / width).clamp(0, 1)
    return inverse / factor * ramp + inverse * (1 - ramp), rope.attention_factor


def _turns_dimension(rope: Rope, head_dim: int, num_turns: float) -> float:
    """The dimension whose wave makes that many turns within the original context."""
    context = rope.parameters["original_max_position_embeddings"]
    turns = math.log(context / (num_turns * 2 * math.pi))
    return head_dim * turns / (2 * math.log(rope.theta))


def _llama3(inverse: Tensor, rope: Rope, head_dim: int) -> tuple[Tensor, float]:
    """Llama 3.1: long waves are divided by the factor, medium ones partly, short ones not."""
    p = rope.parameters
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    turns = p["original_max_position_embeddings"] * inverse / (2 * math.pi)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * inverse / p["factor"] + smooth * inverse, 1.0


_TYPES: Mapping[str, Callable[[Tensor, Rope, int], tuple[Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "yarn": _yarn,
    "llama3": _llama3,
}
