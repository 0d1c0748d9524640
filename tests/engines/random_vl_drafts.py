"""Random drafts for a random Qwen3-VL, in which everything that a draft is given shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from eagle3_plugin.draft.checkpoint import Checkpoint, OutTensor, write_checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects import universal
from eagle3_plugin.draft.sidecar import SIDECAR, new_sidecar
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config, write_random

SECTION = (6, 5, 5)
LOUDER = 16.0
"""On the weights of attention, or it is near uniform: positions and slots would hardly matter."""

PROPERTIES: dict[str, dict[str, Any]] = {
    "placeholder": {"image_embedding": "placeholder", "deepstack_tap": "after"},
    "visual": {"image_embedding": "visual", "deepstack_tap": "after"},
    "before": {"image_embedding": "placeholder", "deepstack_tap": "before"},
    "visual_before": {"image_embedding": "visual", "deepstack_tap": "before"},
    "visual_1d": {"image_embedding": "visual", "deepstack_tap": "after", "axes": 1},
    "placeholder_1d": {"image_embedding": "placeholder", "deepstack_tap": "after", "axes": 1},
    "plain_section": {
        "image_embedding": "placeholder", "deepstack_tap": "after", "interleaved": False
    },
    "unknown": {},
}  # fmt: skip
"""By name, what a draft was trained with; M-RoPE is interleaved where nothing else is said."""


def vl_draft_config(name: str) -> DraftConfig:
    changes = dict(PROPERTIES[name])
    rope: dict[str, Any] = {"theta": 1000000.0}
    interleaved = changes.pop("interleaved", True)
    if changes.pop("axes", 3) == 3:
        rope |= {"mrope_section": SECTION, "mrope_interleaved": interleaved}
    return draft_config(rope=rope, draft_vocab_size=256, **changes)


def write_vl_draft(folder: Path, name: str) -> Path:
    """A folder in the universal dialect with its eagle3.json."""
    return write_loud_draft(folder, vl_draft_config(name))


def write_loud_draft(folder: Path, config: DraftConfig) -> Path:
    """As `write_vl_draft`, of any config."""
    checkpoint = Checkpoint.open(resolve(str(write_random(folder, config, "universal"))))
    tensors = [
        OutTensor(
            stored, info.dtype, info.shape, _louder(stored, b"".join(checkpoint.chunks(stored)))
        )
        for stored, info in checkpoint.tensors.items()
    ]
    written = universal.write_config(config)
    sidecar = json.dumps(new_sidecar(config, written, {})).encode()
    write_checkpoint(folder, written, tensors, {SIDECAR: sidecar}, force=True)
    return folder


def _louder(name: str, data: bytes) -> bytes:
    if "self_attn" not in name:
        return data
    values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32) * LOUDER
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
