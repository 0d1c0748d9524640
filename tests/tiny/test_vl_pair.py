"""The trained Qwen3-VL pairs: does the target see, do the drafts learn, and does wiring show?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoProcessor, Qwen3VLForConditionalGeneration

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.prompts import read_prompts
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.draft.reference import read_weights
from eagle3_plugin.draft.score import draft_for, score
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import VL_VARIANTS, VlPair, tiny_pair, tiny_vl_pair
from eagle3_plugin.tiny.__main__ import main
from eagle3_plugin.tiny.vl_batches import Batch, dialogue_batch
from eagle3_plugin.tiny.vl_dialogues import KINDS, Dialogue, Kind, dialogues

pytestmark = pytest.mark.slow

NUM_UNSEEN = 60
CPU_BUDGET_S = 750


@pytest.fixture(scope="module")
def pair() -> VlPair:
    return tiny_vl_pair()


@pytest.fixture(scope="module")
def target(pair: VlPair) -> TargetModel:
    return TargetModel.load(pair.target, dtype=torch.float32, device="cpu")


def _unseen(kind: Kind, seed: str = "unseen") -> list[Dialogue]:
    source = dialogues(f"{seed} {kind}", held_out=True, kinds={kind: 1.0})
    return list(islice(source, NUM_UNSEEN))


def _batches(target: TargetModel, shown: Sequence[Dialogue]) -> list[Batch]:
    assert target.vision is not None
    processor = target.vision.processor()
    parts = [shown[at : at + 20] for at in range(0, len(shown), 20)]
    return [dialogue_batch(target.model, processor, part) for part in parts]


@torch.inference_mode()
def _share_right(target: TargetModel, batches: Sequence[Batch]) -> float:
    """Of the dialogues, how many the target would answer word for word, greedily."""
    right: list[bool] = []
    for batch in batches:
        logits = target.model.lm_head(target.model.model(**batch.inputs()).last_hidden_state)
        is_best = logits[:, :-1].argmax(dim=-1) == batch.ids[:, 1:]
        right += (is_best | ~batch.is_answer[:, 1:]).all(dim=1).tolist()
    return sum(right) / len(right)


def test_more_than_nine_in_ten_answers_on_unseen_pictures_are_right_to_the_letter(
    target: TargetModel, record_property: Any
) -> None:
    shares = {kind: _share_right(target, _batches(target, _unseen(kind))) for kind in KINDS}
    record_property("figure", f"tiny Qwen3-VL, exact answers on unseen pictures: {shares}")
    assert shares["one image"] > 0.9
    assert sum(shares.values()) / len(shares) > 0.9


def test_with_a_wrong_picture_hardly_any_answer_is_right(
    target: TargetModel, record_property: Any
) -> None:
    """The pictures of other dialogues, of the same size; a few questions are right by chance."""
    asked, others = _unseen("one image"), _unseen("one image", "other")
    pairs = [
        (one, other)
        for one in asked
        for other in others
        if one.pictures[0].canvas == other.pictures[0].canvas
        and not set(one.pictures[0].words.split()) & set(other.pictures[0].words.split())
    ][:100]
    right = _batches(target, [one for one, _ in pairs])
    wrong = _batches(target, [other for _, other in pairs])
    mixed = [replace(one, pixels=other.pixels) for one, other in zip(right, wrong, strict=True)]
    share = _share_right(target, mixed)
    record_property("figure", f"tiny Qwen3-VL, exact answers with a wrong picture: {share:.2f}")
    assert len(pairs) == 100
    assert share < 0.05


def test_the_prompts_are_answered_through_transformers_own_generate(pair: VlPair) -> None:
    processor: Any = AutoProcessor.from_pretrained(pair.target)
    model: Any = Qwen3VLForConditionalGeneration.from_pretrained(pair.target, dtype=torch.float32)
    lines = [json.loads(line) for line in pair.image_prompts.read_text().splitlines()]
    right = []
    for line, answer in zip(lines, pair.answers, strict=True):
        urls = [
            part["image_url"]["url"]
            for message in line["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image_url"
        ]
        text = processor.apply_chat_template(
            line["messages"], tokenize=False, add_generation_prompt=True
        )
        images = [Image.open(pair.image_prompts.parent / url) for url in urls]
        inputs = processor(text=[text], images=images, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=80, do_sample=False)
        said = out[0, inputs["input_ids"].shape[1] :]
        right.append(processor.decode(said, skip_special_tokens=True) == answer)
    assert sum(right) >= 21
    assert len(right) == 24


def test_it_still_writes_text_nearly_as_well_as_the_text_target(pair: VlPair) -> None:
    """Cross entropy on held-out text, in nats a token."""
    losses = []
    ids = torch.tensor(tiny_pair().prompts)
    for folder, loader in (
        (tiny_pair().target, AutoModelForCausalLM),
        (pair.target, Qwen3VLForConditionalGeneration),
    ):
        model: Any = loader.from_pretrained(folder, dtype=torch.float32)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
        losses.append(float(torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())))
    assert losses[1] < losses[0] + 0.5


def test_the_target_folder_is_an_ordinary_qwen3_vl(pair: VlPair) -> None:
    assert sorted(file.name for file in pair.target.iterdir()) == [
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
    ]
    config = json.loads((pair.target / "config.json").read_text())
    assert config["architectures"] == ["Qwen3VLForConditionalGeneration"]
    assert config["tie_word_embeddings"] is True
    assert config["vision_config"]["deepstack_visual_indexes"] == [0, 1]
    assert config["text_config"]["rope_parameters"]["mrope_section"] == [6, 5, 5]
    tokenizer = json.loads((pair.target / "tokenizer.json").read_text())
    ids = {one["content"]: one["id"] for one in tokenizer["added_tokens"]}
    assert config["image_token_id"] == ids["<|image_pad|>"]


def test_no_draft_took_more_than_its_share_of_the_cpu() -> None:
    recipes = {name: tiny_vl_pair(name).recipe for name in VL_VARIANTS}
    drafts = {name: recipe["draft"]["cpu_s"] for name, recipe in recipes.items()}
    total = recipes["text_only"]["target"]["cpu_s"] + sum(drafts.values())
    print(f"CPU seconds: {total:.0f} in all, drafts {drafts}")
    assert 0 < total <= CPU_BUDGET_S


def _read(pair: VlPair) -> Draft:
    checkpoint = Checkpoint.open(resolve(str(pair.draft)))
    return read_draft(checkpoint, Settle(target_num_layers=8))


@pytest.mark.parametrize("variant", VL_VARIANTS)
def test_every_variant_reads_back_as_the_config_it_was_trained_with(variant: str) -> None:
    pair = tiny_vl_pair(variant)
    trained = DraftConfig(**pair.recipe["draft"]["config"])
    assert _read(pair).config.resolved(8) == trained
    assert (pair.draft / "eagle3.json").exists() == (variant != "text_only")


def _tokens_per_verify(target: TargetModel, pair: VlPair, modality: str, **wired: Any) -> float:
    """With a chain of 3; `wired` replaces fields of the config that the draft was trained with."""
    draft = _read(pair)
    config = draft.config.model_copy(update=wired)
    module = draft_for(target, config, read_weights(draft), draft.vocab_map)
    is_text = modality == "text"
    prompts = read_prompts(pair.text_prompts)[:4] if is_text else read_prompts(pair.image_prompts)
    result = score(target, module, prompts, chain=3, max_new_tokens=64, ignore_end=is_text)
    return result.tokens_per_verify[3]


@pytest.mark.parametrize("variant", VL_VARIANTS)
def test_every_variant_learned_what_it_was_shown(
    target: TargetModel, variant: str, record_property: Any
) -> None:
    pair = tiny_vl_pair(variant)
    text, image = (_tokens_per_verify(target, pair, name) for name in ("text", "image"))
    record_property("figure", f"tiny Qwen3-VL {variant}: text {text:.2f}, image {image:.2f}")
    assert text >= 1.8
    assert image >= 2.6 or variant == "text_only"


def test_a_draft_that_never_saw_an_image_drafts_worse_after_one(target: TargetModel) -> None:
    blind, seeing = (
        _tokens_per_verify(target, tiny_vl_pair(name), "image")
        for name in ("text_only", "image_visual")
    )
    assert blind < seeing - 0.8


@pytest.mark.parametrize(
    ("variant", "wired"),
    [
        ("image_placeholder", {"image_embedding": "visual"}),
        ("image_visual", {"image_embedding": "placeholder"}),
        ("visual_1d", {"image_embedding": "placeholder"}),
        ("visual_mrope", {"image_embedding": "placeholder"}),
        ("visual_beyond", {"image_embedding": "placeholder"}),
        ("placeholder_before", {"image_embedding": "visual"}),
        ("placeholder_before", {"deepstack_tap": "after"}),
    ],
)
def test_a_draft_that_is_fed_what_stock_engines_feed_drafts_next_to_nothing(
    target: TargetModel, variant: str, wired: dict[str, str], record_property: Any
) -> None:
    wrong = _tokens_per_verify(target, tiny_vl_pair(variant), "image", **wired)
    record_property("figure", f"tiny Qwen3-VL {variant} with {wired}: image {wrong:.2f}")
    assert wrong < 1.3


def test_the_module_names_the_pairs_folders(capsys: pytest.CaptureFixture[str]) -> None:
    pair = tiny_vl_pair("image_visual")
    assert main(["image_visual"]) == 0
    assert capsys.readouterr().out == f"image_visual\t{pair.target}\t{pair.draft}\n"
