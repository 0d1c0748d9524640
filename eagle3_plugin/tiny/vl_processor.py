"""The files beside a tiny Qwen3-VL's weights: tokenizer, chat template and image processing.

Written in the spelling of Qwen/Qwen3-VL-2B-Instruct (preprocessor_config.json,
video_preprocessor_config.json, chat_template.json), so that transformers and engines run their own
image path on them. Only the sizes differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from eagle3_plugin.tiny.tokenizer import write_tokenizer

PATCH, MERGE, FRAMES = 16, 2, 2
MIN_PIXELS, MAX_PIXELS = 32 * 32, 512 * 512
"""From 1 to 256 image tokens; a picture outside is scaled."""

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for content in message.content %}"
    "{%- if content.type == 'image' or 'image' in content or 'image_url' in content %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif content.type == 'video' or 'video' in content %}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in content %}{{- content.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def write_processor(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes everything that `AutoProcessor` wants into the folder."""
    write_tokenizer(tokenizer, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    _write(folder / "tokenizer_config.json", config | {"chat_template": CHAT_TEMPLATE})
    _write(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    images = _preprocessing() | {"image_processor_type": "Qwen2VLImageProcessorFast"}
    _write(folder / "preprocessor_config.json", images)
    videos = _preprocessing() | {"video_processor_type": "Qwen3VLVideoProcessor"}
    _write(folder / "video_preprocessor_config.json", videos)


def _preprocessing() -> dict[str, Any]:
    return {
        "size": {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS},
        "patch_size": PATCH,
        "temporal_patch_size": FRAMES,
        "merge_size": MERGE,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
    }


def _write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n")
