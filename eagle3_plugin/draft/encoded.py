"""A prompt as the target runs it: ids, and where its images are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptImages:
    """The images of a prompt of T tokens.

    patches: [num_patches, values], as the target's processor cuts the images up.
    grids: [num_images, 3], the patches of each along time, height, width.
    is_image: [T], True at the placeholders, one for each merged visual token.
    positions: [3, T], of every token, with the axes time, height, width.
    """

    patches: Tensor
    grids: Tensor
    is_image: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Encoded:
    """ids: [T], image placeholders expanded; images: None for text."""

    ids: Tensor
    images: PromptImages | None = None

    def positions(self, num_tokens: int) -> Tensor:
        """Of the first `num_tokens` tokens of the prompt and what is written after it.

        [num_tokens] for text, [3, num_tokens] with images: what follows goes on from the greatest
        position of the prompt (Qwen2-VL, arXiv 2409.12191, section 2.1).
        """
        if self.images is None:
            return torch.arange(num_tokens, device=self.ids.device)
        known = self.images.positions
        after = torch.arange(max(num_tokens - len(self.ids), 0), device=known.device)
        return torch.cat([known, (known.max() + 1 + after).expand(3, -1)], dim=1)[:, :num_tokens]

    def is_image(self, num_tokens: int) -> Tensor:
        """[num_tokens], True at the prompt's image placeholders; what is written after has none."""
        found = torch.zeros(num_tokens, dtype=torch.bool, device=self.ids.device)
        if self.images is not None:
            count = min(num_tokens, len(self.ids))
            found[:count] = self.images.is_image[:count]
        return found
