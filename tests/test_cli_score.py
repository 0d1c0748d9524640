"""`eagle3 score` with pictures, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.show_score import show_image_sweep, show_score
from tests.draft.test_rounds import prompt, result
from tests.draft.test_sweep_images import SWEPT
from tests.drafts import draft_config, write_random
from tests.engines.random_target import write_random_target, write_random_vl_target
from tests.test_cli import Shell, eagle3
from tests.vl_prompts import write_prompts

__all__ = ["eagle3"]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_vl_target(tmp_path_factory.mktemp("vl"))


@pytest.fixture
def words(target: Path, tmp_path: Path) -> list[Any]:
    draft = write_random(tmp_path / "draft", draft_config())
    prompts = write_prompts(tmp_path / "prompts")
    start: list[Any] = ["score", draft, "--target", target, "--prompts", prompts]
    return [*start, "--max-new-tokens", "6", "--chain", "2"]


def test_text_and_images_are_scored_apart(eagle3: Shell, words: list[Any]) -> None:
    code, out, err = eagle3(*words, "--json")
    found = json.loads(out)

    assert (code, err) == (0, "")
    assert {name: one["num_prompts"] for name, one in found["modalities"].items()} == {
        "text": 1,
        "image": 3,
    }
    assert set(found["modalities"]["image"]["tokens_per_verify"]) == {"1", "2"}
    code, out, _ = eagle3(*words)
    assert code == 0
    assert "image prompts" in out
    assert "the same, text prompts" in out
    assert "taken for granted: the placeholder's embedding at images" in out


def test_an_answer_is_not_taken_for_granted(eagle3: Shell, words: list[Any]) -> None:
    answers = ("--image-embedding", "visual", "--deepstack-tap", "before")

    _, out, _ = eagle3(*words, *answers, "--json")

    assert json.loads(out)["assumed"] == []


def test_the_ways_to_feed_images_are_ranked(eagle3: Shell, words: list[Any]) -> None:
    code, out, err = eagle3(*words, "--sweep-images", "--json")
    found = json.loads(out)

    assert (code, err) == (0, "")
    assert found["num_prompts"] == 3
    assert len(found["ranking"]) == 4
    assert found["confidence"] is None


def test_images_with_a_target_of_text_are_an_error(
    eagle3: Shell, words: list[Any], tmp_path: Path
) -> None:
    words[words.index("--target") + 1] = write_random_target(tmp_path / "text")

    code, _, err = eagle3(*words)

    assert code == 1
    assert "prompts.jsonl:1: 1 image(s), but Qwen3ForCausalLM sees none" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep-taps", "--sweep-images"], "--sweep-taps and --sweep-images are two sweeps"),
        (["--sweep-images", "--save"], "--save keeps a score, --sweep-images makes none"),
        (["--sweep-images", "--tree", "3,4,8"], "--tree is part of a score, --sweep-images makes"),
    ],
)
def test_a_sweep_is_one_and_no_score(eagle3: Shell, flags: list[str], message: str) -> None:
    code, out, err = eagle3("score", "DRAFT", "--target", "T", *flags)

    assert (code, out) == (2, "")
    assert message in err


def test_a_sweep_ends_with_the_command_that_writes_its_answer_down(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_image_sweep(SWEPT, "DRAFT", "TARGET")

    out = " ".join(capsys.readouterr().out.split())
    assert "best: visual, after, confidence 90 %, by 0.2500 nats" in out
    assert "the draft says placeholder, unknown" in out
    assert "--image-embedding visual --deepstack-tap after" in out


def test_one_modality_is_not_shown_twice(capsys: pytest.CaptureFixture[str]) -> None:
    show_score(result(prompt((1, 0, 2))), "DRAFT", "TARGET", saved=False)

    assert "prompts" not in capsys.readouterr().out.replace("on 1 prompts", "")
