"""Fields of config.json that are absent, wrong or at odds, and what is not supported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import examine, read_draft
from tests.drafts import draft_config, edit_config, write_random
from tests.reading import TAP_IDS, checkpoint, problems
from tests.stored import edit_tensors

FULL = {"draft_vocab_size": 512, "has_vocab_map": False}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("num_attention_heads", "a positive integer"),
        ("vocab_size", "a positive integer"),
        ("max_position_embeddings", "a positive integer"),
        ("rms_norm_eps", "a positive number"),
    ],
)
def test_a_field_that_no_tensor_tells_must_be_there(folder: Path, name: str, expected: str) -> None:
    edit_config(folder, **{name: None})

    assert problems(folder) == [
        ("config-field-missing", f"config.json: {name} is absent; expected {expected}", None)
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_size", "64", "hidden_size is '64'; expected a positive integer"),
        ("hidden_size", 64.0, "hidden_size is 64.0; expected a positive integer"),
        ("num_attention_heads", True, "num_attention_heads is True; expected a positive integer"),
        ("vocab_size", 2**31, "vocab_size is 2147483648; expected a positive integer"),
        ("num_hidden_layers", -1, "num_hidden_layers is -1; expected a positive integer"),
        ("rms_norm_eps", 0, "rms_norm_eps is 0; expected a positive number"),
        ("rms_norm_eps", "1e-6", "rms_norm_eps is '1e-6'; expected a positive number"),
        ("rope_theta", -1, "rope_theta is -1; expected a positive number"),
        ("model_type", 3, "model_type is 3; expected a string"),
        ("norm_output", "yes", "norm_output is 'yes'; expected true or false"),
        ("eagle_config", [1, 2], "eagle_config is [1, 2]; expected an object {…}"),
        ("num_aux_hidden_states", "3", "num_aux_hidden_states is '3'; expected a positive integer"),
        (TAP_IDS, [2, -1], f"{TAP_IDS} is [2, -1]; expected a list of integers"),
        (TAP_IDS, "2,18,33", f"{TAP_IDS} is '2,18,33'; expected a list of integers"),
        (
            "eagle_config",
            {TAP_IDS: [1, 2.5]},
            f"eagle_config.{TAP_IDS} is [1, 2.5]; expected a list of integers",
        ),
    ],
)
def test_a_field_of_the_wrong_type_is_named(
    folder: Path, name: str, value: Any, expected: str
) -> None:
    edit_config(folder, **{name: value})

    assert ("config-field-type", f"config.json: {expected}", None) in problems(folder)


def test_a_long_value_is_cut_in_the_message(folder: Path) -> None:
    edit_config(folder, hidden_size="6" * 1000)

    (problem,) = examine(checkpoint(folder)).problems

    assert problem.message == (
        f"config.json: hidden_size is '{'6' * 56}...; expected a positive integer"
    )


def test_all_problems_are_told_at_once_and_each_once(folder: Path) -> None:
    edit_config(folder, vocab_size=None, rms_norm_eps="small", eagle_config=3)

    assert [message for _, message, _ in problems(folder)] == [
        "config.json: vocab_size is absent; expected a positive integer",
        "config.json: rms_norm_eps is 'small'; expected a positive number",
        "config.json: eagle_config is 3; expected an object {…}",
    ]


def test_a_config_that_contradicts_itself_is_refused(folder: Path) -> None:
    edit_config(folder, num_key_value_heads=3, head_dim=33)

    assert problems(folder) == [
        (
            "config-inconsistent",
            "2 heads do not divide by 3 kv heads; head_dim 33 is odd",
            None,
        )
    ]


def test_a_reduced_vocabulary_needs_its_map(folder: Path) -> None:
    edit_tensors(folder, drop=("d2t",))

    assert problems(folder) == [
        ("config-inconsistent", "a reduced vocabulary without a vocabulary map", None)
    ]


def test_a_quantised_draft_is_refused(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "fp8"})
    edit_tensors(folder, lm_head__weight=("I8", (128, 64)))

    assert problems(folder) == [
        (
            "tensor-dtype",
            "1 weights are stored as I8 (first: lm_head.weight); expected BF16, F16, F32 or F64",
            "A quantised draft cannot be read: use the unquantised checkpoint.",
        ),
        (
            "unsupported",
            "config.json: quantization_config is {'quant_method': 'fp8'}: a quantised draft is not "
            "supported",
            None,
        ),
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mlp_bias", True, "mlp_bias is True: biases in the MLP is not supported (only False is)"),
        (
            "hidden_act",
            "gelu",
            "hidden_act is 'gelu': an activation other than silu is not supported (only 'silu' is)",
        ),
        ("logit_scale", 0.5, "logit_scale is 0.5: a scaled head is not supported (only 1.0 is)"),
        (
            "use_sliding_window",
            True,
            "use_sliding_window is True: sliding-window attention is not supported (only False is)",
        ),
        (
            "parallel_drafting",
            True,
            "parallel_drafting is True: parallel drafting (P-EAGLE) is not supported (only False "
            "is)",
        ),
        (
            "partial_rotary_factor",
            0.5,
            "partial_rotary_factor is 0.5: a partial rope is not supported (only 1.0 is)",
        ),
        (
            "layer_types",
            ["sliding_attention"],
            "layer_types is ['sliding_attention']: only full_attention is supported",
        ),
        ("layer_types", 5, "layer_types is 5: only full_attention is supported"),
        (
            "eagle_config",
            {"use_aux_hidden_state": False},
            "eagle_config.use_aux_hidden_state is false; an EAGLE-3 draft uses them",
        ),
    ],
)
def test_what_no_reader_here_knows_is_refused(
    folder: Path, name: str, value: Any, expected: str
) -> None:
    edit_config(folder, **{name: value})

    assert problems(folder) == [("unsupported", f"config.json: {expected}", None)]


def test_another_kind_of_speculator_is_refused(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(), "speculators")
    edit_config(folder, speculators_model_type="peagle")

    assert problems(folder) == [
        (
            "unsupported",
            "config.json: speculators_model_type is 'peagle': another kind of speculator than "
            "eagle3 is not supported (only 'eagle3' is)",
            None,
        )
    ]


def test_an_fc_that_fits_no_number_of_taps_is_refused(folder: Path) -> None:
    edit_config(folder, num_aux_hidden_states=4)

    assert problems(folder) == [
        (
            "fc-width",
            "fc.weight takes 192 values, but 4 taps of a target with hidden size 64 make 256",
            "The list of taps or target_hidden_size in config.json is wrong, or the weights are of "
            "another draft.",
        ),
    ]


def test_four_taps_without_a_list_are_refused(tmp_path: Path) -> None:
    config = draft_config(taps=(1, 2, 3, 4), num_taps=4)
    folder = write_random(tmp_path / "draft", config)
    edit_config(folder, eagle_config=None)

    assert problems(folder) == [
        (
            "taps-unknown",
            "fc takes 4 taps of 64 values, but no list says which; the default has three",
            "Give the boundaries that the draft was trained on with --taps; if the target has "
            "another hidden size, config.json lacks target_hidden_size.",
        )
    ]
    assert read_draft(checkpoint(folder), Settle(taps=(1, 2, 3, 4))).config == config


def test_a_reduced_head_that_is_missing_is_not_taken_from_the_target(folder: Path) -> None:
    edit_tensors(folder, drop=("lm_head.weight",))

    assert problems(folder)[0] == (
        "lm-head-missing",
        "there is no lm_head.weight, and the target's has 512 rows, not 128",
        "The checkpoint is incomplete: an engine would take the target's head, in silence.",
    )


def test_a_head_tied_to_the_drafts_own_embedding_is_refused(tmp_path: Path) -> None:
    config = draft_config(**FULL, embedding="own", lm_head="target")
    folder = write_random(tmp_path / "draft", config)
    edit_config(folder, tie_word_embeddings=True)

    assert problems(folder) == [
        (
            "unsupported",
            "the lm_head is tied to the draft's own embedding; expected an lm_head.weight, or "
            "neither of the two (both then come from the target)",
            None,
        )
    ]


@pytest.mark.parametrize(
    ("kind", "tensor", "flag"),
    [("joint", "input_norm.weight", "norm_before_fc"), ("per_tap", "fc_norm.0.weight", "fc_norm")],
)
def test_a_norm_that_the_config_switches_off_is_a_conflict(
    tmp_path: Path, kind: str, tensor: str, flag: str
) -> None:
    folder = write_random(tmp_path / "draft", draft_config(fc_input_norm=kind))
    edit_config(folder, **{flag: False})

    assert problems(folder) == [
        (
            "norm-conflict",
            f"{tensor} is in the file, but config.json says {flag}: false",
            f"Remove the tensor, or set {flag}: true.",
        )
    ]


def test_two_norms_before_the_fc_are_a_conflict(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(fc_input_norm="joint"))
    edit_config(folder, fc_norm=True)

    assert problems(folder)[0] == (
        "norm-conflict",
        "the draft has both norm_before_fc (input_norm) and fc_norm; expected at most one",
        None,
    )
