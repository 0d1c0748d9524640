"""The oracle: an EAGLE-3 draft in plain PyTorch, clarity over speed, no engine.

Row t of a pass pairs the taps of token t with the embedding of token t + 1, at position t; its
logits predict token t + 2 (chain.py drafts with it). The module is differentiable, takes batches
and runs in bfloat16, float32 and float64.

Read in vLLM 0.32 (models/llama_eagle3.py, qwen3_eagle3.py), SGLang 0.5.23 (models/llama_eagle3.py),
speculators 0.9.0 (models/eagle3) and specforge 0.2.0 (modeling/draft/llama3_eagle.py); the last
two are compared with in tests/draft/test_reference_peers.py. Who disagrees:

- `norm_output`: in vLLM, SGLang and speculators (default false) it feeds the normed state to the
  next step (`feedback: postnorm` here), and the head always reads the normed state. In specforge
  (default true) it is the norm before lm_head and nothing else: its training-time test
  (algorithms/eagle3/model.py, step 5.2) always feeds the state before the norm. With false, its
  head reads the state before the norm, which is no draft that an engine can run.
- The residual: speculators and vLLM have raw and normed; specforge and SGLang have raw only.
- Positions: speculators numbers rows from 1, all others from 0. Rope is relative: no difference.
- Yarn: specforge reads the attention factor from mscale and mscale_all_dim, and needs both.
- specforge has neither q/k norms nor attention biases, and one layer only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.decoder import Layer, RMSNorm
from eagle3_plugin.draft.read import Draft
from eagle3_plugin.draft.tensors import VOCAB_MAP, Shape, expected_tensors
from eagle3_plugin.errors import DraftError, Problem

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [B, kv_heads, S, head_dim] each; an empty list to start with."""

