from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.sweep_images import (
    ImageSweepResult,
    Wiring,
    WiringScore,
    candidate_wirings,
    sweep_images,
)
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error
from tests import drafts
from tests.engines.random_target import write_random_vl_target
from tests.memorised_vl_pair import NUM_NEW_TOKENS, draft_config, image_prompts, train_draft

TRAINED_ON = Wiring("visual", "before")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    folder = write_random_vl_target(tmp_path_factory.mktemp("vl"))
    return TargetModel.load(folder, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    return image_prompts(tmp_path_factory.mktemp("pictures"), 5)


@pytest.fixture(scope="module")
def draft(target: TargetModel, prompts: list[Prompt]) -> ReferenceDraft:
    """Trained one way, and saying nothing about it."""
    config = TRAINED_ON.applied(draft_config())
    trained = train_draft(target, config, prompts, num_steps=25)
    trained.config = draft_config()
    return trained


@pytest.mark.slow
def test_the_sweep_finds_how_the_draft_was_trained(
    target: TargetModel, draft: ReferenceDraft, prompts: list[Prompt]
) -> None:
    text = Prompt("prompt_token_ids", (1, 2, 3))

    found = sweep_images(target, draft, [text, *prompts], chain=3, max_new_tokens=NUM_NEW_TOKENS)

    assert found.best == TRAINED_ON
    assert found.num_prompts == 5
    assert len(found.ranking) == 4
    assert found.unsaid == {"image_embedding": "visual", "deepstack_tap": "before"}
    assert found.confidence is not None
    assert found.confidence > 0.9
    assert draft.config.image_embedding == "unknown"


def test_only_what_makes_a_difference_is_tried(target: TargetModel) -> None:
    narrow = drafts.draft_config(hidden_size=32, target_hidden_size=64, embedding="own")
    beyond = draft_config().model_copy(update={"taps": (3, 5, 7)})

    assert candidate_wirings(draft_config(), target) == (
        Wiring("placeholder", "after"),
        Wiring("placeholder", "before"),
        Wiring("visual", "after"),
        Wiring("visual", "before"),
    )
    assert candidate_wirings(beyond, target) == (
        Wiring("placeholder", None),
        Wiring("visual", None),
    )
    assert candidate_wirings(narrow, target) == (
        Wiring("placeholder", "after"),
        Wiring("placeholder", "before"),
    )


def test_prompts_without_an_image_leave_nothing_to_compare(target: TargetModel) -> None:
    draft = ReferenceDraft(draft_config(), None)

    with pytest.raises(Eagle3Error, match="nothing to compare: none of the prompts has an image"):
        sweep_images(target, draft, [Prompt("prompt_token_ids", (1, 2))])


def test_a_draft_that_can_be_fed_in_one_way_only_is_refused(
    target: TargetModel, prompts: list[Prompt]
) -> None:
    config = drafts.draft_config(
        hidden_size=32, target_hidden_size=64, embedding="own", taps=(3, 5, 7)
    )
    draft = ReferenceDraft(config, torch.arange(128))

    with pytest.raises(Eagle3Error, match=r"hidden size 32 beside .* of 64 .* \[3, 5, 7\] lie bey"):
        sweep_images(target, draft, prompts)


SWEPT = ImageSweepResult(
    chain=3,
    num_prompts=5,
    image_embedding="placeholder",
    deepstack_tap="unknown",
    ranking=(
        WiringScore(Wiring("visual", "after"), 2.5, 0.5),
        WiringScore(Wiring("placeholder", "after"), 2.0, 0.75),
    ),
    margin_nats=0.25,
    margin_tokens=0.5,
    confidence=0.9,
)


def test_what_the_draft_does_not_say_or_says_otherwise_is_named() -> None:
    beyond = replace(SWEPT, ranking=(WiringScore(Wiring("placeholder", None), 2.0, 0.5),))

    assert SWEPT.unsaid == {"image_embedding": "visual", "deepstack_tap": "after"}
    assert beyond.unsaid == {}


def test_the_json_form() -> None:
    assert json.loads(json.dumps(SWEPT.to_json())) == {
        "schema": 1,
        "chain": 3,
        "num_prompts": 5,
        "stated": {"image_embedding": "placeholder", "deepstack_tap": "unknown"},
        "best": {"image_embedding": "visual", "deepstack_tap": "after"},
        "margin_nats": 0.25,
        "margin_tokens": 0.5,
        "confidence": 0.9,
        "ranking": [
            {
                "image_embedding": "visual",
                "deepstack_tap": "after",
                "tokens_per_start": 2.5,
                "loss_nats": 0.5,
            },
            {
                "image_embedding": "placeholder",
                "deepstack_tap": "after",
                "tokens_per_start": 2.0,
                "loss_nats": 0.75,
            },
        ],
    }
