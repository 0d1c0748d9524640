"""eagle3.json: read first, corrected by answers, refused when it is stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.sidecar import new_sidecar
from tests.drafts import draft_config, edit_config, read
from tests.reading import checkpoint, problems

STALE = "Delete eagle3.json, or convert the draft again."


def settled(folder: Path, **answers: Any) -> DraftConfig:
    return read_draft(checkpoint(folder), Settle(**answers)).config


@pytest.fixture
def with_sidecar(folder: Path) -> Path:
    """A draft whose eagle3.json says more than its config.json can."""
    config = draft_config(taps=(4, 18, 33), deepstack_tap="after")
    written = json.loads((folder / "config.json").read_text())
    kept = new_sidecar(config, written, {})
    (folder / "eagle3.json").write_text(json.dumps(kept))
    return folder


def change_sidecar(folder: Path, **changes: Any) -> None:
    kept = json.loads((folder / "eagle3.json").read_text())
    (folder / "eagle3.json").write_text(json.dumps(kept | changes))


def test_eagle3_json_is_read_first(with_sidecar: Path) -> None:
    draft = read(with_sidecar)

    assert draft.config == draft_config(taps=(4, 18, 33), deepstack_tap="after")
    assert (draft.dialect, draft.evidence) == (
        "eagle3",
        ("eagle3.json says what the draft is",),
    )


def test_an_answer_corrects_eagle3_json(with_sidecar: Path) -> None:
    found = settled(with_sidecar, taps=(2, 18, 33), residual="normed", feedback="postnorm")

    assert found == draft_config(
        taps=(2, 18, 33), residual="normed", feedback="postnorm", deepstack_tap="after"
    )


def test_an_answer_that_does_not_fit_eagle3_json_is_refused(with_sidecar: Path) -> None:
    assert problems(with_sidecar, Settle(taps=(2, 18))) == [
        ("config-inconsistent", "taps [2, 18] but fc is 3 taps wide", None)
    ]


@pytest.mark.parametrize("answer", [{"dialect": "sglang"}, {"ids": "output"}])
def test_who_says_how_to_read_config_json_does_not_get_eagle3_json(
    with_sidecar: Path, answer: dict[str, Any]
) -> None:
    draft = read_draft(checkpoint(with_sidecar), Settle(**answer))

    assert (draft.dialect, draft.config) == ("sglang", draft_config())


def test_eagle3_json_of_another_config_is_stale(with_sidecar: Path) -> None:
    edit_config(with_sidecar, rope_theta=5000000)

    assert problems(with_sidecar) == [
        ("sidecar-stale", "config.json was changed after eagle3.json was written for it", STALE)
    ]


def test_config_json_may_be_formatted_anew(with_sidecar: Path) -> None:
    path = with_sidecar / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(config.items())), indent=8))

    assert read(with_sidecar).dialect == "eagle3"


def test_eagle3_json_of_another_schema_is_refused(with_sidecar: Path) -> None:
    change_sidecar(with_sidecar, schema=2)

    assert problems(with_sidecar) == [("sidecar", "eagle3.json has schema 2, expected 1", STALE)]


def test_eagle3_json_without_a_draft_is_refused(with_sidecar: Path) -> None:
    change_sidecar(with_sidecar, draft=None)

    ((id, message, hint),) = problems(with_sidecar)

    assert (id, hint) == ("sidecar", STALE)
    assert message.startswith("eagle3.json does not describe a draft: ")


def test_eagle3_json_that_the_weights_contradict_is_refused(with_sidecar: Path) -> None:
    config = draft_config(taps=(4, 18, 33), num_layers=10**9)
    change_sidecar(with_sidecar, draft=config.model_dump(mode="json"))

    assert [id for id, _, _ in problems(with_sidecar)] == ["num-layers"]