_DTYPES: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class ReferenceDraft(nn.Module):
    """The draft of a `DraftConfig`; its state dict has the canonical names of draft/tensors.py.

    embed_tokens and lm_head are always modules: where the config says "target" they hold the
    target's weights. vocab_map: target id of each draft id, [draft_vocab]; None = the same ids.
    """

    vocab_map: Tensor | None

    def __init__(self, config: DraftConfig, vocab_map: Tensor | None) -> None:
        super().__init__()
        self.config = config
        hidden, eps = config.hidden_size, config.rms_norm_eps
        width = config.num_taps * config.target_hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, hidden)
        if config.fc_input_norm == "joint":
            self.input_norm = RMSNorm(width, eps)
        if config.fc_input_norm == "per_tap":
            norms = [RMSNorm(config.target_hidden_size, eps) for _ in range(config.num_taps)]
            self.fc_norm = nn.ModuleList(norms)
        self.fc = nn.Linear(width, hidden, bias=config.fc_bias)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(hidden, eps)
        self.lm_head = nn.Linear(hidden, config.draft_vocab_size, bias=False)
        self.register_buffer("vocab_map", vocab_map, persistent=False)

    @classmethod
    def from_weights(
        cls,
        config: DraftConfig,
        weights: Mapping[str, Tensor],
        vocab_map: Tensor | NDArray[Any] | None,
        *,
        target_embed: Tensor | None = None,
        target_lm_head: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> ReferenceDraft:
        """The draft with these weights by canonical name, cast to `dtype`.

        target_embed, target_lm_head: the target's weights, for what the config says is its.
        Tensors that have the dtype already are kept, not copied.
        Raises DraftError naming every missing, extra and misfit tensor.
        """
        shared = {"embed_tokens.weight": target_embed, "lm_head.weight": target_lm_head}
        absent = [] if config.embedding == "target" else ["embed_tokens.weight"]
        absent += [] if config.lm_head == "target" else ["lm_head.weight"]
        table = dict(weights)
        table |= {k: v for k, v in shared.items() if v is not None and k not in absent}
        problems = _misfits(config, weights, table, vocab_map)
        if problems:
            raise DraftError(problems)
        ids = None if vocab_map is None else torch.as_tensor(vocab_map, dtype=torch.int64)
        with torch.device("meta"):
            draft = cls(config, ids)
        draft.load_state_dict({k: v.to(dtype) for k, v in table.items()}, assign=True)
        return draft

    @classmethod
    def load(
        cls,
        draft: Draft,
        *,
        target_embed: Tensor | None = None,
        target_lm_head: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> ReferenceDraft:
        """The draft of a checkpoint, as `from_weights`."""
        return cls.from_weights(
            draft.config,
            read_weights(draft),
            draft.vocab_map,
            target_embed=target_embed,
            target_lm_head=target_lm_head,
            dtype=dtype,
        )

    def fuse(self, taps: Tensor) -> Tensor:
        """The draft's hidden state [..., hidden] from taps [..., num_taps * target_hidden]."""
        if self.config.fc_input_norm == "joint":
            taps = self.input_norm(taps)
        if self.config.fc_input_norm == "per_tap":
            parts = taps.chunk(self.config.num_taps, dim=-1)
            taps = torch.cat([norm(x) for norm, x in zip(self.fc_norm, parts, strict=True)], -1)
        fused: Tensor = self.fc(taps)
        return fused

    def forward(
        self,
        embeds: Tensor,
        hidden: Tensor,
        positions: Tensor,
        cache: Cache | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The normed state (for `logits`) and the state that the next step is fed, [B, T, hidden].

        embeds: [B, T, hidden], of the token after the one that `hidden` belongs to.
        hidden: [B, T, hidden], fused taps, or what this returned as the state to feed.
        positions: [B, T], or [3, B, T] for M-RoPE.
        cache: gets the T new keys and values after those it has; None = nothing older, none kept.
        mask: [B, 1, T, S], True = seen, S = cached + T; None = all older ones and oneself.
        """
        for index, layer in enumerate(self.layers):
            past = cache[index] if cache is not None and index < len(cache) else None
            hidden, kept = layer(embeds, hidden, positions, past, mask)
            if cache is not None:
                cache[index : index + 1] = [kept]
        normed = self.norm(hidden)
        return normed, normed if self.config.feedback == "postnorm" else hidden

    def logits(self, normed: Tensor) -> Tensor:
        """Logits over the draft's vocabulary, [..., draft_vocab]."""
        out: Tensor = self.lm_head(normed)
        return out

    def to_target_ids(self, draft_ids: Tensor) -> Tensor:
        """The target's ids of draft ids."""
        return draft_ids if self.vocab_map is None else self.vocab_map[draft_ids]


def read_weights(draft: Draft) -> dict[str, Tensor]:
    """Every tensor that the draft computes with, by canonical name, in the dtype of the file."""
    return {
        name: _read(draft.checkpoint, draft.names[name]) for name in expected_tensors(draft.config)
    }


def _read(checkpoint: Checkpoint, stored: str) -> Tensor:
    info = checkpoint.tensors[stored]
    data = bytearray(info.nbytes)
    end = 0
    for chunk in checkpoint.chunks(stored):
        data[end : end + len(chunk)] = chunk
        end += len(chunk)
    return torch.frombuffer(data, dtype=_DTYPES[info.dtype]).view(info.shape)


def _misfits(
    config: DraftConfig,
    given: Mapping[str, Tensor],
    table: Mapping[str, Tensor],
    vocab_map: Tensor | NDArray[Any] | None,
) -> list[Problem]:
    own = expected_tensors(config)
    expected = _all_tensors(config)
    found: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in table.items()}
    if config.has_vocab_map:
        expected[VOCAB_MAP] = (config.draft_vocab_size,)
    if vocab_map is not None:
        found[VOCAB_MAP] = tuple(vocab_map.shape)
    problems = [_extra(name, tuple(given[name].shape)) for name in sorted(set(given) - set(own))]
    if vocab_map is not None and not config.has_vocab_map:
        problems.append(_extra(VOCAB_MAP, found[VOCAB_MAP]))
    for name, shape in expected.items():
        whose = "draft" if name in own or name == VOCAB_MAP else "target"
        if name not in found:
            text = f"{name} of the {whose} is missing, expected shape {list(shape)}"
            problems.append(Problem("tensor-missing", text))
        elif found[name] != shape:
            text = f"{name} of the {whose} has shape {list(found[name])}, expected {list(shape)}"
            problems.append(Problem("tensor-shape", text))
    return problems


def _all_tensors(config: DraftConfig) -> dict[str, Shape]:
    """The canonical table and what the target shares."""
    owning = config.model_copy(update={"embedding": "own", "lm_head": "own"})
    return expected_tensors(owning)


def _extra(name: str, shape: Shape) -> Problem:
    return Problem("tensor-extra", f"{name} {list(shape)} is no tensor of such a draft")
