"""Reading a checkpoint: every problem by its words, every ambiguity with the answer to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED, Settle
from eagle3_plugin.draft.read import AMBIGUITIES, examine, read_draft
from eagle3_plugin.draft.sidecar import new_sidecar
from eagle3_plugin.errors import AmbiguousError, DraftError, UsageError
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config, edit_config, read, write_random
from tests.stored import edit_tensors, load_tensors, save_tensors, set_offsets

TAP_IDS = "eagle_aux_hidden_state_layer_ids"
TAPS_FLAG = "Give the boundaries that the draft was trained on with --taps."
RESIDUAL_FLAG = "Settle it with --residual raw (false) or --residual normed (true)."
FEEDBACK_FLAG = (
    "Settle it with --feedback prenorm or --feedback postnorm; `eagle3 score` with each tells "
    "which."
)
MISFIT = "The checkpoint is incomplete, or config.json is of another draft."
EXTRA = (
    "If the draft was trained with it, this kind of draft is not supported; if it was not, remove "
    "the tensor."
)
OFFSETS = "Save d2t as int64 offsets: target id minus draft id."
STALE = "Delete eagle3.json, or convert the draft again."
FULL = {"draft_vocab_size": 512, "has_vocab_map": False}


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint.open(resolve(str(folder)))


def problems(folder: Path, settle: Settle = NOTHING_SETTLED) -> list[tuple[str, str, str | None]]:
    """What is wrong, in the order of the report; read_draft must then raise it all."""
    found = examine(checkpoint(folder), settle).problems
    if found:
        with pytest.raises(DraftError) as caught:
            read_draft(checkpoint(folder), settle)
        assert caught.value.problems == found
    return [(p.id, p.message, p.hint) for p in found]


def notes(folder: Path) -> list[tuple[str, str]]:
    draft = read(folder)
    return [(n.id, n.message) for n in draft.notes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound draft as SpecForge writes it."""
    return write_random(tmp_path / "draft", draft_config())


# What a sound draft says


def test_a_sound_draft_reads_without_a_problem_or_a_note(folder: Path) -> None:
    draft = read(folder)

    assert draft.config == draft_config()
    assert draft.dialect == "sglang"
    assert draft.evidence == ("architectures is LlamaForCausalLMEagle3",)
    assert draft.notes == ()
    assert draft.names["layers.0.mlp.up_proj.weight"] == "midlayer.mlp.up_proj.weight"


def test_the_vocabulary_map_holds_absolute_target_ids(folder: Path) -> None:
    set_offsets(folder, [0] * 64 + [384] * 64)

    vocab_map = read(folder).vocab_map

    assert vocab_map is not None
    assert vocab_map.tolist() == [*range(64), *range(448, 512)]


@pytest.mark.parametrize("dtype", ["I64", "I32"])
def test_offsets_may_be_of_any_integer_type(folder: Path, dtype: str) -> None:
    set_offsets(folder, [384] * 128, dtype)

    vocab_map = read(folder).vocab_map

    assert vocab_map is not None
    assert (vocab_map[0], vocab_map.dtype) == (384, np.dtype(np.int64))


@pytest.mark.parametrize(
    "name", ["hidden_size", "intermediate_size", "head_dim", "num_key_value_heads"]
)
def test_a_size_that_a_tensor_tells_may_be_absent(folder: Path, name: str) -> None:
    edit_config(folder, **{name: None})

    assert read(folder).config == draft_config()


def test_the_draft_vocabulary_is_read_off_the_head(folder: Path) -> None:
    edit_config(folder, draft_vocab_size=None)

    assert read(folder).config == draft_config()


def test_a_narrow_draft_without_target_hidden_size_is_read_off_the_fc(tmp_path: Path) -> None:
    config = draft_config(target_hidden_size=80, embedding="own")
    folder = write_random(tmp_path / "draft", config)
    edit_config(folder, target_hidden_size=None)

    assert read(folder).config == config


