"""Dialogues as a Qwen3-VL takes them: through its own processor and its own 3-D positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from eagle3_plugin.tiny.tokenizer import END_OF_TURN
from eagle3_plugin.tiny.vl_dialogues import Dialogue
from eagle3_plugin.tiny.vl_pictures import draw

HEADER = "<|im_start|>assistant\n"
"""What an answer comes after."""


@dataclass(frozen=True)
class Batch:
    """Sequences padded at their ends.

    ids: [B, T], image placeholders expanded; positions: [3, B, T]; is_answer: [B, T], what an
        assistant wrote, with the end of the turn.
    pixels: [patches, patch values], grids: [images, 3]: all pictures in order; both empty for text.
    """

    ids: Tensor
    positions: Tensor
    is_answer: Tensor
    pixels: Tensor
    grids: Tensor

    def inputs(self) -> dict[str, Any]:
        """What the model's inner part (`model.model`) is called with.

        Without an attention mask: padding comes last, so no token that counts sees it.
        """
        pictures = {"pixel_values": self.pixels, "image_grid_thw": self.grids}
        given = pictures if len(self.grids) else {}
        return {"input_ids": self.ids, "position_ids": self.positions, "use_cache": False} | given


def dialogue_batch(
    model: PreTrainedModel, processor: Any, dialogues: Sequence[Dialogue], *, ended: bool = True
) -> Batch:
    """Dialogues with all their answers, or, not `ended`, up to where the last answer begins."""
    texts = [_text(processor, dialogue, ended) for dialogue in dialogues]
    pictures = [draw(picture) for dialogue in dialogues for picture in dialogue.pictures]
    made = processor(
        text=texts, images=pictures, padding=True, padding_side="right", return_tensors="pt"
    )
    positions, _ = model.model.get_rope_index(
        made["input_ids"],
        mm_token_type_ids=made["mm_token_type_ids"],
        image_grid_thw=made["image_grid_thw"],
        attention_mask=made["attention_mask"],
    )
    is_answer = _answers(made["input_ids"], processor.tokenizer) & made["attention_mask"].bool()
    return Batch(
        made["input_ids"], positions, is_answer, made["pixel_values"], made["image_grid_thw"]
    )


def text_batch(ids: Tensor) -> Batch:
    """Plain text [B, T], of which every token counts."""
    positions = torch.arange(ids.shape[1]).expand(3, *ids.shape)
    return Batch(ids, positions, torch.ones_like(ids).bool(), torch.empty(0), torch.empty(0, 3))


def _text(processor: Any, dialogue: Dialogue, ended: bool) -> str:
    messages = dialogue.messages(lambda _: {"type": "image"})
    text: str = processor.apply_chat_template(
        messages if ended else messages[:-1], tokenize=False, add_generation_prompt=not ended
    )
    return text


def _answers(ids: Tensor, tokenizer: Any) -> Tensor:
    """True from after an assistant's header to the end of its turn, [B, T]."""
    header = tokenizer(HEADER)["input_ids"]
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    marked = torch.zeros_like(ids).bool()
    for row, line in enumerate(ids.tolist()):
        inside = False
        for at, token in enumerate(line):
            marked[row, at] = inside
            begins = line[max(0, at + 1 - len(header)) : at + 1] == header
            inside = token != end if inside else begins
    return marked
