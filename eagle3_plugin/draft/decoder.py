"""The decoder layer of a draft, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eagle3_plugin.draft import rope
from eagle3_plugin.draft.config import DraftConfig, Rope


class RMSNorm(nn.Module):
    """As transformers: normalised in float32 (or wider), cast back, then times the weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rope; q and k are normed per head where the decoder is qwen3."""

    def __init__(self, config: DraftConfig, width: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.rope: Rope = config.rope
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(width, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(width, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.attention_output_bias)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if config.decoder == "qwen3":
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, x: Tensor, positions: Tensor, past: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output [B, T, hidden], and the keys and values with those of `past` before them."""
        cos, sin = rope.cos_sin(self.rope, self.head_dim, positions, x.dtype)
        q = rope.rotate(self.q_norm(self._heads(self.q_proj(x))), cos, sin)
        k = rope.rotate(self.k_norm(self._heads(self.k_proj(x))), cos, sin)
        v = self._heads(self.v_proj(x))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        out = attend(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).flatten(2)), (k, v)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention [B, heads, T, head_dim], the softmax in float32 (or wider).

    mask: [B, 1, T, S], True where a query sees a key. Without it, the T queries are the newest of
        the S keys, and each sees itself and what is older.
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if mask is None:
        num_queries, num_keys = q.shape[2], k.shape[2]
        everything = torch.ones(num_queries, num_keys, dtype=torch.bool, device=q.device)
        mask = everything.tril(num_keys - num_queries)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    wide = torch.promote_types(q.dtype, torch.float32)
    weights: Tensor = scores.softmax(dim=-1, dtype=wide).to(q.dtype)
    return weights @ v


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: DraftConfig) -> None:
        super().__init__()
        hidden, intermediate = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """A decoder layer; the first attends over [embedding, hidden], later ones over hidden only."""

    def __init__(self, config: DraftConfig, index: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.is_first = index == 0
        self.residual_is_normed = config.residual == "normed"
        if self.is_first:
            self.hidden_norm = RMSNorm(hidden, eps)
        self.input_layernorm = RMSNorm(hidden, eps)
        self.self_attn = Attention(config, 2 * hidden if self.is_first else hidden)
        self.post_attention_layernorm = RMSNorm(hidden, eps)
        self.mlp = Mlp(config)

    def forward(
        self,
        embeds: Tensor,
        hidden: Tensor,
        positions: Tensor,
        past: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        residual, x = hidden, self.input_layernorm(embeds if self.is_first else hidden)
        if self.is_first:
            normed = self.hidden_norm(hidden)
            residual = normed if self.residual_is_normed else hidden
            x = torch.cat([x, normed], dim=-1)
        attended, kept = self.self_attn(x, positions, past, mask)
        hidden = residual + attended
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), kept