def test_tensors_of_training_are_passed_over(folder: Path) -> None:
    edit_tensors(
        folder,
        verifier_norm__weight=("BF16", (64,)),
        verifier_lm_head__weight=("BF16", (128, 64)),
        midlayer__self_attn__rotary_emb__inv_freq=("F32", (16,)),
    )

    assert read(folder).config == draft_config()


# Every problem


def test_a_target_is_not_a_draft(folder: Path) -> None:
    edit_tensors(folder, drop=("fc.weight",))

    assert problems(folder) == [
        (
            "not-eagle3",
            "no fc.weight among 14 tensors: this is not an EAGLE-3 draft",
            "Give the draft's folder, not the target's.",
        )
    ]
    assert problems(folder, Settle(dialect="sglang")) == problems(folder)


def test_a_draft_of_eagle_2_is_named_so(folder: Path) -> None:
    shape = ("BF16", (64, 64))
    edit_tensors(folder, **{"midlayer__self_attn__q_proj__weight": shape})

    assert problems(folder) == [
        (
            "not-eagle3",
            "attention reads 64 values, the hidden state alone: this is an EAGLE-1 or EAGLE-2 "
            "draft; EAGLE-3 reads 128, embedding and hidden state",
            "Only EAGLE-3 drafts are supported.",
        )
    ]


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        (["GemmaDraft"], "architectures is 'GemmaDraft', which no known dialect writes"),
        (None, "config.json names no architecture, which every known dialect does"),
    ],
)
def test_an_unknown_architecture_asks_for_the_dialect(
    folder: Path, architectures: list[str] | None, expected: str
) -> None:
    edit_config(folder, architectures=architectures)

    assert problems(folder) == [
        (
            "dialect-unknown",
            expected,
            "Say which one it is with --dialect: speculators, universal, angelslim, modelopt, mnn, "
            "eagle, vllm, sglang.",
        )
    ]
    assert read_draft(checkpoint(folder), Settle(dialect="sglang")).config == draft_config()


def test_a_dialect_that_does_not_exist_is_wrong_use(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_draft(checkpoint(folder), Settle(dialect="medusa"))

    assert caught.value.message == (
        "unknown dialect 'medusa'; known: speculators, universal, angelslim, modelopt, mnn, eagle, "
        "vllm, sglang"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("num_attention_heads", "a positive integer"),
        ("vocab_size", "a positive integer"),
        ("max_position_embeddings", "a positive integer"),
        ("rms_norm_eps", "a positive number"),
    ],
)
def test_a_field_that_no_tensor_tells_must_be_there(
    folder: Path, name: str, expected: str
) -> None:
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


def test_a_missing_tensor_is_named_with_its_shape(folder: Path) -> None:
    edit_tensors(folder, drop=("norm.weight", "midlayer.mlp.up_proj.weight"))

    assert problems(folder) == [
        ("tensor-missing", "layers.0.mlp.up_proj.weight [96, 64] is not in the checkpoint", MISFIT),
        ("tensor-missing", "norm.weight [64] is not in the checkpoint", MISFIT),
    ]


def test_an_extra_tensor_is_named_with_its_shape(folder: Path) -> None:
    edit_tensors(folder, medusa__weight=("BF16", (3, 4)))

    assert problems(folder) == [
        ("tensor-extra", "medusa.weight [3, 4] has no place in this draft", EXTRA)
    ]


def test_a_tensor_of_another_shape_is_named_with_both(folder: Path) -> None:
    edit_tensors(folder, norm__weight=("BF16", (65,)))

    assert problems(folder) == [("tensor-shape", "norm.weight is [65], expected [64]", MISFIT)]


def test_a_tensor_that_is_there_twice_is_a_problem(folder: Path) -> None:
    edit_tensors(folder, model__norm__weight=("BF16", (64,)))

    assert problems(folder) == [
        (
            "tensor-twice",
            "model.norm.weight and norm.weight are both norm.weight",
            "Remove one of the two tensors.",
        )
    ]


