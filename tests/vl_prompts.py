"""Prompts with pictures of several sizes and in several places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.prompts import Prompt, read_prompts
from tests.engines.random_target import picture

PICTURES: Mapping[str, tuple[int, int]] = {"wide.png": (96, 64), "tall.png": (64, 128)}
"""Width and height; with patches of 16 and a merge of 2, 3 x 2 and 2 x 4 tokens."""


def image(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": name}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*content: Any) -> dict[str, Any]:
    """A turn of one text, or of parts."""
    parts = list(content)
    return {"role": "user", "content": parts[0] if isinstance(parts[0], str) else parts}


CONVERSATIONS: Mapping[str, list[dict[str, Any]]] = {
    "one image": [user(image("wide.png"), text("what?"))],
    "two images": [user(image("wide.png"), text("and"), image("tall.png"), text("what?"))],
    "second turn": [
        user("hello"),
        {"role": "assistant", "content": "hi"},
        user(text("see"), image("tall.png")),
    ],
    "text": [user("hello")],
}
"""By name, as an OpenAI client would send them."""


def write_pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (width, height)) in enumerate(PICTURES.items()):
        picture(folder / name, width=width, height=height, seed=seed)
    return folder


def write_prompts(folder: Path) -> Path:
    """A prompts file of CONVERSATIONS, with its pictures beside it."""
    write_pictures(folder)
    lines = [json.dumps({"messages": turns, "set": s}) for s, turns in CONVERSATIONS.items()]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return folder / "prompts.jsonl"


def prompts_by_name(folder: Path) -> dict[str, Prompt]:
    return {prompt.set: prompt for prompt in read_prompts(write_prompts(folder))}
