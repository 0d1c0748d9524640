"""What drafts for the tiny Qwen3-VL are trained on and how, against the oracle."""

from __future__ import annotations

import socket
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Literal

import pytest
import torch

from eagle3_plugin.draft.chain import draft_chain
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rows import Rows
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import MissingExtraError, UsageError
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import VL_VARIANTS, recipes, tiny_vl_pair
from eagle3_plugin.tiny.continuations import States
from eagle3_plugin.tiny.optimizer import Optimizer, Schedule, SharedWeights
from eagle3_plugin.tiny.parallel import Worker
from eagle3_plugin.tiny.specforge import save_draft, save_sidecar
from eagle3_plugin.tiny.train_draft import (
    Sequences,
    new_draft,
    silent_loss,
    start_from,
    unrolled_logits,
)
from eagle3_plugin.tiny.vl_batches import Batch, text_batch
from eagle3_plugin.tiny.vl_sequences import see, training_sequences
from eagle3_plugin.tiny.vl_variants import miswired, vl_draft_config
from tests.tiny.shown import SHOWN, encoded

AFTER_AN_IMAGE = (
    (0, 1, 1, 1, 3, 4, 5, 6, 7, 8),
    (0, 1, 1, 2, 3, 4, 5, 6, 7, 8),
    (0, 1, 2, 1, 3, 4, 5, 6, 7, 8),
)
"""Time, height and width of ten tokens, of which the second to the fourth are an image."""


def _draft(variant: str) -> ReferenceDraft:
    """Untrained; with an lm_head of zeros, so that all ids are equally likely."""
    return new_draft(vl_draft_config(variant), torch.zeros(2048, 128), torch.arange(1024))


@pytest.mark.parametrize("deepstack", ["after", "before"])
def test_a_batch_has_the_oracles_states_embeddings_and_positions(
    random_vl: TargetModel, shown_batch: Batch, deepstack: Literal["after", "before"]
) -> None:
    """Float32, sums in another order: 1e-4 where the states' largest values are above 1."""
    target, batch = random_vl, shown_batch
    seen = see(target.model, batch, (1, 2, 5), deepstack)
    draft = _draft("image_visual")
    draft.embed_tokens.weight = torch.nn.Parameter(target.embed)
    for row, dialogue in enumerate(SHOWN):
        prompt = encoded(target, dialogue)
        length = len(prompt.ids)
        assert batch.ids[row, :length].tolist() == prompt.ids.tolist()
        states = target.states(prompt, prompt.ids, (1, 2, 5), deepstack=deepstack)
        expected = torch.cat([states[k] for k in (1, 2, 5)], dim=-1)
        torch.testing.assert_close(seen.states.taps[row, :length], expected, atol=1e-4, rtol=1e-4)
        rows = target.rows(prompt, prompt.ids, draft)
        assert rows.embeds is not None
        torch.testing.assert_close(seen.embeds[row, :length], rows.embeds, atol=1e-4, rtol=1e-4)
        assert batch.positions[:, row, :length].tolist() == rows.positions.tolist()


def test_before_and_after_differ_at_images_and_deepstack_boundaries_only(
    random_vl: TargetModel, shown_batch: Batch
) -> None:
    after, before = (
        see(random_vl.model, shown_batch, (1, 2, 5), deepstack).states.taps.view(
            *shown_batch.ids.shape, 3, 64
        )
        for deepstack in ("after", "before")
    )
    is_image = shown_batch.ids == random_vl.model.config.image_token_id
    differs = (after != before).any(dim=-1)
    assert differs[is_image].all(dim=0).tolist() == [True, True, False]
    assert not differs[~is_image].any()


def test_an_answer_counts_when_the_target_would_write_all_of_it(random_vl: TargetModel) -> None:
    prompt = encoded(random_vl, SHOWN[0])
    ids = random_vl.continue_greedily(prompt, 6, overhang=0, end_ids=()).ids
    length, images = len(prompt.ids), prompt.images
    assert images is not None
    is_answer = torch.arange(length + 6)[None] >= length
    positions = prompt.positions(length + 6)[:, None]
    own = Batch(ids[None], positions, is_answer, images.patches, images.grids)
    assert see(random_vl.model, own, (2,), "after").is_written.tolist() == is_answer.tolist()
    changed = ids.clone()
    changed[-3] = (changed[-3] + 1) % 256
    other = replace(own, ids=changed[None])
    assert not see(random_vl.model, other, (2,), "after").is_written.any()


