"""Checkpoints that can be read in two ways, and the answer to each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import AMBIGUITIES, read_draft
from eagle3_plugin.errors import AmbiguousError, DraftError
from tests.drafts import draft_config, edit_config, read, write_random
from tests.reading import TAP_IDS, checkpoint
from tests.stored import edit_tensors

TAPS_FLAG = "Give the boundaries that the draft was trained on with --taps."
RESIDUAL_FLAG = "Settle it with --residual raw (false) or --residual normed (true)."
FEEDBACK_FLAG = (
    "Settle it with --feedback prenorm or --feedback postnorm; `eagle3 score` with each tells "
    "which."
)


def ambiguity(folder: Path) -> tuple[str, str, str | None]:
    with pytest.raises(AmbiguousError) as caught:
        read_draft(checkpoint(folder))
    (problem,) = caught.value.problems
    return problem.id, problem.message, problem.hint


def settled(folder: Path, **answers: Any) -> DraftConfig:
    return read_draft(checkpoint(folder), Settle(**answers)).config


def test_norm_before_residual_absent_in_a_speculators_file_is_ambiguous(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(), "speculators")
    edit_config(folder, norm_before_residual=None)

    assert ambiguity(folder) == (
        "residual-ambiguous",
        "norm_before_residual is absent: the speculators library then means false, vLLM true",
        RESIDUAL_FLAG,
    )
    assert settled(folder, residual="raw") == draft_config()
    assert settled(folder, residual="normed") == draft_config(residual="normed")


def test_norm_before_residual_given_twice_is_ambiguous(folder: Path) -> None:
    edit_config(folder, norm_before_residual=True, eagle_config={"norm_before_residual": False})

    assert ambiguity(folder) == (
        "residual-ambiguous",
        "norm_before_residual is true at the top level and false in eagle_config",
        RESIDUAL_FLAG,
    )
    assert settled(folder, residual="normed") == draft_config(residual="normed")


def test_norm_output_of_specforge_is_ambiguous(folder: Path) -> None:
    edit_config(folder, norm_output=True)

    assert ambiguity(folder) == (
        "norm-output-ambiguous",
        "norm_output is true in a SpecForge checkpoint: until 2026-09-15 SpecForge fed the state "
        "before the norm back all the same, since then (and in both engines) the one after it",
        FEEDBACK_FLAG,
    )
    assert settled(folder, feedback="prenorm") == draft_config()
    assert settled(folder, feedback="postnorm") == draft_config(feedback="postnorm")


@pytest.mark.parametrize("dialect", ["vllm", "speculators"])
def test_norm_output_of_others_means_what_it_says(tmp_path: Path, dialect: str) -> None:
    folder = write_random(tmp_path / "draft", draft_config(feedback="postnorm"), dialect)

    assert read(folder).config == draft_config(feedback="postnorm")


@pytest.mark.parametrize(
    ("answers", "taps"),
    [
        ({"ids": "output"}, (3, 19, 34)),
        ({"ids": "boundary"}, (2, 18, 33)),
        ({"taps": (2, 18, 32)}, (2, 18, 32)),
    ],
)
def test_boundaries_where_output_ids_belong_are_ambiguous(
    folder: Path, answers: dict[str, Any], taps: tuple[int, ...]
) -> None:
    edit_config(folder, eagle_config={TAP_IDS: [2, 18, 33]})

    assert ambiguity(folder)[0] == "taps-ambiguous"
    assert settled(folder, **answers) == draft_config(taps=taps)


@pytest.mark.parametrize("architecture", ["LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM"])
def test_output_ids_at_the_top_level_are_ambiguous(folder: Path, architecture: str) -> None:
    edit_config(folder, architectures=[architecture], **{TAP_IDS: [1, 17, 32]})

    assert ambiguity(folder)[0] == "taps-ambiguous"
    assert settled(folder, ids="output") == draft_config(taps=(2, 18, 33))
    assert settled(folder, ids="boundary") == draft_config(taps=(1, 17, 32))


def test_the_targets_depth_can_make_ids_plain(folder: Path) -> None:
    edit_config(folder, **{TAP_IDS: [1, 17, 32]})

    assert settled(folder, target_num_layers=48) == draft_config(taps=(1, 17, 32))


def test_lists_that_disagree_are_ambiguous(folder: Path) -> None:
    edit_config(folder, eagle_config={TAP_IDS: [1, 17, 32]}, **{TAP_IDS: [1, 17, 32]})

    assert ambiguity(folder)[0] == "taps-conflict"
    assert settled(folder, ids="output") == draft_config(taps=(2, 18, 33))
    assert settled(folder, ids="boundary") == draft_config(taps=(1, 17, 32))
    assert settled(folder, taps=(4, 5, 6)) == draft_config(taps=(4, 5, 6))


def test_angelslims_two_lists_that_disagree_are_ambiguous(folder: Path) -> None:
    edit_config(
        folder,
        eagle_config={TAP_IDS: [1, 17, 32]},
        aux_hidden_states_layer_ids=[1, 17, 33],
    )

    assert ambiguity(folder) == (
        "taps-conflict",
        "eagle_config has tap ids [1, 17, 32], aux_hidden_states_layer_ids has [1, 17, 33] (both "
        "output ids)",
        TAPS_FLAG,
    )
    assert settled(folder, taps=(2, 18, 34)) == draft_config(taps=(2, 18, 34))


def test_angelslims_own_ids_agree_with_boundaries_at_the_top_level(folder: Path) -> None:
    edit_config(folder, aux_hidden_states_layer_ids=[1, 17, 32], **{TAP_IDS: [2, 18, 33]})

    assert read(folder).config == draft_config(taps=(2, 18, 33))


def test_modelopts_boundaries_at_the_top_level_are_not_dropped(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(), "speculators")
    config = json.loads(
        (write_random(tmp_path / "flat", draft_config()) / "config.json").read_text()
    )
    config |= {"eagle_config": {"use_aux_hidden_state": True}, TAP_IDS: [4, 18, 33]}
    (folder / "config.json").write_text(json.dumps(config))
    edit_tensors(folder, drop=("t2d",))

    draft = read(folder)

    assert (draft.dialect, draft.config.taps) == ("modelopt", (4, 18, 33))


def test_a_dialect_that_is_named_still_reads_the_only_list_there_is(folder: Path) -> None:
    edit_config(folder, **{TAP_IDS: [4, 18, 33]})

    assert settled(folder, dialect="universal").taps == (4, 18, 33)


def test_ids_in_a_file_named_like_an_ordinary_model_are_not_dropped(folder: Path) -> None:
    edit_config(folder, architectures=["LlamaForCausalLM"], eagle_config={TAP_IDS: [3, 17, 32]})

    draft = read(folder)

    assert (draft.dialect, draft.config.taps) == ("eagle", (4, 18, 33))


def test_every_ambiguity_names_a_flag() -> None:
    assert (
        frozenset(
            {
                "dialect-unknown",
                "taps-ambiguous",
                "taps-conflict",
                "residual-ambiguous",
                "norm-output-ambiguous",
            }
        )
        == AMBIGUITIES
    )


def test_an_error_beside_an_ambiguity_is_not_called_ambiguous(folder: Path) -> None:
    edit_config(folder, norm_output=True, vocab_size=None)

    with pytest.raises(DraftError) as caught:
        read_draft(checkpoint(folder))

    assert not isinstance(caught.value, AmbiguousError)
    assert len(caught.value.problems) == 2


def test_the_message_lists_every_problem_and_the_hint_every_remedy(folder: Path) -> None:
    edit_config(folder, norm_output=True, eagle_config={TAP_IDS: [2, 18, 33]})

    with pytest.raises(AmbiguousError) as caught:
        read_draft(checkpoint(folder))

    lines = caught.value.message.split("\n")
    assert lines[0] == f"{folder}: 2 problem(s)"
    assert [line.split("]")[0] for line in lines[1:]] == [
        "  [taps-ambiguous",
        "  [norm-output-ambiguous",
    ]
    assert caught.value.hint == (
        "Settle it with --ids output (SGLang, SpecForge) or --ids boundary (vLLM), or --taps.\n"
        + FEEDBACK_FLAG
    )
