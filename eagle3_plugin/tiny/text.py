"""The text pairs: the recipe of each, and where it is cached."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eagle3_plugin.tiny import cache as results
from eagle3_plugin.tiny.corpus import read_corpus
from eagle3_plugin.tiny.progress import progress_lines
from eagle3_plugin.tiny.recipes import (
    DENSE,
    DRAFTS,
    MOE,
    DraftRecipe,
    Quality,
    TargetRecipe,
    as_json,
    cache_key,
)
from eagle3_plugin.tiny.variants import WELL_TRAINED, draft_config


@dataclass(frozen=True)
class TinyPair:
    """Two folders, and held-out prompts (token ids, 32 each) to judge them by.

    target: as Hugging Face saves it; draft: as SpecForge does.
    recipe: what both were made by; recipe["target"]["cpu_s"] + recipe["draft"]["cpu_s"] is what
        it took.
    """

    target: Path
    draft: Path
    prompts: tuple[tuple[int, ...], ...]
    recipe: dict[str, Any]


def tiny_pair(
    variant: str = "llama", *, quality: Quality | None = None, quiet: bool = False
) -> TinyPair:
    """The pair of that name in VARIANTS, trained now if it is not cached.

    quality: `good` = at least 2.3 tokens per verify with a chain of 3; `short` = enough to see a
        wiring error, in a quarter of the time; None = `good` for the variants in WELL_TRAINED.
    """
    chosen = quality or ("good" if variant in WELL_TRAINED else "short")
    return make_pair(DENSE, DRAFTS[chosen], variant, quiet=quiet)


def tiny_moe_pair(*, quiet: bool = False) -> TinyPair:
    """A Qwen3-MoE target with a short-trained draft; taps at boundaries 1, 2, 3."""
    return make_pair(MOE, DRAFTS["short"], "llama", quiet=quiet)


def make_pair(
    target: TargetRecipe, draft: DraftRecipe, variant: str, *, quiet: bool = False
) -> TinyPair:
    """The pair of those recipes from the cache, or trained into it."""
    config = draft_config(variant, target).model_dump(mode="json")
    target_key = cache_key({"target": as_json(target), "corpus": _corpus_hash()})
    draft_key = cache_key({"target": target_key, "draft": as_json(draft), "config": config})
    folder = results.cache_folder()
    with progress_lines(quiet) as update:
        job: dict[str, Any] = {"job": "target", "recipe": as_json(target)}
        home = results.ensure(folder / f"target-{target_key}", job, update)
        job = {"job": "draft", "recipe": as_json(draft), "config": config, "target": str(home)}
        made = results.ensure(folder / f"draft-{variant}-{draft_key}", job, update)
    recipes = {
        "target": json.loads((home / "recipe.json").read_text()),
        "draft": json.loads((made / "recipe.json").read_text()),
    }
    prompts = json.loads((home / "prompts.json").read_text())
    return TinyPair(home / "target", made / "draft", tuple(map(tuple, prompts)), recipes)


@functools.cache
def _corpus_hash() -> str:
    return read_corpus().sha256
