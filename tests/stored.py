"""Safetensors files made and changed by hand, without the code under test."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

Table = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Tensor name -> dtype, shape, bytes; in the order of the file."""

Shapes = dict[str, tuple[str, tuple[int, ...]]]

NUM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "I8": 1, "BOOL": 1}


def load_tensors(folder: Path, file: str = "model.safetensors") -> Table:
    """Every tensor of a safetensors file."""
    data = (folder / file).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    table: Table = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        table[name] = (entry["dtype"], tuple(entry["shape"]), data[start:end])
    return table


def save_tensors(folder: Path, table: Table, file: str = "model.safetensors") -> None:
    """A safetensors file of these tensors, in this order."""
    shapes = {name: (dtype, shape) for name, (dtype, shape, _) in table.items()}
    data = b"".join(data for _, _, data in table.values())
    (folder / file).write_bytes(_header(shapes) + data)


def edit_tensors(folder: Path, *, drop: tuple[str, ...] = (), **add: Any) -> None:
    """Drop tensors, and add or replace some: name=(dtype, shape), filled with zeros.

    In the names of `add`, "__" stands for ".".
    """
    table = {n: t for n, t in load_tensors(folder).items() if n not in drop}
    for name, (dtype, shape) in add.items():
        num_bytes = NUM_BYTES[dtype] * math.prod(shape)
        table[name.replace("__", ".")] = (dtype, shape, bytes(num_bytes))
    save_tensors(folder, table)


def set_offsets(folder: Path, offsets: list[int], dtype: str = "I64") -> None:
    """Replace d2t by these values."""
    table = load_tensors(folder)
    data = np.array(offsets, dtype={"I64": "<i8", "I32": "<i4"}[dtype]).tobytes()
    table["d2t"] = (dtype, (len(offsets),), data)
    save_tensors(folder, table)


def write_sparse(folder: Path, config: dict[str, Any], shapes: Shapes) -> Path:
    """A checkpoint of real size that takes no room on disk: all zeros but t2d.

    Offsets of zero are a sound map, of the first ids; t2d is set to match.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    header = _header(shapes)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        at = len(header)
        for name, (dtype, shape) in shapes.items():
            if name == "t2d":
                file.seek(at)
                file.write(b"\1" * shapes["d2t"][1][0])
            at += NUM_BYTES[dtype] * math.prod(shape)
        file.truncate(at)
    return folder


def draft_shapes(
    *,
    hidden: int,
    intermediate: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    vocab: int,
    draft_vocab: int = 32000,
    layer: str = "midlayer",
    embedding: bool = False,
    t2d: bool = True,
    dtype: str = "BF16",
) -> Shapes:
    """The tensors of a one-layer Llama draft with three taps, by the names that trainers give."""
    weights: dict[str, tuple[int, ...]] = {
        f"{layer}.self_attn.q_proj.weight": (heads * head_dim, 2 * hidden),
        f"{layer}.self_attn.k_proj.weight": (kv_heads * head_dim, 2 * hidden),
        f"{layer}.self_attn.v_proj.weight": (kv_heads * head_dim, 2 * hidden),
        f"{layer}.self_attn.o_proj.weight": (hidden, heads * head_dim),
        f"{layer}.mlp.gate_proj.weight": (intermediate, hidden),
        f"{layer}.mlp.up_proj.weight": (intermediate, hidden),
        f"{layer}.mlp.down_proj.weight": (hidden, intermediate),
        f"{layer}.hidden_norm.weight": (hidden,),
        f"{layer}.input_layernorm.weight": (hidden,),
        f"{layer}.post_attention_layernorm.weight": (hidden,),
        "norm.weight": (hidden,),
        "fc.weight": (hidden, 3 * hidden),
        "lm_head.weight": (draft_vocab, hidden),
    }
    if embedding:
        weights["embed_tokens.weight"] = (vocab, hidden)
    shapes: Shapes = {"d2t": ("I64", (draft_vocab,))}
    shapes |= {name: (dtype, shape) for name, shape in weights.items()}
    return shapes | ({"t2d": ("BOOL", (vocab,))} if t2d else {})


def _header(shapes: Shapes) -> bytes:
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + NUM_BYTES[dtype] * math.prod(shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text
