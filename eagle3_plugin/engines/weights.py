"""Stored tensors of any dialect -> canonical ones, checked, in the order an engine computes in."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.names import canonical_name
from eagle3_plugin.draft.read import tensor_problems
from eagle3_plugin.errors import DraftError, Problem

Tensors = dict[str, torch.Tensor]


def canonical_weights(config: DraftConfig, weights: Iterable[tuple[str, torch.Tensor]]) -> Tensors:
    """The tensors by canonical name.

    Raises DraftError with all tensors that are missing, extra, misfit or not finite.
    """
    named = {canonical_name(stored): tensor for stored, tensor in weights}
    kept = {name: tensor for name, tensor in named.items() if name is not None}
    check_weights(config, kept)
    return kept


def check_weights(config: DraftConfig, named: Tensors) -> None:
    """Raises DraftError with all tensors that are missing, extra, misfit or not finite."""
    problems = tensor_problems(config, {name: tuple(t.shape) for name, t in named.items()})
    for name, tensor in named.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.sum())):
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                message = f"{name} has {bad} values that are NaN or infinite"
                problems.append(Problem("tensor-not-finite", message))
    if config.has_vocab_map and "d2t" not in named:
        problems.append(Problem("tensor-missing", "d2t is not in the checkpoint"))
    if problems:
        raise DraftError(problems, where="draft weights")


def with_ascending_taps(config: DraftConfig, named: Tensors) -> Tensors:
    """The tensors for a target that captures the taps in ascending order, as both engines do."""
    order = _ascending(config)
    if order is None:
        return named
    return dict(_reorder(name, tensor, order) for name, tensor in named.items())


def _ascending(config: DraftConfig) -> list[int] | None:
    """Positions of the draft's taps in ascending order, or None if they are ascending already."""
    if config.taps == "default" or list(config.taps) == sorted(config.taps):
        return None
    return sorted(range(config.num_taps), key=lambda i: config.taps[i])


def _reorder(name: str, tensor: torch.Tensor, order: list[int]) -> tuple[str, torch.Tensor]:
    if name in ("fc.weight", "input_norm.weight"):
        blocks = tensor.chunk(len(order), dim=-1)
        return name, torch.cat([blocks[i] for i in order], dim=-1)
    if name.startswith("fc_norm."):
        return f"fc_norm.{order.index(int(name.split('.')[1]))}.weight", tensor
    return name, tensor
