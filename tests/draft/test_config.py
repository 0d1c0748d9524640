"""DraftConfig and its parts: an invalid one cannot exist."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eagle3_plugin.draft.config import DraftConfig, Rope, default_taps
from tests.drafts import draft_config


def message(error: pytest.ExceptionInfo[ValidationError]) -> str:
    (detail,) = error.value.errors()
    return detail["msg"]


@pytest.mark.parametrize(
    ("num_layers", "taps"),
    [
        (28, (2, 14, 25)),
        (36, (2, 18, 33)),
        (40, (2, 20, 37)),
        (48, (2, 24, 45)),
        (64, (2, 32, 61)),
        (94, (2, 47, 91)),
    ],
)
def test_default_taps_are_those_of_the_published_table(
    num_layers: int, taps: tuple[int, int, int]
) -> None:
    assert default_taps(num_layers) == taps


def test_resolving_writes_the_default_taps_out() -> None:
    draft = draft_config()

    assert draft.resolved(36) == draft_config(taps=(2, 18, 33))


def test_resolving_keeps_taps_that_are_listed() -> None:
    draft = draft_config(taps=(4, 18, 33))

    assert draft.resolved(64) == draft


def test_a_draft_survives_json() -> None:
    draft = draft_config(taps=(2, 18, 33), rope={"theta": 5e6, "mrope_section": (8, 4, 4)})

    assert DraftConfig.model_validate_json(draft.model_dump_json()) == draft


def test_a_draft_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        draft_config().hidden_size = 1


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        draft_config(tie_word_embeddings=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_key_value_heads": 3}, "2 heads do not divide by 3 kv heads"),
        ({"head_dim": 31}, "head_dim 31 is odd"),
        ({"num_taps": 4}, "4 taps but no list of them (the default has three)"),
        ({"taps": (1, 2)}, "taps [1, 2] but fc is 3 taps wide"),
        ({"taps": (1, 2, 2)}, "taps [1, 2, 2] repeat"),
        ({"draft_vocab_size": 513}, "draft vocabulary 513 > vocabulary 512"),
        ({"has_vocab_map": False}, "a reduced vocabulary without a vocabulary map"),
        ({"lm_head": "target"}, "a reduced vocabulary with the target's lm_head"),
        (
            {"target_hidden_size": 128},
            "hidden size 64 is not the target's 128, yet embedding is target and lm_head is own",
        ),
        (
            {"hidden_size": 32, "embedding": "own", "image_embedding": "visual"},
            "the draft is 32 wide and cannot have been given visual features, which are 64 wide",
        ),
        (
            {"rope": {"theta": 1e6, "mrope_section": (8, 4, 5)}},
            "mrope_section [8, 4, 5] sums to 17, not to half of head_dim 32",
        ),
        (
            {"head_dim": 31, "taps": (1, 2, 2)},
            "head_dim 31 is odd; taps [1, 2, 2] repeat",
        ),
    ],
)
def test_a_draft_that_contradicts_itself_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        draft_config(**changes)

    assert message(error) == f"Value error, {expected}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"theta": 1e6, "type": "yarn"},
            "rope type 'yarn': unknown parameters [], missing ['factor', "
            "'original_max_position_embeddings']",
        ),
        (
            {"theta": 1e6, "type": "linear", "parameters": {"factor": 2.0, "beta_fast": 32.0}},
            "rope type 'linear': unknown parameters ['beta_fast'], missing []",
        ),
        ({"theta": 1e6, "mrope_interleaved": True}, "mrope_interleaved without mrope_section"),
    ],
)
def test_a_rope_that_contradicts_itself_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        Rope.model_validate(values)

    assert message(error) == f"Value error, {expected}"


@pytest.mark.parametrize("theta", [0.0, -1.0])
def test_theta_is_positive(theta: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Rope(theta=theta)


def test_a_size_is_a_whole_number_and_not_a_string() -> None:
    with pytest.raises(ValidationError, match="valid integer"):
        draft_config(hidden_size="64")
