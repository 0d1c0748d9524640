"""Random targets that fit the random drafts of `tests/drafts.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

NUM_BYTES = 256
IMAGE_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
VL_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for part in message.content %}{%- if part.type == 'text' %}{{- part.text }}"
    "{%- else %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- endif %}{%- endfor %}"
    "{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""In the form of Qwen3-VL's own template."""

PREPROCESSOR = {
    "processor_class": "Qwen3VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "size": {"shortest_edge": 1024, "longest_edge": 1048576},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""As published Qwen3-VL have it (preprocessor_config.json), for smaller pictures."""


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


def write_random_vl_target(
    folder: Path, *, num_layers: int = 8, hidden_size: int = 64, num_experts: int = 0
) -> Path:
    """A Qwen3VL(Moe)ForConditionalGeneration folder with tokenizer, template and processor.

    Deepstack after layers 0 and 1; a picture of 96 x 64 is 3 x 2 merged tokens. Weights are wide
    enough that a picture changes what is written.
    """
    tokenizer = _byte_tokenizer(folder)
    ids = {name: tokenizer.token_to_id(f"<|{name}|>") for name in _IDS.values()}
    shared: dict[str, Any] = {
        "text_config": _vl_text(num_layers, hidden_size, num_experts),
        "vision_config": _vl_tower(hidden_size),
        "tie_word_embeddings": True,
        **{field: ids[name] for field, name in _IDS.items()},
    }
    torch.manual_seed(0)
    model = _vl_model(shared, num_experts)
    model.generation_config.eos_token_id = tokenizer.token_to_id("<|im_end|>")
    model.save_pretrained(folder)
    video = {**PREPROCESSOR, "video_processor_type": "Qwen3VLVideoProcessor"}
    del video["image_processor_type"]
    _write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    _write_json(folder / "video_preprocessor_config.json", video)
    return folder


def picture(file: Path, *, width: int, height: int, seed: int) -> Path:
    """A PNG of random coloured blocks."""
    from PIL import Image

    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(16, axis=0).repeat(16, axis=1)).save(file)
    return file


_IDS = {
    "image_token_id": "image_pad",
    "video_token_id": "video_pad",
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
}


def _byte_tokenizer(folder: Path) -> Any:
    """One token a byte, then Qwen3's special tokens: 270 of the target's 512 ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from eagle3_plugin.tiny.tokenizer import SPECIAL_TOKENS, write_tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({one: i for i, one in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in SPECIAL_TOKENS])
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(tokenizer, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    _write_json(folder / "tokenizer_config.json", config | {"chat_template": VL_TEMPLATE})
    _write_json(folder / "chat_template.json", {"chat_template": VL_TEMPLATE})
    return tokenizer


def _vl_text(num_layers: int, hidden_size: int, num_experts: int) -> dict[str, Any]:
    experts = {
        "num_experts": num_experts,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 96,
        "decoder_sparse_step": 1,
    }
    return {
        "hidden_size": hidden_size,
        "intermediate_size": 96,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 512,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "bos_token_id": None,
        "initializer_range": 0.2,
        **(experts if num_experts else {}),
    }


def _vl_tower(out_hidden_size: int) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": out_hidden_size,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": 0.2,
    }


def _vl_model(shared: dict[str, Any], num_experts: int) -> Any:
    import transformers

    if num_experts:
        moe = transformers.Qwen3VLMoeConfig(**shared)
        return transformers.Qwen3VLMoeForConditionalGeneration(moe)
    return transformers.Qwen3VLForConditionalGeneration(transformers.Qwen3VLConfig(**shared))


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n")
