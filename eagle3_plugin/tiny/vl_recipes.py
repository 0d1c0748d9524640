"""How the tiny Qwen3-VL pairs are trained; the hash of it names the cached result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eagle3_plugin.tiny.recipes import DraftRecipe

VL_VERSION = 1
"""Raise it when pictures, dialogues or the trainer change what the same numbers mean."""


@dataclass(frozen=True)
class VlTargetRecipe:
    """A new vision tower before the text target's weights.

    First the tower alone learns to say what a picture shows (tower_*), which costs little; then
    all of it learns dialogues, with some plain text mixed in so that it stays able to write it.

    num_early_steps: of the dialogues' steps, those that show one picture each, and so are short.
    vision_positions: a square number, the grid of learned positions.
    """

    vision_layers: int = 2
    vision_hidden_size: int = 64
    vision_intermediate_size: int = 128
    vision_heads: int = 2
    vision_positions: int = 64
    tower_steps: int = 190
    tower_batch: int = 32
    tower_matrix_rate: float = 0.05
    tower_other_rate: float = 0.03
    steps: int = 270
    num_early_steps: int = 90
    batch: int = 16
    text_batch: int = 4
    text_tokens: int = 96
    matrix_rate: float = 0.01
    other_rate: float = 0.003
    num_continuations: int = 256


@dataclass(frozen=True)
class VlDraftRecipe(DraftRecipe):
    """Training-time test that goes on from an earlier draft.

    num_dialogues: sequences with images, beside num_continuations of plain text.
    num_tokens: each sequence is cut, or padded, to so many.
    miswired_weight: what it counts that the draft drafts nothing right after an image that it is
        fed as it should not be. With 0 a wrong embedding costs so small a draft 1 % of its tokens
        per verify, and a test would not see it.
    """

    steps: int = 80
    num_early_steps: int = 30
    num_continuations: int = 256
    other_rate: float = 0.01
    num_dialogues: int = 0
    num_tokens: int = 112
    miswired_weight: float = 0.0


VL_TARGET = VlTargetRecipe()
VL_TEXT_DRAFT = VlDraftRecipe()
VL_IMAGE_DRAFT = VlDraftRecipe(num_dialogues=384, miswired_weight=0.25)
VL_BEFORE_DRAFT = replace(VL_IMAGE_DRAFT, steps=130)
"""It takes longer to tell a state before a deepstack add from the one after it."""
