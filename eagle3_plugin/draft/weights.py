"""The weights of a draft as torch tensors, under canonical names: for the oracle only."""

from __future__ import annotations

import torch
from torch import Tensor

from eagle3_plugin.draft.read import Draft
from eagle3_plugin.draft.tensors import expected_tensors

_TORCH = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def torch_weights(draft: Draft) -> dict[str, Tensor]:
    """Every weight that the draft computes with, copied into memory."""
    return {name: _tensor(draft, name) for name in expected_tensors(draft.config)}


def _tensor(draft: Draft, name: str) -> Tensor:
    stored = draft.names[name]
    info = draft.checkpoint.tensors[stored]
    data = bytearray().join(draft.checkpoint.chunks(stored))
    return torch.frombuffer(data, dtype=_TORCH[info.dtype]).reshape(info.shape)
