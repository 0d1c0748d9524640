"""A random Qwen3-VL target, judged by transformers' own processor, generate and rope index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)

from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error, TargetError
from tests import drafts
from tests.engines.random_target import write_random_target, write_random_vl_target
from tests.vl_prompts import CONVERSATIONS, prompts_by_name, write_pictures

IMAGE_PAD, VIDEO_PAD = 268, 269
"""256 bytes, then Qwen3's special tokens in their order."""

SEEN = [name for name in CONVERSATIONS if name != "text"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_vl_target(tmp_path_factory.mktemp("vl"))


@pytest.fixture(scope="module")
def target(folder: Path) -> TargetModel:
    return load(folder)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prompt]:
    return prompts_by_name(tmp_path_factory.mktemp("prompts"))


def load(folder: Path) -> TargetModel:
    return TargetModel.load(folder, dtype=torch.float32, device="cpu")


def processed(folder: Path, pictures: Path, name: str) -> Any:
    """What transformers' own processor makes of a conversation."""
    turns = json.loads(json.dumps(CONVERSATIONS[name]).replace("image_url", "image"))
    files = [
        part["image"]["url"]
        for turn in turns
        if isinstance(turn["content"], list)
        for part in turn["content"]
        if part["type"] == "image"
    ]
    processor = AutoProcessor.from_pretrained(folder)
    words = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    images = [Image.open(pictures / file) for file in files]
    return processor(text=[words], images=images or None, return_tensors="pt")


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_text_is_what_transformers_generates(
    folder: Path, target: TargetModel, prompts: dict[str, Prompt], tmp_path: Path, name: str
) -> None:
    inputs = processed(folder, write_pictures(tmp_path), name)
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    expected = model.generate(**inputs, max_new_tokens=20, do_sample=False, eos_token_id=None)

    encoded = target.encode(prompts[name])
    found = target.continue_greedily(encoded, 18, overhang=2, end_ids=())

    assert encoded.ids.tolist() == inputs["input_ids"][0].tolist()
    assert found.ids.tolist() == expected[0].tolist()
    assert len(set(found.ids[found.num_prompt_tokens :].tolist())) > 3


def test_text_after_images_is_not_moved_by_them(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    """transformers' model keeps the position offset of the last images that it was given."""
    plain = target.encode(prompts["text"])
    before = target.continue_greedily(plain, 8, overhang=0, end_ids=())
    target.continue_greedily(target.encode(prompts["two images"]), 8, overhang=0, end_ids=())

    assert torch.equal(target.continue_greedily(plain, 8, overhang=0, end_ids=()).ids, before.ids)


def test_the_image_matters(target: TargetModel, prompts: dict[str, Prompt], tmp_path: Path) -> None:
    ids = target.encode(prompts["one image"]).ids.tolist()
    once = [one for i, one in enumerate(ids) if one != IMAGE_PAD or ids[i - 1] != IMAGE_PAD]
    other = Image.new("RGB", (96, 64), "white")

    first = target.continue_greedily(target.encode(prompts["one image"]), 8, overhang=0, end_ids=())
    second = target.continue_greedily(target.encode_ids(once, [other]), 8, overhang=0, end_ids=())

    assert second.prompt.ids.tolist() == ids
    assert first.ids.tolist() != second.ids.tolist()


def test_positions_of_a_small_prompt(target: TargetModel) -> None:
    """By hand (Qwen2-VL, arXiv 2409.12191, section 2.1): 3 x 2 merged tokens among three of text.

    The image begins at 1, and the text after it at 1 + max(3, 2).
    """
    encoded = target.encode_ids([5, IMAGE_PAD, 6, 7], [Image.new("RGB", (96, 64))])

    assert encoded.ids.tolist() == [5, *[IMAGE_PAD] * 6, 6, 7]
    assert encoded.positions(10).tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5, 6],
        [0, 1, 1, 1, 2, 2, 2, 4, 5, 6],
        [0, 1, 2, 3, 1, 2, 3, 4, 5, 6],
    ]
    assert encoded.positions(3).tolist() == [[0, 1, 1], [0, 1, 1], [0, 1, 2]]
    assert encoded.is_image(3).tolist() == [False, True, True]


@pytest.mark.parametrize("name", SEEN)
def test_positions_are_those_of_the_target_and_go_on_from_the_greatest(
    folder: Path, target: TargetModel, prompts: dict[str, Prompt], tmp_path: Path, name: str
) -> None:
    inputs = processed(folder, write_pictures(tmp_path), name)
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder).model
    expected, _ = model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )

    encoded = target.encode(prompts[name])
    found = encoded.positions(len(encoded.ids) + 2)

    last = int(expected.max())
    assert torch.equal(found[:, :-2], expected[:, 0])
    assert found[:, -2:].tolist() == [[last + 1, last + 2]] * 3


