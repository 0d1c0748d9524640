"""Held-out prompts for the tiny Qwen3-VL pairs, as files: with pictures, and of plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from eagle3_plugin.tiny.vl_dialogues import Dialogue, Kind, dialogues
from eagle3_plugin.tiny.vl_pictures import Picture, draw

NUM_PROMPTS: dict[Kind, int] = {"one image": 12, "two images": 6, "second turn": 6}
IMAGE_PROMPTS, TEXT_PROMPTS = "image_prompts.jsonl", "text_prompts.jsonl"
ANSWERS, PICTURES = "answers.json", "pictures"


def held_out_dialogues() -> list[Dialogue]:
    """The dialogues behind the image prompts, in the order of the file."""
    return [
        dialogue
        for kind, count in NUM_PROMPTS.items()
        for dialogue in islice(dialogues(f"held {kind}", held_out=True, kinds={kind: 1.0}), count)
    ]


def write_prompts(folder: Path, text_prompts: Sequence[Sequence[int]]) -> None:
    """Both files of prompts, the pictures beside them, and the right answers in order."""
    (folder / PICTURES).mkdir()
    held_out = held_out_dialogues()
    lines = [_line(dialogue, folder, f"{at:02}") for at, dialogue in enumerate(held_out)]
    _write_lines(folder / IMAGE_PROMPTS, lines)
    plain = [{"prompt_token_ids": list(ids), "set": "text"} for ids in text_prompts]
    _write_lines(folder / TEXT_PROMPTS, plain)
    answers = [dialogue.answer for dialogue in held_out]
    (folder / ANSWERS).write_text(json.dumps(answers, indent=2) + "\n")


def _line(dialogue: Dialogue, folder: Path, name: str) -> dict[str, Any]:
    """One line of the file; saves its pictures."""
    saved: list[str] = []

    def part(picture: Picture) -> dict[str, Any]:
        saved.append(f"{PICTURES}/{name}-{len(saved)}.png")
        draw(picture).save(folder / saved[-1])
        return {"type": "image_url", "image_url": {"url": saved[-1]}}

    return {"messages": dialogue.messages(part)[:-1], "set": dialogue.kind}


def _write_lines(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
