"""Small real Qwen3-VL pairs: a target that sees pictures, and drafts that it can be served with.

They begin as the text pair, so the first one trains that too if it is not cached.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eagle3_plugin.tiny import cache as results
from eagle3_plugin.tiny.progress import Update, progress_lines
from eagle3_plugin.tiny.recipes import cache_key, installed_version
from eagle3_plugin.tiny.text import tiny_pair
from eagle3_plugin.tiny.vl_recipes import (
    VL_BEFORE_DRAFT,
    VL_IMAGE_DRAFT,
    VL_TARGET,
    VL_TEXT_DRAFT,
    VL_VERSION,
)
from eagle3_plugin.tiny.vl_variants import TEXT_ONLY, vl_draft_config

_DRAFTS = {TEXT_ONLY: VL_TEXT_DRAFT, "placeholder_before": VL_BEFORE_DRAFT}


@dataclass(frozen=True)
class VlPair:
    """Two folders, and held-out prompts (jsonl) to judge them by.

    image_prompts: chat messages with one picture, two, or one in the second turn; their "set"
        says which. answers: what is right to say to each. text_prompts: 32 token ids each.
    recipe: what both were made by; recipe["target"]["cpu_s"] + recipe["draft"]["cpu_s"] is what
        it took beyond the text pair and, for a draft that has seen images, the text-only draft.
    """

    target: Path
    draft: Path
    image_prompts: Path
    text_prompts: Path
    answers: tuple[str, ...]
    recipe: dict[str, Any]


def tiny_vl_pair(variant: str = TEXT_ONLY, *, quiet: bool = False) -> VlPair:
    """The pair of that name in VL_VARIANTS, trained now if it is not cached."""
    vl_draft_config(variant)
    text = tiny_pair("llama", quality="good", quiet=quiet)
    with progress_lines(quiet) as update:
        home = _target(text.target.parent, update)
        start = text.draft.parent
        if variant != TEXT_ONLY:
            start = _draft(TEXT_ONLY, home, start, update)
        made = _draft(variant, home, start, update)
    return VlPair(
        home / "target",
        made / "draft",
        home / "image_prompts.jsonl",
        home / "text_prompts.jsonl",
        tuple(json.loads((home / "answers.json").read_text())),
        {
            "target": json.loads((home / "recipe.json").read_text()),
            "draft": json.loads((made / "recipe.json").read_text()),
        },
    )


def _target(text_home: Path, update: Update) -> Path:
    """The folder of the target that begins as the text target in `text_home`."""
    packages = {name: installed_version(name) for name in ("pillow", "torchvision")}
    made_of = {"text": text_home.name, "vl": asdict(VL_TARGET), "vl_version": VL_VERSION}
    folder = results.cache_folder() / f"vl-target-{cache_key(made_of | packages)}"
    job = {"job": "vl_target", "recipe": asdict(VL_TARGET), "text": str(text_home)}
    return results.ensure(folder, job, update)


def _draft(variant: str, home: Path, start: Path, update: Update) -> Path:
    """The folder of a variant that begins as the draft in `start`."""
    recipe = asdict(_DRAFTS.get(variant, VL_IMAGE_DRAFT))
    config = vl_draft_config(variant).model_dump(mode="json")
    made_of = {"target": home.name, "draft": recipe, "config": config, "start": start.name}
    folder = home.parent / f"vl-draft-{variant}-{cache_key(made_of)}"
    job = {"job": "vl_draft", "recipe": recipe, "config": config, "target": str(home)}
    return results.ensure(folder, {**job, "start": str(start / "draft")}, update)
