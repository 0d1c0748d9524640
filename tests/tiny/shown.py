"""A few dialogues about pictures, and their way through a target's processor."""

from __future__ import annotations

from typing import Any

from eagle3_plugin.draft.encoded import Encoded
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.tiny.vl_batches import Batch, dialogue_batch
from eagle3_plugin.tiny.vl_dialogues import Dialogue, Turn
from eagle3_plugin.tiny.vl_pictures import Picture, draw

TALL = Picture("square", "red", "large", "bottom right", (64, 96))
WIDE = Picture("circle", "blue", "small", "top left", (128, 96))
SHOWN = (
    Dialogue("one image", (Turn((TALL,), "What?", "A square."),)),
    Dialogue("two images", (Turn((WIDE, TALL), "Both?", "Yes."),)),
    Dialogue(
        "second turn",
        (Turn((), "Hello!", "Hi."), Turn((WIDE,), "Where is it?", "At the top left.")),
    ),
)
"""Of different lengths, with pictures of two sizes."""


def processor_of(target: TargetModel) -> Any:
    assert target.vision is not None
    return target.vision.processor()


def batch_of(target: TargetModel, *shown: Dialogue) -> Batch:
    return dialogue_batch(target.model, processor_of(target), shown)


def encoded(target: TargetModel, dialogue: Dialogue) -> Encoded:
    """A dialogue through the oracle's own reading of prompts."""
    messages = dialogue.messages(lambda _: {"type": "image"})
    tokenizer = processor_of(target).tokenizer
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return target.encode_ids(tokenizer(text)["input_ids"], [draw(p) for p in dialogue.pictures])
