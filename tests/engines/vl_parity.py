"""Prompts of the tiny Qwen3-VL pairs as jobs take them, and what both engines are held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eagle3_plugin.tiny import VlPair
from tests.engines.jobs import JobPrompt

Lines = list[dict[str, Any]]


def text_prompts(pair: VlPair, count: int) -> list[JobPrompt]:
    return [list(line["prompt_token_ids"]) for line in _lines(pair.text_prompts)[:count]]


def image_prompts(pair: VlPair, count_of_each: int) -> list[JobPrompt]:
    """The first prompts with one image, with two, and with one in the second turn."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pair.target)
    lines = _lines(pair.image_prompts)
    kinds = dict.fromkeys(line["set"] for line in lines)
    chosen = [
        line
        for kind in kinds
        for line in [one for one in lines if one["set"] == kind][:count_of_each]
    ]
    return [_prompt(line["messages"], tokenizer, pair.image_prompts.parent) for line in chosen]


def _prompt(messages: Lines, tokenizer: Any, folder: Path) -> JobPrompt:
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    parts = [part for m in messages if isinstance(m["content"], list) for part in m["content"]]
    images = [str(folder / part["image_url"]["url"]) for part in parts if "image_url" in part]
    return {"ids": ids, "images": images}


def _lines(file: Path) -> Lines:
    return [json.loads(line) for line in file.read_text().splitlines()]