@pytest.mark.parametrize(("stated", "count"), [(2, 1), (36, 1), (10**9, 1)])
def test_more_layers_than_the_file_has_are_refused(folder: Path, stated: int, count: int) -> None:
    edit_config(folder, num_hidden_layers=stated)

    assert problems(folder) == [
        (
            "num-layers",
            f"the config says {stated} decoder layers, the file has {count}",
            f"Set num_hidden_layers to {count}, or get the whole file.",
        )
    ]


def test_fewer_layers_than_the_file_has_are_refused(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(num_layers=2), "vllm")
    edit_config(folder, num_hidden_layers=1)

    assert [(id, message) for id, message, _ in problems(folder)] == [
        ("num-layers", "the config says 1 decoder layers, the file has 2")
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


# Rope


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"rope_parameters": {"rope_theta": 5e6}},
            (
                "rope-conflict",
                "config.json gives rope_theta twice, differently: 1000000.0 and 5000000.0",
                "Leave one of the spellings.",
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "longrope"}},
            (
                "rope-type",
                "rope type 'longrope' is not supported; known: default, linear, yarn, llama3",
                None,
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32}},
            (
                "rope-parameter",
                "config.json: rope_scaling.beta_fast = 32 has no meaning for a rope of type "
                "'linear'",
                "Remove the key.",
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            (
                "rope",
                "config.json: rope type 'yarn': unknown parameters [], missing "
                "['original_max_position_embeddings']",
                None,
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "default", "mrope_section": [8, 8]}},
            (
                "rope",
                "config.json: rope_scaling.mrope_section is [8, 8]; expected three positive "
                "integers (time, height, width)",
                None,
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "default", "mrope_interleaved": True}},
            ("rope", "config.json: mrope_interleaved without mrope_section", None),
        ),
        (
            {"rope_scaling": {"mrope_section": [8, 8, 8], "mrope_interleaved": True}},
            (
                "config-inconsistent",
                "mrope_section [8, 8, 8] sums to 24, not to half of head_dim 32",
                None,
            ),
        ),
    ],
)
def test_a_rope_that_cannot_be_right_is_named(
    folder: Path, changes: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    edit_config(folder, **changes)

    assert expected in problems(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": None, "rope_theta": None, "rope_parameters": {"rope_theta": 1e6}},
        {"rope_scaling": {"rope_type": "default", "factor": 1.0}},
        {"rope_scaling": {"type": "default", "partial_rotary_factor": 1.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000}},
    ],
)
def test_every_spelling_of_a_plain_rope_means_the_same(
    folder: Path, changes: dict[str, Any]
) -> None:
    edit_config(folder, **changes)

    assert read(folder).config == draft_config()


# Vocabulary map


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([0] * 127, ("d2t-length", "d2t has shape [127], expected [128]", None)),
        (
            [400] * 128,
            (
                "d2t-range",
                "d2t maps 16 draft ids outside the vocabulary of 512; the first is draft id 112: "
                "400 + 112 = 512",
                "d2t must hold offsets: target id minus draft id.",
            ),
        ),
        (
            list(range(384, 512)),
            (
                "d2t-absolute",
                "d2t maps 64 draft ids outside the vocabulary of 512; the first is draft id 64: "
                "448 + 64 = 512; the values look like absolute target ids",
                "d2t must hold offsets: target id minus draft id.",
            ),
        ),
        (
            list(range(128)),
            (
                "d2t-absolute",
                "d2t rises at every step ([0, 1, 2, 3]…): absolute target ids, not offsets; read "
                "as offsets it would map to [0, 2, 4, 6]…",
                "d2t must hold offsets: target id minus draft id.",
            ),
        ),
        (
            [1] + [0] * 127,
            (
                "d2t-duplicates",
                "d2t maps 1 draft ids to a target id that another one has",
                "d2t must hold offsets: target id minus draft id, each target id once.",
            ),
        ),
    ],
)
def test_a_vocabulary_map_that_cannot_be_right_is_named(
    folder: Path, offsets: list[int], expected: tuple[str, str, str]
) -> None:
    set_offsets(folder, offsets)

    assert problems(folder) == [expected]


