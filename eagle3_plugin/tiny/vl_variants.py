"""Every kind of Qwen3-VL draft that tests need, as changes to the text pair's plain draft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eagle3_plugin.draft.config import DraftConfig, Rope
from eagle3_plugin.errors import UsageError
from eagle3_plugin.tiny.recipes import DENSE
from eagle3_plugin.tiny.variants import draft_config

SECTION = (6, 5, 5)
"""Frequencies of time, height and width, of head_dim / 2 = 16; Qwen3-VL has (24, 20, 20) of 64."""
TEXT_ONLY = "text_only"

_THETA = DENSE.rope_theta
_INTERLEAVED = Rope(theta=_THETA, mrope_section=SECTION, mrope_interleaved=True)
_VISUAL = {"image_embedding": "visual", "deepstack_tap": "after"}

VL_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    TEXT_ONLY: {},
    "image_placeholder": {"image_embedding": "placeholder", "deepstack_tap": "after"},
    "image_visual": _VISUAL,
    "visual_1d": {**_VISUAL, "rope": Rope(theta=_THETA)},
    "visual_mrope": {**_VISUAL, "rope": Rope(theta=_THETA, mrope_section=(8, 4, 4))},
    "visual_beyond": {"image_embedding": "visual", "taps": (3, 5, 7)},
    "placeholder_before": {"image_embedding": "placeholder", "deepstack_tap": "before"},
}
"""All but the first are trained on images; `visual_beyond` has no tap that deepstack touches."""


def vl_draft_config(variant: str) -> DraftConfig:
    """The config of a variant; what a text-only draft was never shown is unknown in it."""
    if variant not in VL_VARIANTS:
        raise UsageError(
            f"there is no tiny Qwen3-VL draft named {variant!r}",
            hint=f"One of: {', '.join(VL_VARIANTS)}.",
        )
    plain = draft_config("llama", DENSE).model_dump()
    return DraftConfig(**{**plain, "rope": _INTERLEAVED, **VL_VARIANTS[variant]})


def miswired(config: DraftConfig) -> list[DraftConfig]:
    """The draft as an engine without our plugin feeds it, with one thing wrong in each.

    SGLang gives every draft visual embeddings, vLLM gives placeholders; both tap after deepstack.
    """
    embedding = "placeholder" if config.image_embedding == "visual" else "visual"
    wrong = [config.model_copy(update={"image_embedding": embedding})]
    if config.deepstack_tap == "before":
        wrong.append(config.model_copy(update={"deepstack_tap": "after"}))
    return wrong
