"""A target of Qwen3-VL-2B's width for seed B: its vocabulary and ids, few layers, a short tower.

Seven text layers are the fewest that have the default taps [2, n // 2, n - 3] apart and in order.
Its weights are one block of random numbers over and over, which takes no time to make.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from tests.engines.random_target import PREPROCESSOR, VL_TEMPLATE
from tests.targets import QWEN3_VL_2B

NUM_LAYERS = 7
IMAGE_PAD, VISION_START, VISION_END = 151655, 151652, 151653
"""As Qwen3-VL-2B's config.json and tokenizer have them."""

_NUM_PLAIN = 151643
"""Ids below the first special token of Qwen3's tokenizer."""

_TOWER = {"depth": 3, "deepstack_visual_indexes": [0, 1, 2], "intermediate_size": 4096}
_BLOCK = 1 << 20


def write_seed_b_target(folder: Path) -> Path:
    """A Qwen3VLForConditionalGeneration folder in bfloat16 with tokenizer and processor."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    values = copy.deepcopy(QWEN3_VL_2B)
    values["text_config"]["num_hidden_layers"] = NUM_LAYERS
    values["vision_config"] |= _TOWER
    del values["architectures"], values["model_type"]
    with torch.device("meta"):
        model: Any = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**values))
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    _fill(model)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    video = {**PREPROCESSOR, "video_processor_type": "Qwen3VLVideoProcessor"}
    del video["image_processor_type"]
    _write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    _write_json(folder / "video_preprocessor_config.json", video)
    return folder


def _fill(model: Any) -> None:
    torch.manual_seed(0)
    block = (torch.randn(_BLOCK) * 0.02).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        flat = parameter.data.view(-1)
        for start in range(0, len(flat), _BLOCK):
            piece = flat[start : start + _BLOCK]
            piece.copy_(block[: len(piece)])


def _write_tokenizer(folder: Path) -> None:
    """Bytes, ids that no text has, and Qwen3's special tokens where Qwen3 has them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from eagle3_plugin.tiny.tokenizer import SPECIAL_TOKENS, write_tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = [f"unused {index}" for index in range(_NUM_PLAIN - len(alphabet))]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *unused])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in SPECIAL_TOKENS])
    assert tokenizer.token_to_id("<|image_pad|>") == IMAGE_PAD
    write_tokenizer(tokenizer, folder)
    path = folder / "tokenizer_config.json"
    _write_json(path, json.loads(path.read_text()) | {"chat_template": VL_TEMPLATE})
    _write_json(folder / "chat_template.json", {"chat_template": VL_TEMPLATE})


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n")
