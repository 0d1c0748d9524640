"""The two seed drafts at full size: their exact shapes and fields, with zeros for weights.

A: Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh, as SpecForge's qwen3-4b-eagle3.json.
B: taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3, as wangzhaode/SpecForge's qwen3-vl-2b-eagle3.json.
The files are sparse: they take no room on disk until they are copied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.stored import draft_shapes, write_sparse

NUM_PARAMETERS_A = 218_429_056
NUM_PARAMETERS_B = 137_031_296

CONFIG_A: dict[str, Any] = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "draft_vocab_size": 32000,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 1,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}

CONFIG_B: dict[str, Any] = CONFIG_A | {
    "dtype": "bfloat16",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 262144,
    "num_attention_heads": 16,
    "rope_scaling": {
        "rope_type": "default",
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
    "rope_theta": 5000000,
    "target_model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "transformers_version": "4.57.1",
}


def write_seed_a(folder: Path) -> Path:
    """A folder that is A but for its weights, which are zero."""
    return write_sparse(folder, CONFIG_A, _shapes(CONFIG_A))


def write_seed_b(folder: Path) -> Path:
    """A folder that is B but for its weights, which are zero."""
    return write_sparse(folder, CONFIG_B, _shapes(CONFIG_B))


def _shapes(config: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return draft_shapes(
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        vocab=config["vocab_size"],
    )
