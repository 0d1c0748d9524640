"""Reads the vocabulary map of a checkpoint, and compares it with the mask that goes with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.tensors import (
    VOCAB_MAP,
    VOCAB_MASK,
    target_mask,
    vocab_map_from_offsets,
    vocab_map_problems,
)

_MAP_DTYPES = ("I64", "I32", "I16")
_MASK_DTYPES = ("BOOL", "U8", "I8", "I16", "I32", "I64")


def read_vocab_map(
    checkpoint: Checkpoint, stored: Stored, names: Mapping[str, str], config: DraftConfig | None
) -> NDArray[np.int64] | None:
    """Absolute target ids [draft_vocab], or None if there is no map or after reporting problems."""
    if VOCAB_MAP not in names:
        return None
    if stored.dtypes[VOCAB_MAP] not in _MAP_DTYPES:
        stored.problem(
            "d2t-dtype",
            f"d2t is stored as {stored.dtypes[VOCAB_MAP]}; expected I64 (offsets)",
            "Save d2t as int64 offsets: target id minus draft id.",
        )
        return None
    if config is None:
        return None
    offsets = checkpoint.read(names[VOCAB_MAP])
    problems = vocab_map_problems(offsets, config.draft_vocab_size, config.vocab_size)
    if any(p.id != "d2t-absolute" for p in problems):
        stored.problems += problems
        return None
    vocab_map = vocab_map_from_offsets(offsets)
    mask = _read_mask(checkpoint, stored, config)
    if problems and not _confirms(mask, vocab_map):
        stored.problems += problems
        return None
    if mask is not None:
        _compare(mask, vocab_map, stored)
    return vocab_map


def _read_mask(
    checkpoint: Checkpoint, stored: Stored, config: DraftConfig
) -> NDArray[np.bool_] | None:
    """t2d [vocab], or None: it is never used, so a bad one is a note."""
    at = next((n for n in (VOCAB_MASK, f"model.{VOCAB_MASK}") if n in checkpoint.tensors), None)
    if at is None:
        return None
    info = checkpoint.tensors[at]
    if info.dtype not in _MASK_DTYPES or info.shape != (config.vocab_size,):
        stored.note(
            "t2d-length",
            f"t2d is {info.dtype} {list(info.shape)}, expected BOOL [{config.vocab_size}]; it is "
            "not used",
        )
        return None
    return checkpoint.read(at).astype(np.bool_)


def _confirms(mask: NDArray[np.bool_] | None, vocab_map: NDArray[np.int64]) -> bool:
    """Whether t2d has exactly these ids: then a d2t that looks absolute holds offsets after all."""
    if mask is None or vocab_map.min() < 0 or vocab_map.max() >= len(mask):
        return False
    return bool(np.array_equal(mask, target_mask(vocab_map, len(mask))))


def _compare(mask: NDArray[np.bool_], vocab_map: NDArray[np.int64], stored: Stored) -> None:
    """A t2d that disagrees tells that one of the two is wrong."""
    differing = np.flatnonzero(mask != target_mask(vocab_map, len(mask)))
    if differing.size:
        stored.note(
            "t2d-disagrees",
            f"t2d and d2t disagree about {differing.size} target ids (first: {differing[0]})",
            "The draft follows d2t; if it accepts little, d2t may belong to another checkpoint.",
        )