@pytest.mark.parametrize("dtype", ["F32", "BOOL"])
def test_a_vocabulary_map_that_is_no_integer_is_refused(folder: Path, dtype: str) -> None:
    edit_tensors(folder, d2t=(dtype, (128,)))

    assert problems(folder) == [
        ("d2t-dtype", f"d2t is stored as {dtype}; expected I64 (offsets)", OFFSETS)
    ]


@pytest.mark.parametrize("shape", [(), (1,), (64, 2), (128, 1)])
def test_a_vocabulary_map_of_another_shape_is_refused(
    folder: Path, shape: tuple[int, ...]
) -> None:
    edit_tensors(folder, d2t=("I64", shape))

    assert problems(folder) == [
        ("d2t-length", f"d2t has shape {list(shape)}, expected [128]", None)
    ]


def test_offsets_that_rise_at_every_step_are_believed_when_t2d_says_the_same(folder: Path) -> None:
    table = load_tensors(folder)
    offsets = np.arange(128, dtype="<i8")
    mask = np.zeros(512, dtype=np.bool_)
    mask[0:256:2] = True
    table["d2t"] = ("I64", (128,), offsets.tobytes())
    table["t2d"] = ("BOOL", (512,), mask.tobytes())
    save_tensors(folder, table)

    vocab_map = read(folder).vocab_map

    assert vocab_map is not None
    assert vocab_map.tolist() == list(range(0, 256, 2))


# What is worth telling, but stops nothing


def test_a_mask_that_disagrees_is_told(folder: Path) -> None:
    set_offsets(folder, [0] * 128)
    edit_tensors(folder, t2d=("BOOL", (512,)))

    assert notes(folder) == [
        ("t2d-disagrees", "t2d and d2t disagree about 128 target ids (first: 0)")
    ]


@pytest.mark.parametrize(("dtype", "shape"), [("BOOL", (511,)), ("F32", (512,)), ("BOOL", ())])
def test_a_mask_that_is_none_is_told(folder: Path, dtype: str, shape: tuple[int, ...]) -> None:
    edit_tensors(folder, t2d=(dtype, shape))

    assert notes(folder) == [
        ("t2d-length", f"t2d is {dtype} {list(shape)}, expected BOOL [512]; it is not used")
    ]


def test_a_tie_flag_beside_an_own_head_is_told(folder: Path) -> None:
    edit_config(folder, tie_word_embeddings=True)

    assert notes(folder) == [
        ("tie-flag", "tie_word_embeddings is true, yet the file has an lm_head of its own")
    ]
    assert read(folder).config == draft_config()


def test_an_absent_theta_is_told(folder: Path) -> None:
    edit_config(folder, rope_theta=None)

    assert notes(folder) == [
        (
            "rope-theta-absent",
            "config.json names no rope_theta; trainers and engines then use 10000",
        )
    ]
    assert read(folder).config == draft_config(rope={"theta": 10000.0})


def test_an_absent_interleaving_is_told(folder: Path) -> None:
    edit_config(folder, rope_scaling={"type": "mrope", "mrope_section": [8, 4, 4]})

    assert notes(folder) == [
        (
            "mrope-interleaved-absent",
            "mrope_section [8, 4, 4] without mrope_interleaved; read as false (blocks)",
        )
    ]


def test_norms_that_the_model_type_hides_are_told(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(decoder="qwen3"))
    edit_config(folder, model_type="llama")

    assert notes(folder) == [
        (
            "decoder-norms",
            "the file has q_norm and k_norm, but model_type is 'llama'; read as qwen3",
        )
    ]


def test_a_model_type_of_the_target_is_told(folder: Path) -> None:
    edit_config(folder, model_type="qwen3")

    assert notes(folder) == [
        (
            "decoder-type",
            "model_type is 'qwen3', but the file has no q_norm and architectures is "
            "'LlamaForCausalLMEagle3'; read as llama",
        )
    ]


