"""What vLLM gives a draft at the positions of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eagle3_plugin.draft.config import DraftConfig, TargetConfig


@dataclass(frozen=True)
class ImageInputs:
    """How the draft is fed at image positions.

    embedding: of the placeholder token, or the target's merged visual feature.
    taps_before: the boundaries caught before the visual add; all others are caught after it.
    axes: 3 for M-RoPE positions, 1 for sequence indices.
    assumed: what no file says, in words.
    """

    embedding: Literal["placeholder", "visual"]
    taps_before: tuple[int, ...]
    axes: Literal[1, 3]
    assumed: tuple[str, ...]

    def __str__(self) -> str:
        before = f", taps {list(self.taps_before)} before the visual add" * bool(self.taps_before)
        return f"at images {self.embedding} embeddings{before}, {self.axes}-D positions"


def image_inputs(config: DraftConfig, target: TargetConfig) -> ImageInputs | None:
    """What the draft gets beside that target; None if the target takes no images.

    What is unknown is taken as SpecForge trains: placeholder embeddings (core/eagle3.py), and the
    taps after the visual add, which is where both engines catch them.
    """
    if not target.is_multimodal:
        return None
    levels = range(1, len(target.deepstack_layers) + 1)
    low = tuple(tap for tap in config.taps_for(target.num_layers) if tap in levels)
    assumed = []
    if config.image_embedding == "unknown":
        assumed.append("that it was trained with the placeholder's embedding at images")
    if low and config.deepstack_tap == "unknown":
        assumed.append(f"that its taps {list(low)} were caught after the visual add")
    return ImageInputs(
        embedding="visual" if config.image_embedding == "visual" else "placeholder",
        taps_before=low if config.deepstack_tap == "before" else (),
        axes=1 if config.rope.mrope_section is None else 3,
        assumed=tuple(assumed),
    )
