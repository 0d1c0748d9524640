"""Scores of image prompts: against a live loop of draft and verify, and apart from text."""

from __future__ import annotations

import pytest
import torch

from eagle3_plugin.draft.chain import draft_chain
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rounds import ScoreResult
from eagle3_plugin.draft.score import draft_for, score
from eagle3_plugin.draft.sweep import sweep_taps
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import TargetError
from tests import drafts
from tests.engines.random_target import write_random_vl_target
from tests.memorised_vl_pair import CHAIN, NUM_NEW_TOKENS, draft_config, image_prompts, train_draft

CONFIG = draft_config(image_embedding="visual", deepstack_tap="before")
TEXT = Prompt("prompt_token_ids", (5, 6, 7, 8))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    folder = write_random_vl_target(tmp_path_factory.mktemp("vl"))
    return TargetModel.load(folder, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    return image_prompts(tmp_path_factory.mktemp("pictures"), 2)


@pytest.fixture(scope="module")
def draft(target: TargetModel, prompts: list[Prompt]) -> ReferenceDraft:
    return train_draft(target, CONFIG, prompts, num_steps=15)


@pytest.fixture(scope="module")
def result(target: TargetModel, draft: ReferenceDraft, prompts: list[Prompt]) -> ScoreResult:
    mixed = [prompts[0], TEXT, prompts[1]]
    return score(target, draft, mixed, chain=CHAIN, max_new_tokens=NUM_NEW_TOKENS)


def live_rounds(target: TargetModel, draft: ReferenceDraft, prompt: Prompt) -> list[int]:
    """Accepted tokens of each round; the target runs prompt and draft anew each time."""
    encoded = target.encode(prompt)
    taps = CONFIG.taps_for(target.num_layers)
    last = target.num_layers
    accepted = []
    ids = target.continue_greedily(encoded, 1, overhang=0, end_ids=()).ids
    while len(ids) < len(encoded.ids) + NUM_NEW_TOKENS:
        states = target.states(encoded, ids[:-1], taps, deepstack="before")
        wide = torch.cat([states[k] for k in taps], dim=-1)
        drafted = draft_chain(draft, wide, target.rows(encoded, ids, draft), CHAIN)
        tried = torch.cat([ids, torch.tensor(drafted)])
        with torch.no_grad():
            state = target.decoder.norm(target.states(encoded, tried, [last])[last])
            written = target.model.lm_head(state[len(ids) - 1 :]).argmax(-1).tolist()
        right = [d == w for d, w in zip(drafted, written, strict=False)]
        accepted.append([*right, False].index(False))
        ids = torch.cat([ids, torch.tensor(written[: accepted[-1] + 1])])
    return accepted


def test_the_rounds_of_image_prompts_are_those_of_a_live_loop(
    target: TargetModel, draft: ReferenceDraft, result: ScoreResult, prompts: list[Prompt]
) -> None:
    for scored, prompt in zip((result.prompts[0], result.prompts[2]), prompts, strict=True):
        found = [one.num_accepted for one in scored.rounds(CHAIN)]

        assert found == live_rounds(target, draft, prompt)
        assert len(set(found)) > 1


def test_text_and_images_are_counted_apart(result: ScoreResult) -> None:
    apart = result.modalities

    assert {name: len(one.prompts) for name, one in apart.items()} == {"text": 1, "image": 2}
    image = [r.num_accepted + 1 for i in (0, 2) for r in result.prompts[i].rounds(CHAIN)]
    assert apart["image"].tokens_per_verify[CHAIN] == sum(image) / len(image)
    assert apart["image"].to_json()["num_rounds"] == len(image)
    assert apart["image"].acceptance_rate_conditional[0] == sum(n > 1 for n in image) / len(image)
    assert list(result.to_json()["modalities"]) == ["text", "image"]


def test_text_alone_has_one_modality(target: TargetModel, draft: ReferenceDraft) -> None:
    found = score(target, draft, [TEXT], chain=2, max_new_tokens=8)

    assert list(found.modalities) == ["text"]
    assert found.assumed == ()


def test_what_no_file_says_is_named_where_images_ask_for_it(
    target: TargetModel, draft: ReferenceDraft, prompts: list[Prompt]
) -> None:
    silent = ReferenceDraft(draft_config(), None)
    silent.load_state_dict(draft.state_dict())

    found = score(target, silent, prompts[:1], chain=2, max_new_tokens=4)

    assert found.assumed == (
        "the placeholder's embedding at images (--image-embedding says otherwise)",
        "taps [2] after the visual add (--deepstack-tap says otherwise)",
    )
    assert found.to_json()["assumed"] == list(found.assumed)


def test_a_sweep_over_taps_names_what_it_took_for_granted(
    target: TargetModel, draft: ReferenceDraft, prompts: list[Prompt]
) -> None:
    silent = ReferenceDraft(draft_config(), None)
    silent.load_state_dict(draft.state_dict())

    found = sweep_taps(target, silent, prompts[:1], chain=2, max_new_tokens=4)

    assert found.assumed[1] == ("taps [1, 2] after the visual add (--deepstack-tap says otherwise)")


def test_visual_embeddings_for_a_narrower_draft_are_refused(target: TargetModel) -> None:
    config = drafts.draft_config(hidden_size=32, target_hidden_size=64, embedding="own")
    visual = config.model_copy(update={"image_embedding": "visual"})

    with pytest.raises(
        TargetError, match=r"visual features as embeddings of images, .* is 32 and theirs 64"
    ):
        draft_for(target, visual, {}, None)
