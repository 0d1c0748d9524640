"""--image-embedding and --deepstack-tap: kept in eagle3.json, never against what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import Settle, parse_settle
from eagle3_plugin.draft.inspect import inspection
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.errors import UsageError
from tests.draft.check_cases import IMAGES, MROPE, Trip, add_sidecar, run
from tests.drafts import draft_config, read, write_random
from tests.reading import checkpoint, problems

VISUAL_BEFORE = Settle(image_embedding="visual", deepstack_tap="before")
MEND = "If eagle3.json is wrong, delete it and convert the draft again."


def test_no_config_json_says_what_a_draft_gets_at_images(tmp_path: Path) -> None:
    config = read(write_random(tmp_path / "draft", draft_config())).config

    assert (config.image_embedding, config.deepstack_tap) == ("unknown", "unknown")


def test_a_conversion_keeps_the_answers_and_inspect_shows_them(tmp_path: Path) -> None:
    source = write_random(tmp_path / "draft", draft_config())

    convert(read_draft(checkpoint(source), VISUAL_BEFORE), tmp_path / "out", "universal")

    kept = json.loads((tmp_path / "out" / "eagle3.json").read_text())["draft"]
    assert (kept["image_embedding"], kept["deepstack_tap"]) == ("visual", "before")
    shown = inspection(read(tmp_path / "out"))["config"]
    assert (shown["image_embedding"], shown["deepstack_tap"]) == ("visual", "before")


def test_an_answer_that_eagle3_json_gives_too_is_no_problem(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config())
    add_sidecar(folder, draft_config(image_embedding="visual", deepstack_tap="before"))

    assert problems(folder, VISUAL_BEFORE) == []


def test_an_answer_fills_what_eagle3_json_leaves_open(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config())
    add_sidecar(folder, draft_config(image_embedding="visual"))

    config = read_draft(checkpoint(folder), Settle(deepstack_tap="after")).config

    assert (config.image_embedding, config.deepstack_tap) == ("visual", "after")


def test_an_answer_against_eagle3_json_is_refused(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config())
    add_sidecar(folder, draft_config(image_embedding="placeholder", deepstack_tap="after"))

    assert problems(folder, VISUAL_BEFORE) == [
        (
            "image-inputs-conflict",
            "eagle3.json says that image_embedding is placeholder, and --image-embedding visual "
            "was given",
            f"Leave --image-embedding visual out. {MEND}",
        ),
        (
            "image-inputs-conflict",
            "eagle3.json says that deepstack_tap is after, and --deepstack-tap before was given",
            f"Leave --deepstack-tap before out. {MEND}",
        ),
    ]


def test_a_narrow_draft_cannot_have_been_given_visual_features(tmp_path: Path) -> None:
    config = draft_config(hidden_size=32, embedding="own")
    folder = write_random(tmp_path / "draft", config)

    assert problems(folder, VISUAL_BEFORE) == [
        (
            "config-inconsistent",
            "the draft is 32 wide and cannot have been given visual features, which are 64 wide",
            None,
        )
    ]


@pytest.mark.parametrize(
    ("flag", "name", "expected"),
    [
        ("--image-embedding", "image_embedding", "placeholder or visual"),
        ("--deepstack-tap", "deepstack_tap", "before or after"),
    ],
)
def test_another_word_is_wrong_use(flag: str, name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=f"{flag} both: expected {expected}"):
        parse_settle({name: "both"}, None)


def test_answers_reach_the_plugin_through_a_conversion(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config(**MROPE))
    target = IMAGES | {"deepstack_layers": (0, 1, 2)}
    report = run(Trip("", {}, target=target, settle=VISUAL_BEFORE), path, "vllm+plugin")
    found = {finding.id: finding for finding in report.findings}
    assert found["answers-not-in-files"].remedy == (
        f"Run: eagle3 convert {path} OUT --to vllm --target TARGET --image-embedding visual "
        "--deepstack-tap before; then serve OUT."
    )
    assert found["image-embedding-misread"].remedy == (
        "Nothing to do with the plugin. Without it: images cost acceptance; text does not."
    )
    assert found["deepstack-misread"].found == (
        "stock vLLM 0.32.0 captures tap 2 after the visual add"
    )
