"""The canonical tensor table: which tensors a draft has, by name and shape.

Canonical names are those of the speculators layout (`layers.0.…`), without any prefix.
Linear weights are [out, in], as torch stores them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.errors import Problem

Shape = tuple[int, ...]

VOCAB_MAP = "d2t"
VOCAB_MASK = "t2d"
DEAD_TENSORS = ("t2d", "verifier_norm.weight", "verifier_lm_head.weight")
"""Tensors that some trainers save and that no draft computes with. t2d is derived from d2t."""


def expected_tensors(config: DraftConfig) -> dict[str, Shape]:
    """Canonical name -> shape of every weight that the draft computes with (not d2t, t2d)."""
    table: dict[str, Shape] = {}
    if config.embedding == "own":
        table["embed_tokens.weight"] = (config.vocab_size, config.hidden_size)
    table |= _fc_tensors(config)
    for layer in range(config.num_layers):
        table |= _layer_tensors(config, layer)
    table["norm.weight"] = (config.hidden_size,)
    if config.lm_head == "own":
        table["lm_head.weight"] = (config.draft_vocab_size, config.hidden_size)
    return table


def num_parameters(config: DraftConfig) -> int:
    """Elements of all tensors of the checkpoint, d2t and t2d included (as hubs count)."""
    weights = sum(int(np.prod(shape)) for shape in expected_tensors(config).values())
    return weights + (config.draft_vocab_size + config.vocab_size if config.has_vocab_map else 0)


def vocab_map_from_offsets(offsets: NDArray[np.integer]) -> NDArray[np.int64]:
    """Absolute target ids [draft_vocab] from the offsets that checkpoints store as d2t."""
    return offsets.astype(np.int64) + np.arange(len(offsets), dtype=np.int64)


def offsets_from_vocab_map(vocab_map: NDArray[np.int64]) -> NDArray[np.int64]:
    """The offsets d2t [draft_vocab] that every dialect stores: target id minus draft id."""
    return vocab_map - np.arange(len(vocab_map), dtype=np.int64)


def target_mask(vocab_map: NDArray[np.int64], vocab_size: int) -> NDArray[np.bool_]:
    """t2d [vocab]: True where the target's id is in the draft's vocabulary."""
    mask = np.zeros(vocab_size, dtype=np.bool_)
    mask[vocab_map] = True
    return mask


def vocab_map_problems(
    offsets: NDArray[np.integer], draft_vocab_size: int, vocab_size: int
) -> list[Problem]:
    """What is wrong with a stored d2t; an engine would fail late, or accept nothing in silence."""
    if offsets.shape != (draft_vocab_size,):
        found = f"d2t has shape {list(offsets.shape)}, expected [{draft_vocab_size}]"
        return [Problem("d2t-length", found)]
    ids = vocab_map_from_offsets(offsets)
    problems = []
    outside = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if outside.size:
        first = int(outside[0])
        absolute = _looks_absolute(offsets, vocab_size)
        problems.append(
            Problem(
                "d2t-absolute" if absolute else "d2t-range",
                f"d2t maps {outside.size} draft ids outside the vocabulary of {vocab_size}; the "
                f"first is draft id {first}: {int(offsets[first])} + {first} = {int(ids[first])}"
                + ("; the values look like absolute target ids" if absolute else ""),
                "d2t must hold offsets: target id minus draft id.",
            )
        )
    elif _looks_absolute(offsets, vocab_size):
        problems.append(_suspicious_absolute(offsets, ids))
    repeats = int(len(ids) - len(np.unique(ids)))
    if repeats:
        problems.append(
            Problem(
                "d2t-duplicates",
                f"d2t maps {repeats} draft ids to a target id that another one has",
                "d2t must hold offsets: target id minus draft id, each target id once.",
            )
        )
    return problems


def _looks_absolute(offsets: NDArray[np.integer], vocab_size: int) -> bool:
    """Strictly increasing values inside the vocabulary: ids do that, real offsets never do.

    Offsets of a sorted map are non-decreasing with long runs of equal values (one run for each
    stretch of neighbouring ids); only a map that skips an id at every step is strictly increasing.
    """
    if len(offsets) < 2:
        return False
    rising = bool(np.all(np.diff(offsets.astype(np.int64)) > 0))
    return rising and int(offsets[0]) >= 0 and int(offsets[-1]) < vocab_size


def _suspicious_absolute(offsets: NDArray[np.integer], ids: NDArray[np.int64]) -> Problem:
    return Problem(
        "d2t-absolute",
        f"d2t rises at every step ({[int(v) for v in offsets[:4]]}…): absolute target ids, "
        f"not offsets; read as offsets it would map to {[int(v) for v in ids[:4]]}…",
        "d2t must hold offsets: target id minus draft id.",
    )


def _fc_tensors(config: DraftConfig) -> dict[str, Shape]:
    width = config.num_taps * config.target_hidden_size
    table: dict[str, Shape] = {"fc.weight": (config.hidden_size, width)}
    if config.fc_bias:
        table["fc.bias"] = (config.hidden_size,)
    if config.fc_input_norm == "joint":
        table["input_norm.weight"] = (width,)
    if config.fc_input_norm == "per_tap":
        for tap in range(config.num_taps):
            table[f"fc_norm.{tap}.weight"] = (config.target_hidden_size,)
    return table


def _layer_tensors(config: DraftConfig, layer: int) -> dict[str, Shape]:
    """The first layer attends over [embedding, hidden]; later ones over the hidden state only."""
    hidden, head_dim = config.hidden_size, config.head_dim
    queries = config.num_attention_heads * head_dim
    keys = config.num_key_value_heads * head_dim
    width = 2 * hidden if layer == 0 else hidden
    at = f"layers.{layer}."
    table: dict[str, Shape] = {}
    if layer == 0:
        table[at + "hidden_norm.weight"] = (hidden,)
    table[at + "input_layernorm.weight"] = (hidden,)
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        table[f"{at}self_attn.{name}.weight"] = (rows, width)
        if config.attention_bias:
            table[f"{at}self_attn.{name}.bias"] = (rows,)
    table[at + "self_attn.o_proj.weight"] = (hidden, queries)
    if config.attention_output_bias:
        table[at + "self_attn.o_proj.bias"] = (hidden,)
    if config.decoder == "qwen3":
        table[at + "self_attn.q_norm.weight"] = (head_dim,)
        table[at + "self_attn.k_norm.weight"] = (head_dim,)
    table[at + "post_attention_layernorm.weight"] = (hidden,)
    table[at + "mlp.gate_proj.weight"] = (config.intermediate_size, hidden)
    table[at + "mlp.up_proj.weight"] = (config.intermediate_size, hidden)
    table[at + "mlp.down_proj.weight"] = (hidden, config.intermediate_size)
    return table