@pytest.mark.parametrize(
    ("variant", "has_embeds", "has_positions"),
    [
        ("image_placeholder", False, True),
        ("image_visual", True, True),
        ("visual_1d", True, False),
        ("visual_mrope", True, True),
    ],
)
def test_a_draft_is_given_what_its_config_says(
    random_vl: TargetModel,
    shown_batch: Batch,
    variant: str,
    has_embeds: bool,
    has_positions: bool,
) -> None:
    data = training_sequences(
        random_vl.model,
        torch.arange(9),
        vl_draft_config(variant),
        text=[text_batch(torch.arange(60).view(2, 30))],
        images=[shown_batch],
        num_tokens=40,
    )
    assert data.ids.shape == (5, 40)
    assert (data.embeds is not None, data.positions is not None) == (has_embeds, has_positions)
    assert data.counted is not None
    assert data.counted[:2].sum(dim=1).tolist() == [30, 30]
    assert data.head.shape == (9, 64)


@pytest.mark.parametrize("variant", VL_VARIANTS)
def test_what_is_trained_is_what_a_chain_computes_after_an_image(variant: str) -> None:
    """Random weights in float64; the chain drafts from row 4."""
    torch.manual_seed(0)
    draft = _draft(variant).double()
    for parameter in draft.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    taps = torch.randn(1, 10, 384, dtype=torch.float64)
    ids = torch.randint(2048, (1, 10))
    positions = torch.tensor(AFTER_AN_IMAGE)[:, None]
    visual = torch.randn(1, 10, 128, dtype=torch.float64)
    is_image = torch.tensor([0, 1, 1, 1, 0, 0, 0, 0, 0, 0]).bool()[None, :, None]

    def embeds() -> torch.Tensor:
        return torch.where(is_image, visual, draft.embed_tokens(ids))

    rows = Rows(ids[0, :6], embeds()[0, :6], positions[:, 0, :6])
    drafted = draft_chain(draft, taps[0, :5], rows, num_steps=3)
    ids[0, 6:9] = torch.tensor(drafted)
    data = Sequences(ids, States(taps, taps), draft.lm_head.weight, embeds(), positions)
    best = torch.stack([logits[0, 4].argmax() for logits in unrolled_logits(draft, data, 3)])
    assert draft.to_target_ids(best).tolist() == drafted


def test_only_the_tokens_that_count_weigh_in_the_loss_of_their_step() -> None:
    states = States(torch.zeros(3, 6, 8), torch.zeros(3, 6, 8))
    counted = torch.tensor([[0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]]).bool()
    data = Sequences(torch.zeros(3, 6), states, torch.zeros(4, 8), counted=counted)
    some = data.pick(torch.tensor([0, 1]))
    assert some.share(2, 4).mul(3).tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]
    assert some.share(3, 4).tolist() == [[0.5, 0, 0, 0], [0, 0, 0.5, 0]]
    plain = Sequences(torch.zeros(3, 6), states, torch.zeros(4, 8))
    assert plain.share(2, 4).item() == pytest.approx(1 / 12)


def test_silence_is_the_first_draft_id_and_nothing_else() -> None:
    """Of 1024 equally likely ids each costs log 1024 = 6.931472, a certain one nothing."""
    draft = _draft("image_placeholder")
    states = States(torch.randn(1, 6, 384), torch.randn(1, 6, 128))
    data = Sequences(torch.randint(2048, (1, 6)), states, draft.lm_head.weight)
    assert silent_loss(draft, data, 0.5).item() == pytest.approx(6.931472 / 2)
    embeds = draft.embed_tokens(data.ids[:, 1:2])
    normed, _ = draft(embeds, draft.fuse(states.taps[:, :1]), torch.zeros(1, 1).long())
    draft.lm_head.weight.data[0] = 100.0 * normed[0, 0]
    first = replace(data, counted=torch.tensor([[0, 0, 1, 0, 0, 0]]).bool())
    assert silent_loss(draft, first, 0.5).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("variant", "wrong"),
    [
        ("image_visual", [("placeholder", "after")]),
        ("image_placeholder", [("visual", "after")]),
        ("placeholder_before", [("visual", "before"), ("placeholder", "after")]),
    ],
)
def test_miswired_is_what_stock_engines_feed(variant: str, wrong: list[tuple[str, str]]) -> None:
    found = miswired(vl_draft_config(variant))
    assert [(config.image_embedding, config.deepstack_tap) for config in found] == wrong