def test_a_boundary_before_the_add_differs_only_at_images_of_the_deepstack_layers(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    encoded = target.encode(prompts["two images"])
    boundaries = range(target.num_layers + 1)

    after = target.states(encoded, encoded.ids, boundaries)
    before = target.states(encoded, encoded.ids, boundaries, deepstack="before")

    is_image = encoded.ids == IMAGE_PAD
    differs = {k: (after[k] != before[k]).any(dim=-1) for k in boundaries}
    assert target.num_deepstack == 2
    assert {k for k in boundaries if differs[k].any()} == {1, 2}
    assert all(torch.equal(differs[k], is_image) for k in (1, 2))


def test_before_is_what_transformers_records_as_hidden_states(
    folder: Path, target: TargetModel, prompts: dict[str, Prompt], tmp_path: Path
) -> None:
    inputs = processed(folder, write_pictures(tmp_path), "one image")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True).hidden_states

    encoded = target.encode(prompts["one image"])
    found = target.states(encoded, encoded.ids, range(8), deepstack="before")

    for boundary in range(8):
        torch.testing.assert_close(found[boundary], expected[boundary][0], rtol=0, atol=1e-5)


def test_states_with_what_was_written_are_those_of_the_run_that_wrote_it(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    """The logits of one pass over everything choose the same tokens, one after another."""
    text = target.continue_greedily(
        target.encode(prompts["two images"]), 12, overhang=0, end_ids=()
    )

    last = target.states(text.prompt, text.ids, [target.num_layers])[target.num_layers]
    with torch.no_grad():
        chosen = target.model.lm_head(target.decoder.norm(last)).argmax(dim=-1)

    first = text.num_prompt_tokens
    assert chosen[first - 1 : -1].tolist() == text.ids[first:].tolist()


def test_a_written_image_placeholder_is_a_token_like_others(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    encoded = target.encode(prompts["one image"])
    ids = torch.cat([encoded.ids, torch.tensor([IMAGE_PAD, 5])])

    states = target.states(encoded, ids, [0])[0]

    assert torch.equal(states[-2:], target.embed[ids[-2:]])


def draft_of(**changes: Any) -> ReferenceDraft:
    torch.manual_seed(0)
    config = drafts.draft_config(embedding="own", draft_vocab_size=512, has_vocab_map=False)
    rope = config.rope.model_copy(update=changes.pop("rope", {}))
    return ReferenceDraft(config.model_copy(update={"rope": rope, **changes}), None)


MROPE = {"mrope_section": (6, 5, 5), "mrope_interleaved": True}


def test_the_rows_of_a_small_prompt(target: TargetModel) -> None:
    """By hand: 2 x 1 merged tokens between two of text, then one that was written."""
    encoded = target.encode_ids([5, IMAGE_PAD, 6], [Image.new("RGB", (64, 32), "red")])
    ids = torch.cat([encoded.ids, torch.tensor([7])])
    three = draft_of(image_embedding="visual", rope=MROPE)
    assert target.vision is not None
    assert encoded.images is not None
    features = target.vision.see(encoded.images).features

    plain = target.rows(encoded, ids, draft_of(image_embedding="placeholder"))
    wide = target.rows(encoded, ids, three)

    assert plain.ids.tolist() == [5, IMAGE_PAD, IMAGE_PAD, 6, 7]
    assert (plain.embeds, plain.positions.tolist()) == (None, [0, 1, 2, 3, 4])
    assert wide.positions.tolist() == [[0, 1, 1, 3, 4], [0, 1, 1, 3, 4], [0, 1, 2, 3, 4]]
    own = three.embed_tokens(torch.tensor([5, 6, 7]))
    expected = torch.stack([own[0], features[0], features[1], own[1], own[2]])
    assert torch.equal(wide.embeddings(three), expected)
    assert torch.equal(wide.first(2).embeddings(three), expected[:2])


@pytest.mark.parametrize("said", ["placeholder", "unknown"])
def test_rows_without_visual_embeddings_leave_them_to_the_draft(
    target: TargetModel, prompts: dict[str, Prompt], said: str
) -> None:
    encoded = target.encode(prompts["one image"])

    rows = target.rows(encoded, encoded.ids, draft_of(image_embedding=said))

    assert rows.embeds is None
    assert rows.positions.tolist() == list(range(len(encoded.ids)))


def test_rows_with_visual_embeddings_have_the_features_that_the_target_embeds(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    encoded = target.encode(prompts["two images"])
    ids = torch.cat([encoded.ids, torch.tensor([7, IMAGE_PAD])])
    draft = draft_of(image_embedding="visual", rope=MROPE)

    rows = target.rows(encoded, ids, draft)

    states = target.states(encoded, ids, [0])[0]
    is_image = (ids == IMAGE_PAD) & (torch.arange(len(ids)) < len(encoded.ids))
    assert rows.embeds is not None
    assert torch.equal(rows.embeds[is_image], states[is_image])
    assert torch.equal(rows.embeds[~is_image], draft.embed_tokens(ids[~is_image]))
    assert torch.equal(rows.positions, encoded.positions(len(ids)))


def test_rows_of_text_are_plain_for_every_draft(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    encoded = target.encode(prompts["text"])

    rows = target.rows(encoded, encoded.ids, draft_of(image_embedding="visual", rope=MROPE))

    assert rows.embeds is None
    assert rows.positions.tolist() == list(range(len(encoded.ids)))


def test_a_qwen3_vl_moe_target_runs_as_transformers_does(
    prompts: dict[str, Prompt], tmp_path: Path
) -> None:
    folder = write_random_vl_target(tmp_path / "moe", num_layers=4, num_experts=4)
    inputs = processed(folder, write_pictures(tmp_path), "one image")
    model = Qwen3VLMoeForConditionalGeneration.from_pretrained(folder).eval()
    expected = model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=None)

    target = load(folder)
    found = target.continue_greedily(
        target.encode(prompts["one image"]), 12, overhang=0, end_ids=()
    )

    assert found.ids.tolist() == expected[0].tolist()
    assert (target.num_layers, target.num_deepstack, target.end_ids) == (4, 2, (258,))


def test_a_prompt_of_ids_with_a_placeholder_and_no_image_is_refused(target: TargetModel) -> None:
    prompt = Prompt("prompt_token_ids", (5, IMAGE_PAD, 6), where="p.jsonl:3")

    with pytest.raises(
        Eagle3Error, match=r"p.jsonl:3: 1 image placeholder\(s\) \(id 268\) for 0 image\(s\)"
    ):
        target.encode(prompt)


def test_a_video_placeholder_is_refused(target: TargetModel) -> None:
    with pytest.raises(Eagle3Error, match=r"p: a video placeholder \(id 269\), expected text and"):
        target.encode(Prompt("prompt_token_ids", (5, VIDEO_PAD), where="p"))


def test_a_template_that_drops_the_image_is_noticed(
    target: TargetModel, prompts: dict[str, Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target.vision is not None
    only_text = "{% for m in messages %}{{ m.role }}{% endfor %}"
    monkeypatch.setattr(target.vision.processor(), "chat_template", only_text)

    with pytest.raises(Eagle3Error, match=r"prompts.jsonl:1: 0 image placeholder\(s\) .* 1 image"):
        target.encode(prompts["one image"])


def test_an_image_for_a_target_of_text_is_refused(
    prompts: dict[str, Prompt], tmp_path: Path
) -> None:
    target = load(write_random_target(tmp_path))

    with pytest.raises(Eagle3Error, match=r"p:1: 1 image\(s\), but Qwen3ForCausalLM sees none"):
        target.encode_ids([1, 2], [Image.new("RGB", (32, 32))], "p:1")


def copy_of(folder: Path, to: Path, *without: str) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        if file.name not in without:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_target_without_processor_takes_text_only(
    folder: Path, prompts: dict[str, Prompt], tmp_path: Path
) -> None:
    target = load(copy_of(folder, tmp_path / "t", "preprocessor_config.json"))

    assert len(target.encode(prompts["text"]).ids) == 24
    with pytest.raises(TargetError, match=r"has no image processor, expected one of \['preproc"):
        target.encode(prompts["one image"])


def test_a_broken_processor_is_refused(
    folder: Path, prompts: dict[str, Prompt], tmp_path: Path
) -> None:
    broken = copy_of(folder, tmp_path / "t")
    (broken / "preprocessor_config.json").write_text("{")

    with pytest.raises(TargetError, match="transformers cannot load the image processor of"):
        load(broken).encode(prompts["one image"])


def test_a_processor_of_another_tower_is_refused(
    folder: Path, prompts: dict[str, Prompt], tmp_path: Path
) -> None:
    other = copy_of(folder, tmp_path / "t")
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(config | {"patch_size": 14}))

    with pytest.raises(
        TargetError, match=r"merge_size \[14, 2, 2\], its vision tower \[16, 2, 2\]"
    ):
        load(other).encode(prompts["one image"])