def test_a_qwen3_draft_without_its_norms_lacks_tensors(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(decoder="qwen3"))
    norms = ("midlayer.self_attn.q_norm.weight", "midlayer.self_attn.k_norm.weight")
    edit_tensors(folder, drop=norms)

    assert [message for _, message, _ in problems(folder)] == [
        "layers.0.self_attn.k_norm.weight [32] is not in the checkpoint",
        "layers.0.self_attn.q_norm.weight [32] is not in the checkpoint",
    ]


def test_biases_that_the_config_denies_are_told(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(attention_bias=True))
    edit_config(folder, attention_bias=False)

    assert notes(folder) == [
        ("bias-flag", "the file has attention biases, but config.json says attention_bias: false")
    ]
    assert read(folder).config == draft_config(attention_bias=True)


def test_a_norm_that_no_flag_names_is_told(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(fc_input_norm="joint"))
    edit_config(folder, norm_before_fc=None)

    assert notes(folder) == [
        (
            "norm-flag-absent",
            "input_norm.weight is in the file, but config.json has no norm_before_fc; read as "
            "true, where an engine would drop the tensor",
        )
    ]


def test_weights_of_two_dtypes_are_told(folder: Path) -> None:
    edit_tensors(folder, norm__weight=("F32", (64,)))

    assert notes(folder) == [("tensor-dtype-mixed", "the weights mix BF16, F32")]


def test_a_head_trained_without_its_norm_is_told(folder: Path) -> None:
    edit_config(folder, norm_output=False)

    assert notes(folder) == [
        (
            "norm-output-false",
            "norm_output is false: SpecForge before 2026-09-15 then trained the head without the "
            "final norm; read as every engine does, with the norm",
        )
    ]


def test_angelslims_unknown_taps_are_told(folder: Path) -> None:
    edit_config(folder, modal_type="LLM")

    assert notes(folder) == [
        (
            "taps-angelslim",
            "AngelSlim's config names no taps; read as the default. One version of its trainer "
            "took the high tap one layer later (n - 2 instead of n - 3)",
        )
    ]


# Ambiguities, and the answer to each


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
    config = json.loads((write_random(tmp_path / "flat", draft_config()) / "config.json").read_text())
    config |= {"eagle_config": {"use_aux_hidden_state": True}, TAP_IDS: [4, 18, 33]}
    (folder / "config.json").write_text(json.dumps(config))
    edit_tensors(folder, drop=("t2d",))

    draft = read(folder)

    assert (draft.dialect, draft.config.taps) == ("modelopt", (4, 18, 33))


def test_a_dialect_that_is_named_still_reads_the_only_list_there_is(folder: Path) -> None:
    edit_config(folder, **{TAP_IDS: [4, 18, 33]})

    assert settled(folder, dialect="universal").taps == (4, 18, 33)


def test_ids_in_a_file_named_like_an_ordinary_model_are_not_dropped(folder: Path) -> None:
    edit_config(
        folder, architectures=["LlamaForCausalLM"], eagle_config={TAP_IDS: [3, 17, 32]}
    )

    draft = read(folder)

    assert (draft.dialect, draft.config.taps) == ("eagle", (4, 18, 33))


def test_every_ambiguity_names_a_flag() -> None:
    assert frozenset(
        {
            "dialect-unknown",
            "taps-ambiguous",
            "taps-conflict",
            "residual-ambiguous",
            "norm-output-ambiguous",
        }
    ) == AMBIGUITIES


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


# eagle3.json


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

    assert problems(with_sidecar) == [
        ("sidecar", "eagle3.json has schema 2, expected 1", STALE)
    ]


def test_eagle3_json_without_a_draft_is_refused(with_sidecar: Path) -> None:
    change_sidecar(with_sidecar, draft=None)

    ((id, message, hint),) = problems(with_sidecar)

    assert (id, hint) == ("sidecar", STALE)
    assert message.startswith("eagle3.json does not describe a draft: ")


def test_eagle3_json_that_the_weights_contradict_is_refused(with_sidecar: Path) -> None:
    config = draft_config(taps=(4, 18, 33), num_layers=10**9)
    change_sidecar(with_sidecar, draft=config.model_dump(mode="json"))

    assert [id for id, _, _ in problems(with_sidecar)] == ["num-layers"]
