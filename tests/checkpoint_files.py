"""Checkpoint folders for tests: sound ones made by safetensors, and bytes that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from safetensors.torch import save_file

from eagle3_plugin.draft.checkpoint import (
    Checkpoint,
    OutTensor,
)
from eagle3_plugin.hub import FolderSource

CONFIG = {"hidden_size": 64, "architectures": ["Ünïcode"]}

TENSORS = {
    "bf16": torch.tensor([[1.5, -2.25], [float("inf"), 3.0e38]], dtype=torch.bfloat16),
    "f16": torch.tensor([0.1, -65504.0], dtype=torch.float16),
    "f32": torch.tensor([[[1e-45, 3.5]]], dtype=torch.float32),
    "f64": torch.tensor([1 / 3], dtype=torch.float64),
    "i64": torch.tensor([-(2**63), 2**63 - 1]),
    "i32": torch.tensor([-5, 7], dtype=torch.int32),
    "i8": torch.tensor([-128, 127, 0], dtype=torch.int8),
    "u8": torch.tensor([255], dtype=torch.uint8),
    "mask": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "nothing": torch.zeros(0, 3),
}


def folder_with(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {"config.json": b"{}", **files}.items():
        (folder / name).write_bytes(data)
    return folder


def opened(folder: Path) -> Checkpoint:
    return Checkpoint.open(FolderSource(folder, "draft"))


def safetensors_bytes(
    header: object, data: bytes = b"", *, length: int | None = None, text: bytes | None = None
) -> bytes:
    text = json.dumps(header).encode() if text is None else text
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: object, shape: object, begin: object, end: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def copies(source: Checkpoint) -> list[OutTensor]:
    return [OutTensor(t.name, t.dtype, t.shape, (source, t.name)) for t in source.tensors.values()]


def draft_folder(folder: Path) -> Path:
    """A checkpoint with one tensor of each kind in `folder`."""
    folder_with(folder, {"config.json": json.dumps(CONFIG).encode()})
    save_file(TENSORS, folder / "model.safetensors", {"format": "pt"})
    return folder
