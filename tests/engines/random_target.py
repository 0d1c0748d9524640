"""A random Qwen3 target that fits the random drafts of `tests/drafts.py`."""

from __future__ import annotations

from pathlib import Path

import torch


def write_random_target(folder: Path, *, num_layers: int = 8, hidden_size: int = 64) -> Path:
    """A Qwen3ForCausalLM folder; head_dim 32 is the smallest that vLLM's CPU attention takes."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=hidden_size,
        intermediate_size=96,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        vocab_size=512,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
        bos_token_id=1,
        eos_token_id=2,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def write_random_llama(folder: Path) -> Path:
    """A LlamaForCausalLM folder of the same sizes: a target that the plugin leaves alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        vocab_size=512,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
