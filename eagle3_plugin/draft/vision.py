"""The vision side of a Qwen3-VL target: its placeholders, its processor, what its tower sees.

Read in transformers 5.19, models/qwen3_vl/modeling_qwen3_vl.py. The tower gives each merged visual
token a feature, which is its embedding, and one more for each deepstack entry, which the text
layer of that index adds to its output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eagle3_plugin.draft.encoded import Encoded, PromptImages
from eagle3_plugin.errors import Eagle3Error, TargetError

if TYPE_CHECKING:
    from PIL.Image import Image

VISION_TYPES = ("qwen3_vl", "qwen3_vl_moe")
"""The model types of targets that see images; all others are run as text models."""


@dataclass(frozen=True)
class Seen:
    """What the tower makes of a prompt's images, for each of its n placeholders.

    features: [n, hidden]; deepstack: for each of the first text layers, what is added, [n, hidden].
    """

    features: Tensor
    deepstack: tuple[Tensor, ...]


class Vision:
    """The vision tower of a target, and the processor that cuts images up for it."""

    def __init__(self, model: Any, processor: Callable[[], Any]) -> None:
        self.model = model.base_model
        self.image_id: int = model.config.image_token_id
        self.video_id: int = model.config.video_token_id
        self.sizes = model.config.vision_config
        self.num_deepstack = len(self.sizes.deepstack_visual_indexes)
        self.processor = functools.cache(processor)

    def encode(self, ids: Sequence[int], images: Sequence[Image], where: str) -> Encoded:
        """The prompt of these ids, which have one placeholder for each image."""
        device = self.model.language_model.embed_tokens.weight.device
        _check_placeholders(ids, self.image_id, self.video_id, len(images), where)
        if not images:
            return Encoded(torch.tensor(ids, device=device))
        cut = self._cut(images)
        grids = cut["image_grid_thw"]
        counts = iter((grids.prod(dim=1) // self.sizes.spatial_merge_size**2).tolist())
        expanded = [[one] * next(counts) if one == self.image_id else [one] for one in ids]
        known = torch.tensor(list(chain.from_iterable(expanded)))
        is_image = known == self.image_id
        positions, _ = self.model.get_rope_index(
            known[None], is_image[None].int(), image_grid_thw=grids
        )
        parts = (cut["pixel_values"], grids, is_image, positions[:, 0])
        return Encoded(known.to(device), PromptImages(*(part.to(device) for part in parts)))

    @torch.no_grad()
    def see(self, images: PromptImages) -> Seen:
        """One pass of the tower over all images of a prompt."""
        out = self.model.get_image_features(images.patches, images.grids, return_dict=True)
        deepstack = tuple(torch.cat(parts) for parts in out.deepstack_features)
        return Seen(torch.cat(out.pooler_output), deepstack)

    def _cut(self, images: Sequence[Image]) -> Any:
        processor = self.processor().image_processor
        names = ("patch_size", "temporal_patch_size", "merge_size")
        found = [getattr(processor, name, None) for name in names]
        tower = self.sizes
        expected = [tower.patch_size, tower.temporal_patch_size, tower.spatial_merge_size]
        if found != expected:
            raise TargetError(
                f"the target's image processor has {', '.join(names)} {found}, its vision tower "
                f"{expected}",
                hint="Download preprocessor_config.json of the target again.",
            )
        return processor(images=list(images), return_tensors="pt")


def _check_placeholders(
    ids: Sequence[int], image_id: int, video_id: int, num_images: int, where: str
) -> None:
    if video_id in ids:
        raise Eagle3Error(
            f"{where}: a video placeholder (id {video_id}), expected text and images only",
            hint="Give single frames as images.",
        )
    num_places = list(ids).count(image_id)
    if num_places != num_images:
        raise Eagle3Error(
            f"{where}: {num_places} image placeholder(s) (id {image_id}) for {num_images} image(s)",
            hint="Give images in messages, and see that the target's chat template places them.",
        )
