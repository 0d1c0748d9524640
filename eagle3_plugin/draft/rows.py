"""What a draft is given beside the taps: for each known token its id, embedding and position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from eagle3_plugin.draft.reference import ReferenceDraft


@dataclass(frozen=True)
class Rows:
    """Known tokens; row t of a draft's first pass has the taps and position of token t, and the
    embedding of token t + 1.

    ids: [T], the target's, one image placeholder for each merged visual token.
    embeds: [T, hidden], where they are not simply the draft's embeddings of `ids`.
    positions: [T], or [3, T] with the axes time, height, width.
    """

    ids: Tensor
    embeds: Tensor | None
    positions: Tensor

    def embeddings(self, draft: ReferenceDraft) -> Tensor:
        """The embedding of each token, [T, hidden]."""
        embeds: Tensor = draft.embed_tokens(self.ids) if self.embeds is None else self.embeds
        return embeds

    def first(self, count: int) -> Rows:
        """The rows of the first `count` tokens."""
        embeds = None if self.embeds is None else self.embeds[:count]
        return Rows(self.ids[:count], embeds, self.positions[..., :count])


def text_rows(ids: Tensor) -> Rows:
    """The rows of text [T]: embedded by the draft, at the positions 0, 1, …"""
    return Rows(ids, None, torch.arange(len(ids), device=ids.device))
