"""What the demo trains and asks: text alone, or pictures and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.prompts import Prompt

NUM_PROMPTS = 12
"""Of each modality."""
TEXT_TOKENS = 128
ANSWER_TOKENS = 48
"""Answers about pictures end by themselves before that."""
VL_VARIANT = "image_visual"


@dataclass(frozen=True)
class Asked:
    """Prompts of one modality, and how far the target answers them.

    ignore_end: it writes on to max_tokens, whatever it says.
    """

    prompts: tuple[Prompt, ...]
    max_tokens: int
    ignore_end: bool

    @property
    def bodies(self) -> list[Mapping[str, Any]]:
        """The prompts as `bench` takes them."""
        return [{p.kind: p.value if p.kind == "prompt" else list(p.value)} for p in self.prompts]


@dataclass(frozen=True)
class Subject:
    """A trained pair and what it is asked, by modality."""

    title: str
    target: Path
    draft: Path
    asked: Mapping[str, Asked]


def text_subject(variant: str) -> Subject:
    """The tiny Qwen3 pair of that variant, with held-out prompts."""
    from eagle3_plugin.tiny import tiny_pair

    pair = tiny_pair(variant)
    prompts = (Prompt("prompt_token_ids", tuple(p)) for p in pair.prompts[:NUM_PROMPTS])
    asked = {"text": Asked(tuple(prompts), TEXT_TOKENS, True)}
    return Subject("Qwen3", pair.target, pair.draft, asked)


def vl_subject() -> Subject:
    """The tiny Qwen3-VL pair whose draft was trained on visual embeddings, with pictures that it
    has not seen, and text."""
    from eagle3_plugin.draft.prompts import read_prompts
    from eagle3_plugin.tiny import tiny_vl_pair

    pair = tiny_vl_pair(VL_VARIANT)
    images = _in_turn(read_prompts(pair.image_prompts))[:NUM_PROMPTS]
    text = read_prompts(pair.text_prompts)[:NUM_PROMPTS]
    asked = {
        "image": Asked(tuple(images), ANSWER_TOKENS, False),
        "text": Asked(text, TEXT_TOKENS, True),
    }
    return Subject("Qwen3-VL", pair.target, pair.draft, asked)


def _in_turn(prompts: Sequence[Prompt]) -> list[Prompt]:
    """One of each set, then the next of each."""
    sets: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        sets.setdefault(prompt.set, []).append(prompt)
    return [p for row in zip_longest(*sets.values()) for p in row if p is not None]
