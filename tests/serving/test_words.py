"""Our words and the user's: theirs are handed on as they are, and win."""

from __future__ import annotations

import json

import pytest

from eagle3_plugin.serving.words import (
    SPECULATION_FLAGS,
    Flag,
    Merged,
    flags_of,
    merge,
    setting,
    value_of,
)

OURS = ["--model-path", "T", "--port", "1", "--mem-fraction-static", "0.7", "--disable-x"]
CONFIG = {"method": "eagle3", "model": "D", "num_speculative_tokens": 3}
VLLM = ["--model", "T", "--speculative-config", json.dumps(CONFIG)]


def test_words_are_read_as_flags_with_their_values() -> None:
    assert flags_of(["--a", "1", "2", "--b=3", "--c", "--d", "-1", "-e"]) == (
        Flag("--a", ("1", "2")),
        Flag("--b", ("3",)),
        Flag("--c"),
        Flag("--d", ("-1",)),
        Flag("-e"),
    )


def test_without_words_ours_stand() -> None:
    assert merge(OURS, []) == Merged(tuple(OURS), (), True)


@pytest.mark.parametrize(
    ("theirs", "note"),
    [
        (["--port", "2"], "--port 2 after -- replaces our --port 1"),
        (["--port=2"], "--port 2 after -- replaces our --port 1"),
        (
            ["--mem_fraction_static", "0.5"],
            "--mem_fraction_static 0.5 after -- replaces our --mem-fraction-static 0.7",
        ),
        (
            ["--mem-fraction", "0.5"],
            "--mem-fraction 0.5 after -- replaces our --mem-fraction-static 0.7",
        ),
        (["--model", "U"], "--model U after -- replaces our --model-path T"),
    ],
)
def test_a_flag_of_theirs_replaces_ours_however_it_is_spelled(theirs: list[str], note: str) -> None:
    replaced = note.rpartition("our ")[2].split()
    at = OURS.index(replaced[0])
    kept = (*OURS[:at], *OURS[at + 2 :])
    assert merge(OURS, theirs) == Merged((*kept, *theirs), (note,), True)


def test_words_that_set_nothing_of_ours_are_added_untouched() -> None:
    theirs = ["--json", '{"a": [1, 2]}', "--flag", "stray", "--x=--y"]
    assert merge(OURS, theirs) == Merged((*OURS, *theirs), (), True)


@pytest.mark.parametrize(
    "theirs",
    [
        ["--speculative-algorithm", "NGRAM"],
        ["--speculative-draft-model", "E"],
        ["-sc", "{}"],
        ["-sc.model", "E"],
        ["--spec-method", "mtp"],
    ],
)
def test_who_names_another_draft_does_not_get_the_proof_of_ours(theirs: list[str]) -> None:
    assert not merge(VLLM, theirs).keeps_draft


def test_one_key_of_vllms_config_replaces_ours_alone() -> None:
    merged = merge(VLLM, ["-sc.num_speculative_tokens", "5"])
    assert merged == Merged(
        ("--model", "T", "-sc.method", "eagle3", "-sc.model", "D",
         "-sc.num_speculative_tokens", "5"),
        ("-sc.num_speculative_tokens 5 after -- replaces our "
         "--speculative-config.num_speculative_tokens 3",),
        True,
    )  # fmt: skip


def test_vllms_short_flag_leaves_its_key_out_of_the_config() -> None:
    merged = merge(VLLM, ["--spec-tokens", "5"])
    assert merged.words == (
        "--model", "T", "--speculative-config.method", "eagle3", "--speculative-config.model", "D",
        "--spec-tokens", "5",
    )  # fmt: skip


def test_a_whole_config_of_theirs_takes_the_place_of_ours() -> None:
    merged = merge(VLLM, ["--speculative-config", "{}"])
    assert merged.words == ("--model", "T", "--speculative-config", "{}")


def test_a_key_is_not_in_a_note() -> None:
    (note,) = merge(["--api-key", "ours"], ["--api-key", "theirs"]).notes
    assert note == "--api-key *** after -- replaces our --api-key ***"


def test_the_value_of_a_flag_is_its_last() -> None:
    assert value_of(["--port", "1", "--port=2"], "--port") == "2"
    assert value_of(["--tp", "2"], "--tp-size") == "2"
    assert value_of(["--port"], "--port") is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--speculative-num-steps 3", ("--speculative-num-steps",)),
        ("--speculative_num_steps=3", ("--speculative_num_steps",)),
        ("--speculative-eagle-topk 1 --tp 2", ("--speculative-eagle-topk",)),
        ("--speculative-num-draft 4", ("--speculative-num-draft",)),
        ("--speculative-algo NGRAM", ("--speculative-algo",)),
        ("--speculative-draft-model E", ("--speculative-draft-model",)),
        ("--speculative-adaptive", ("--speculative-adaptive",)),
        ("-sc {}", ("-sc",)),
        ("-sc.num_speculative_tokens 3", ("-sc.num_speculative_tokens",)),
        ("--speculative-config.quantization x", ("--speculative-config.quantization",)),
        ("--spec-tokens 3 --spec-method mtp", ("--spec-tokens", "--spec-method")),
        ("--speculative-attention-mode decode --speculative-draft-model-quantization fp8", ()),
        ("--port 1 --max-model-len 512", ()),
    ],
)
def test_flags_that_choose_the_draft_or_its_settings_are_told_from_others(
    words: str, found: tuple[str, ...]
) -> None:
    assert setting(words.split(), SPECULATION_FLAGS) == found
