from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.encoded import Encoded
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.sweep import SweepResult, TapScore, candidate_taps, sweep_taps
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error
from tests import drafts
from tests.memorised_pair import PROMPTS, train_draft, write_target

TRAINED_ON = (1, 3, 5)


def config(taps: tuple[int, ...] = TRAINED_ON) -> DraftConfig:
    return drafts.draft_config(
        vocab_size=96, draft_vocab_size=80, taps=taps, num_taps=len(taps), rope={"theta": 1e4}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def target(folder: Path) -> TargetModel:
    return TargetModel.load(folder, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def draft(target: TargetModel) -> ReferenceDraft:
    return train_draft(target, config(), num_steps=40)


def stating(draft: ReferenceDraft, taps: tuple[int, ...]) -> ReferenceDraft:
    """The same weights in a draft that claims other taps."""
    other = ReferenceDraft(config(taps), draft.vocab_map)
    other.load_state_dict(draft.state_dict())
    return other


def sweep(target: TargetModel, draft: ReferenceDraft, num_prompts: int = 6) -> SweepResult:
    return sweep_taps(target, draft, PROMPTS[:num_prompts], chain=3, max_new_tokens=40)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ((1, 3, 5), "stated"),
        ((2, 4, 6), "all one lower"),
        ((0, 2, 4), "all one higher"),
        ((1, 3, 4), "high one later"),
        ((1, 3, 6), "high one earlier"),
        ((0, 3, 5), "low one later"),
        ((2, 3, 5), "low one earlier"),
    ],
)
def test_the_taps_of_training_win_whatever_the_draft_states(
    target: TargetModel, draft: ReferenceDraft, stated: tuple[int, ...], name: str
) -> None:
    found = sweep(target, stating(draft, stated))

    assert found.best.taps == TRAINED_ON
    assert name in found.best.names
    assert found.stated == stated
    assert found.margin_nats > 0.04
    assert found.margin_tokens > 0.04
    assert found.confidence == 1.0


def test_the_ranking_is_by_loss_and_margins_are_to_the_second(
    target: TargetModel, draft: ReferenceDraft
) -> None:
    found = sweep(target, draft)
    first, second, *_ = found.ranking

    losses = [one.loss_nats for one in found.ranking]
    assert losses == sorted(losses)
    assert found.margin_nats == second.loss_nats - first.loss_nats
    assert found.margin_tokens == first.tokens_per_start - second.tokens_per_start


def test_few_prompts_give_no_confidence(target: TargetModel, draft: ReferenceDraft) -> None:
    assert sweep(target, draft, num_prompts=4).confidence is None
    assert sweep(target, draft, num_prompts=5).confidence is not None


def test_an_untrained_draft_wins_by_little(target: TargetModel) -> None:
    found = sweep(target, train_draft(target, config(), num_steps=0))

    assert found.margin_tokens < 0.05
    assert found.best.tokens_per_start < 1.1


def test_the_default_of_an_eight_layer_target_and_its_neighbours() -> None:
    assert candidate_taps((2, 4, 5), 8) == {
        (2, 4, 5): ("stated", "default"),
        (1, 3, 4): ("all one lower",),
        (3, 5, 6): ("all one higher",),
        (2, 4, 6): ("high one later", "default, high one later"),
        (3, 4, 5): ("low one later",),
        (1, 4, 5): ("low one earlier",),
    }


def test_output_ids_of_qwen3_8b_have_the_boundaries_among_their_candidates() -> None:
    found = candidate_taps((1, 17, 32), 36)

    assert found[(2, 18, 33)] == ("all one higher", "default")
    assert found[(2, 18, 34)] == ("default, high one later",)
    assert found[(0, 16, 31)] == ("all one lower",)


def test_no_candidate_lies_outside_the_target() -> None:
    assert candidate_taps((0, 3, 6), 6) == {
        (0, 3, 6): ("stated",),
        (0, 3, 5): ("high one earlier",),
        (1, 3, 6): ("low one later",),
        (2, 3, 4): ("default, high one later",),
    }


def test_four_taps_have_no_default() -> None:
    assert set(candidate_taps((2, 4, 6, 8), 12)) == {
        (2, 4, 6, 8),
        (1, 3, 5, 7),
        (3, 5, 7, 9),
        (2, 4, 6, 9),
        (2, 4, 6, 7),
        (3, 4, 6, 8),
        (1, 4, 6, 8),
    }


def test_a_target_with_one_plausible_tap_set_has_nothing_to_compare(
    target: TargetModel,
) -> None:
    everything = ReferenceDraft(config((0, 1, 2, 3, 4, 5, 6)), torch.arange(80))

    with pytest.raises(Eagle3Error, match=r"\[0, 1, 2, 3, 4, 5, 6\] is the only plausible tap"):
        sweep(target, everything)


def test_text_outside_the_draft_vocabulary_cannot_be_ranked(
    target: TargetModel, draft: ReferenceDraft
) -> None:
    written = target.continue_greedily(Encoded(torch.arange(8)), 3, overhang=2, end_ids=())
    outside = [t for t in range(96) if t not in written.ids.tolist()][:60]
    other = ReferenceDraft(
        drafts.draft_config(vocab_size=96, draft_vocab_size=60, taps=TRAINED_ON),
        torch.tensor(outside),
    )

    with pytest.raises(Eagle3Error, match="no written token is in the draft's vocabulary"):
        sweep_taps(target, other, PROMPTS[:1], chain=3, max_new_tokens=3)


def test_the_json_form() -> None:
    ranking = (TapScore((2, 4, 5), ("stated",), 2.5, 0.5), TapScore((1, 3, 4), ("x",), 2.0, 0.75))

    assert json.loads(json.dumps(SweepResult(3, (2, 4, 5), ranking, 0.25, 0.5, 0.9).to_json())) == {
        "schema": 1,
        "chain": 3,
        "stated": [2, 4, 5],
        "best": [2, 4, 5],
        "assumed": [],
        "margin_nats": 0.25,
        "margin_tokens": 0.5,
        "confidence": 0.9,
        "ranking": [
            {
                "taps": [2, 4, 5],
                "names": ["stated"],
                "tokens_per_start": 2.5,
                "loss_nats": 0.5,
            },
            {"taps": [1, 3, 4], "names": ["x"], "tokens_per_start": 2.0, "loss_nats": 0.75},
        ],
    }


def test_one_text_of_a_prompt_without_chain_starts_does_not_break_the_sweep(
    target: TargetModel, draft: ReferenceDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = int(
        target.continue_greedily(Encoded(torch.arange(8)), 1, overhang=0, end_ids=()).ids[-1]
    )
    monkeypatch.setattr(target, "end_ids", (first,))
    prompts = [Prompt("prompt_token_ids", tuple(range(8))), *PROMPTS[1:]]

    assert sweep_taps(target, draft, prompts, chain=3, max_new_tokens=40).best.taps == TRAINED_ON
