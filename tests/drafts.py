"""Random drafts on disk, in any dialect and of any shape: for everything but acceptance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from eagle3_plugin.draft.checkpoint import Checkpoint, OutTensor, write_checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.read import DIALECTS, Draft, read_draft
from eagle3_plugin.draft.tensors import expected_tensors, offsets_from_vocab_map, target_mask
from eagle3_plugin.hub import resolve

NUM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}


def draft_config(**changes: Any) -> DraftConfig:
    """A small llama draft with a reduced vocabulary, for a target of hidden size 64."""
    values: dict[str, Any] = {
        "decoder": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 512,
        "draft_vocab_size": 128,
        "target_hidden_size": 64,
        "taps": "default",
        "num_taps": 3,
        "residual": "raw",
        "fc_input_norm": "none",
        "feedback": "prenorm",
        "attention_bias": False,
        "attention_output_bias": False,
        "fc_bias": False,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 1024,
        "rope": {"theta": 1000000.0},
        "embedding": "target",
        "lm_head": "own",
        "has_vocab_map": True,
        "dtype": "BF16",
    }
    return DraftConfig.model_validate(values | changes)


def vocab_map(config: DraftConfig, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """A sorted random choice of target ids, as frequency selection makes one."""
    if not config.has_vocab_map:
        return None
    random = np.random.default_rng(seed)
    chosen = random.choice(config.vocab_size, config.draft_vocab_size, replace=False)
    return np.sort(chosen).astype(np.int64)


def write_random(
    folder: Path,
    config: DraftConfig,
    dialect: str = "sglang",
    *,
    seed: int = 0,
    config_changes: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """A folder of that dialect with random weights, also where the dialect's engine misreads it.

    config_changes: keys to set in config.json, None removes one. without: stored tensors to drop.
    """
    module = DIALECTS[dialect]
    random = np.random.default_rng(seed)
    tensors = []
    for name, shape in expected_tensors(config).items():
        data = random_bytes(random, config.dtype, shape, is_norm=name.endswith("norm.weight"))
        tensors.append(OutTensor(module.stored_name(name), config.dtype, shape, data))
    ids = vocab_map(config, seed)
    if ids is not None:
        offsets = offsets_from_vocab_map(ids).tobytes()
        mask = target_mask(ids, config.vocab_size).tobytes()
        tensors.append(OutTensor("d2t", "I64", (config.draft_vocab_size,), offsets))
        tensors.append(OutTensor("t2d", "BOOL", (config.vocab_size,), mask))
    written = module.write_config(config)
    for key, value in (config_changes or {}).items():
        written[key] = value
        if value is None:
            del written[key]
    kept = [t for t in tensors if t.name not in without]
    write_checkpoint(folder, written, kept, {}, force=True)
    return folder


def random_bytes(
    random: np.random.Generator, dtype: str, shape: tuple[int, ...], *, is_norm: bool
) -> bytes:
    """Weights that look trained: norms near one, linears of about 0.02."""
    values = random.standard_normal(shape, dtype=np.float32) * (0.1 if is_norm else 0.02)
    values += 1.0 if is_norm else 0.0
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).tobytes()


def read(folder: Path) -> Draft:
    return read_draft(Checkpoint.open(resolve(str(folder))))


def edit_config(folder: Path, **changes: Any) -> None:
    """Set keys of config.json (None removes one), as a user would by hand."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config[key] = value
        if value is None:
            del config[key]
    path.write_text(json.dumps(config))
