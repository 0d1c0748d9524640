"""The rotations of a scaled rope, as the oracle computes them, in SGLang's rotary classes.

SGLang 0.5.23 has no scaling beside M-RoPE in a draft and drops it without a word
(models/llama_eagle3.py:123-130), and of yarn's parameters it does not read attention_factor
(layers/rotary_embedding/factory.py:318-332).

mypy does not see this file: SGLang ships no types and is not installed where mypy runs.
"""

from __future__ import annotations

import torch
from sglang.srt.layers.rotary_embedding import MRotaryEmbedding, RotaryEmbedding

from eagle3_plugin.draft.config import DraftConfig, Rope
from eagle3_plugin.draft.rope import frequencies


class Scaled:
    """A table of cos and sin, [positions, head_dim], from `draft.rope`."""

    rope: Rope

    def _rows(self, start: int, end: int) -> torch.Tensor:
        inverse, factor = frequencies(self.rope, self.head_size)
        angles = torch.arange(start, end, dtype=torch.float32)[:, None] * inverse
        return torch.cat([angles.cos(), angles.sin()], dim=-1) * factor

    def _compute_cos_sin_cache(self) -> torch.Tensor:
        return self._rows(0, self.max_position_embeddings)

    def _ensure_cos_sin_cache_length(self, needed_max_pos: int) -> None:
        table = self.cos_sin_cache
        if needed_max_pos >= len(table):
            more = self._rows(len(table), needed_max_pos + 1).to(table)
            self.cos_sin_cache = torch.cat([table, more])


class ScaledRope(Scaled, RotaryEmbedding):
    def __init__(self, draft: DraftConfig, num_positions: int) -> None:
        self.rope = draft.rope
        super().__init__(*_sizes(draft, num_positions))


class ScaledMRope(Scaled, MRotaryEmbedding):
    def __init__(self, draft: DraftConfig, num_positions: int) -> None:
        self.rope = draft.rope
        super().__init__(
            *_sizes(draft, num_positions),
            mrope_section=list(draft.rope.mrope_section),
            mrope_interleaved=draft.rope.mrope_interleaved,
        )


def rotary(draft: DraftConfig, num_positions: int) -> RotaryEmbedding:
    """The rotations of a draft whose rope is scaled."""
    kind = ScaledRope if draft.rope.mrope_section is None else ScaledMRope
    return kind(draft, num_positions)


def _sizes(draft: DraftConfig, num_positions: int) -> tuple:
    head_dim, is_neox_style = draft.head_dim, True
    dtype = torch.get_default_dtype()
    return head_dim, head_dim, num_positions, draft.rope.theta, is_neox_style, dtype
