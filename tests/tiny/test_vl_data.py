"""Dialogues and prompts as the tiny Qwen3-VL gets them, against its own processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from eagle3_plugin.draft.images import open_image
from eagle3_plugin.draft.prompts import read_prompts
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.tiny.tokenizer import train_tokenizer
from eagle3_plugin.tiny.vl_batches import Batch, text_batch
from eagle3_plugin.tiny.vl_pictures import draw
from eagle3_plugin.tiny.vl_processor import write_processor
from eagle3_plugin.tiny.vl_prompts import held_out_dialogues, write_prompts
from eagle3_plugin.tiny.vl_target import answer_loss
from tests.tiny.shown import SHOWN, batch_of, processor_of


@pytest.fixture
def processor(tmp_path: Path) -> Any:
    """What transformers makes of the files beside a tiny Qwen3-VL."""
    write_processor(train_tokenizer(["a red circle\n" * 50]), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    return AutoProcessor.from_pretrained(tmp_path)


def test_the_files_make_a_real_qwen3_vl_processor(processor: Any) -> None:
    assert type(processor).__name__ == "Qwen3VLProcessor"
    assert type(processor.image_processor).__name__ == "Qwen2VLImageProcessor"
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "And this?"},
    ]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
        "<|im_start|>assistant\nRed.<|im_end|>\n"
        "<|im_start|>user\nAnd this?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "x"}}, {"image": "x"}])
def test_the_template_knows_the_other_spellings_of_an_image(
    processor: Any, part: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": [part]}]
    text = processor.tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"


def test_the_template_shows_a_video_as_one() -> None:
    """What must not happen is that it is dropped in silence."""
    from eagle3_plugin.tiny.vl_processor import CHAT_TEMPLATE

    assert "<|vision_start|><|video_pad|><|vision_end|>" in CHAT_TEMPLATE


def test_a_large_picture_is_scaled_to_256_tokens(processor: Any) -> None:
    made = processor.image_processor([Image.new("RGB", (1024, 1024))], return_tensors="pt")
    assert made["image_grid_thw"].tolist() == [[1, 32, 32]]


def test_patches_come_in_blocks_of_two_by_two(random_vl: TargetModel) -> None:
    """Of a 4 x 6 grid, the patch of row 1, column 2 is the third of the second block: number 6."""
    image = Image.new("RGB", (96, 64), "white")
    image.paste("black", (32, 16, 48, 32))
    made = processor_of(random_vl).image_processor([image], return_tensors="pt")
    assert made["image_grid_thw"].tolist() == [[1, 4, 6]]
    darkness = made["pixel_values"].mean(dim=1)
    assert [i for i, value in enumerate(darkness.tolist()) if value < 0] == [6]


def test_each_32_by_32_pixels_are_one_token_at_its_row_and_column(random_vl: TargetModel) -> None:
    batch = batch_of(random_vl, SHOWN[0])
    start = int((batch.ids[0] == random_vl.model.config.image_token_id).int().argmax())
    assert batch.grids.tolist() == [[1, 6, 4]]
    assert (batch.positions[:, 0, start : start + 8] - start).tolist() == [
        [0, 0, 0, 0, 0, 0, 3, 4],
        [0, 0, 1, 1, 2, 2, 3, 4],
        [0, 1, 0, 1, 0, 1, 3, 4],
    ]


def test_what_an_assistant_wrote_is_marked_with_its_end(
    random_vl: TargetModel, shown_batch: Batch
) -> None:
    tokenizer = processor_of(random_vl).tokenizer
    rows = zip(shown_batch.ids, shown_batch.is_answer, strict=True)
    assert [tokenizer.decode(ids[is_answer]) for ids, is_answer in rows] == [
        "A square.<|im_end|>",
        "Yes.<|im_end|>",
        "Hi.<|im_end|>At the top left.<|im_end|>",
    ]


def test_plain_text_counts_throughout_at_the_positions_of_a_sequence() -> None:
    batch = text_batch(torch.tensor([[7, 8, 9], [4, 5, 6]]))
    assert batch.positions.tolist() == [[[0, 1, 2], [0, 1, 2]]] * 3
    assert batch.is_answer.all()
    assert set(batch.inputs()) == {"input_ids", "position_ids", "use_cache"}


def test_padding_does_not_change_the_loss_of_a_dialogue(
    random_vl: TargetModel, shown_batch: Batch
) -> None:
    """Float32: the mean over all equals the mean of each alone, weighed by its tokens."""
    with torch.no_grad():
        alone = [batch_of(random_vl, dialogue) for dialogue in SHOWN]
        counts = torch.tensor([float(one.is_answer.sum()) for one in alone])
        losses = torch.stack([answer_loss(random_vl.model, one) for one in alone])
        together = answer_loss(random_vl.model, shown_batch)
    torch.testing.assert_close(together, (losses * counts).sum() / counts.sum())


def test_the_prompts_are_files_that_score_reads(tmp_path: Path) -> None:
    write_prompts(tmp_path, [[1, 2, 3], [4]])
    images = read_prompts(tmp_path / "image_prompts.jsonl")
    sets = ["one image"] * 12 + ["two images"] * 6 + ["second turn"] * 6
    assert [prompt.set for prompt in images] == sets
    assert [len(prompt.images) for prompt in images[:18]] == [1] * 12 + [2] * 6
    text = read_prompts(tmp_path / "text_prompts.jsonl")
    assert [(prompt.value, prompt.set) for prompt in text] == [((1, 2, 3), "text"), ((4,), "text")]
    shown = held_out_dialogues()
    assert json.loads((tmp_path / "answers.json").read_text()) == [one.answer for one in shown]
    assert all(picture.is_held_out for one in shown for picture in one.pictures)
    first = open_image(images[0].images[0])
    assert first.tobytes() == draw(shown[0].pictures[0]).tobytes()
