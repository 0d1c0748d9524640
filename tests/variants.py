"""Every variant of a draft, and the dialects whose stock engine reads it rightly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config

ALL = ("sglang", "speculators", "universal", "vllm")
VLLM = ("speculators", "vllm")
FLAT = ("sglang", "universal", "vllm")
FULL = {"draft_vocab_size": 512}
YARN = {"factor": 4.0, "original_max_position_embeddings": 256.0}
YARN_MROPE = {
    "theta": 5e6,
    "type": "yarn",
    "parameters": YARN,
    "mrope_section": (8, 4, 4),
    "mrope_interleaved": True,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192.0,
}

VARIANTS: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ALL),
    "listed taps": ({"taps": (2, 18, 33)}, ALL),
    "taps of pull request 431": ({"taps": (4, 18, 33)}, ALL),
    "taps whose output ids look like boundaries": ({"taps": (3, 19, 34)}, ALL),
    "taps that look like output ids": ({"taps": (1, 17, 32)}, ALL),
    "the embedding as a tap": ({"taps": (0, 18, 33)}, VLLM),
    "four taps": ({"taps": (2, 9, 18, 33), "num_taps": 4}, FLAT),
    "four taps, qwen3": ({"taps": (2, 9, 18, 33), "num_taps": 4, "decoder": "qwen3"}, VLLM),
    "one tap": ({"taps": (18,), "num_taps": 1}, ("vllm",)),
    "one tap, qwen3": ({"taps": (18,), "num_taps": 1, "decoder": "qwen3"}, VLLM),
    "qwen3": ({"decoder": "qwen3"}, VLLM),
    "normed residual": ({"residual": "normed"}, VLLM),
    "joint norm": ({"fc_input_norm": "joint"}, ALL),
    "per-tap norms": ({"fc_input_norm": "per_tap"}, ALL),
    "postnorm feedback": ({"feedback": "postnorm"}, ALL),
    "all biases, llama": ({"attention_bias": True, "attention_output_bias": True}, VLLM),
    "q, k and v biases, qwen3": ({"attention_bias": True, "decoder": "qwen3"}, VLLM),
    "two layers": ({"num_layers": 2}, VLLM),
    "head_dim of its own": ({"head_dim": 16}, ALL),
    "narrower than the target": ({"target_hidden_size": 128, "embedding": "own"}, ALL),
    "own embedding": ({"embedding": "own"}, VLLM),
    "full vocabulary": (FULL | {"has_vocab_map": False}, ALL),
    "the target's head": (FULL | {"has_vocab_map": False, "lm_head": "target"}, ALL),
    "a permuted vocabulary": (FULL, ("sglang",)),
    "yarn": ({"rope": {"theta": 1e6, "type": "yarn", "parameters": YARN}}, ALL),
    "yarn with a factor of its own": (
        {"rope": {"theta": 1e6, "type": "yarn", "parameters": YARN | {"attention_factor": 1.7}}},
        VLLM,
    ),
    "llama3": ({"rope": {"theta": 5e5, "type": "llama3", "parameters": LLAMA3}}, ALL),
    "linear": ({"rope": {"theta": 1e4, "type": "linear", "parameters": {"factor": 2.0}}}, ALL),
    "mrope": ({"rope": {"theta": 5e6, "mrope_section": (8, 4, 4)}}, ALL),
    "interleaved mrope": (
        {"rope": {"theta": 5e6, "mrope_section": (8, 4, 4), "mrope_interleaved": True}},
        ALL,
    ),
    "interleaved mrope with yarn": ({"rope": YARN_MROPE}, VLLM),
    "interleaved mrope, linear": (
        {"rope": YARN_MROPE | {"type": "linear", "parameters": {"factor": 2.0}}},
        (),
    ),
    "float16": ({"dtype": "F16"}, ALL),
    "float32": ({"dtype": "F32"}, ALL),
    "float64": ({"dtype": "F64"}, ALL),
    "known image inputs": ({"image_embedding": "visual", "deepstack_tap": "before"}, ALL),
    "descending taps": ({"taps": (33, 18, 2)}, ()),
    "a bias in fc": ({"fc_bias": True}, ()),
    "q, k and v biases, llama": ({"attention_bias": True}, ()),
    "only an o bias": ({"attention_output_bias": True}, ()),
    "all biases, qwen3": (
        {"attention_bias": True, "attention_output_bias": True, "decoder": "qwen3"},
        (),
    ),
}
"""Each variant, and the dialects whose stock engine reads it rightly."""


def variant(name: str) -> DraftConfig:
    return draft_config(**VARIANTS[name][0])


def open_draft(folder: Path, **answers: Any) -> Draft:
    return read_draft(Checkpoint.open(resolve(str(folder))), Settle(**answers))