def test_a_draft_goes_on_from_an_earlier_ones_weights_and_the_words_that_both_have() -> None:
    config = vl_draft_config("text_only")
    draft = new_draft(config, torch.zeros(2048, 128), torch.arange(0, 2048, 2))
    stored = {
        "d2t": torch.tensor([3, 3]),
        "lm_head.weight": torch.stack([torch.full((128,), 5.0), torch.full((128,), 7.0)]),
        "midlayer.mlp.up_proj.weight": torch.full((384, 128), 2.0),
        "t2d": torch.zeros(2048).bool(),
    }
    start_from(draft, stored)
    assert draft.lm_head.weight[:4].mean(dim=1).tolist() == [0.0, 0.0, 7.0, 0.0]
    assert draft.state_dict()["layers.0.mlp.up_proj.weight"].unique().tolist() == [2.0]


def test_what_config_json_cannot_say_is_kept_beside_it(tmp_path: Path) -> None:
    config = vl_draft_config("placeholder_before")
    save_draft(_draft("placeholder_before"), 8, tmp_path / "draft")
    save_sidecar(config, tmp_path / "draft")
    checkpoint = Checkpoint.open(resolve(str(tmp_path / "draft")))
    read = read_draft(checkpoint, Settle(target_num_layers=8))
    assert (read.config.image_embedding, read.config.deepstack_tap) == ("placeholder", "before")
    assert read.config == config


def test_the_variants_are_those_that_engines_may_differ_on() -> None:
    found = {
        name: (
            config.image_embedding,
            config.deepstack_tap,
            config.rope.mrope_section,
            config.rope.mrope_interleaved,
            config.taps,
        )
        for name, config in ((name, vl_draft_config(name)) for name in VL_VARIANTS)
    }
    interleaved, low = ((6, 5, 5), True), (2, 4, 5)
    assert found == {
        "text_only": ("unknown", "unknown", *interleaved, low),
        "image_placeholder": ("placeholder", "after", *interleaved, low),
        "image_visual": ("visual", "after", *interleaved, low),
        "visual_1d": ("visual", "after", None, False, low),
        "visual_mrope": ("visual", "after", (8, 4, 4), False, low),
        "visual_beyond": ("visual", "unknown", *interleaved, (3, 5, 7)),
        "placeholder_before": ("placeholder", "before", *interleaved, low),
    }


def test_a_variant_that_does_not_exist_is_refused_with_the_names_that_do() -> None:
    with pytest.raises(UsageError) as caught:
        tiny_vl_pair("visuel")
    assert caught.value.message == "there is no tiny Qwen3-VL draft named 'visuel'"
    assert caught.value.hint == (
        "One of: text_only, image_placeholder, image_visual, visual_1d, visual_mrope, "
        "visual_beyond, placeholder_before."
    )


def test_training_without_pillow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(recipes, "version", not_installed)
    with pytest.raises(MissingExtraError) as caught:
        recipes.installed_version("pillow")
    assert caught.value.message == "training a tiny pair needs pillow, which is not installed"
    assert caught.value.hint == "pip install 'eagle3-plugin[torch]'"


def test_a_patch_convolution_is_updated_as_the_matrix_it_is() -> None:
    """One step on a sum of all weights: the gradient is all ones, which has rank one."""
    module = torch.nn.Conv3d(3, 8, (2, 4, 4), bias=False)
    torch.nn.init.zeros_(module.weight)
    weights = SharedWeights(module)
    ours, theirs = socket.socketpair()
    theirs.sendall(b"..")
    weights.gradients[1]["weight"].fill_(1.0)
    optimizer = Optimizer(weights, Worker(0, ours), Schedule(1, 1.0, 1.0, 1), lambda _: False)
    optimizer.update(module, lambda: module.weight.sum())
    values = torch.linalg.svdvals(weights.values["weight"].view(8, 96))
    assert 0.6 < values[0] < 1.3
    assert values[1] < 0.01
