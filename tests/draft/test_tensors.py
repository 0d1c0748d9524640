"""The canonical tensor table and the vocabulary map; the tables are written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eagle3_plugin.draft.dialects.names import (
    canonical_name,
    canonical_names,
    layers_name,
    midlayer_name,
)
from eagle3_plugin.draft.tensors import (
    Shape,
    expected_tensors,
    num_parameters,
    offsets_from_vocab_map,
    target_mask,
    vocab_map_from_offsets,
    vocab_map_problems,
)
from tests.drafts import draft_config

PLAIN: dict[str, Shape] = {
    "fc.weight": (64, 192),
    "layers.0.hidden_norm.weight": (64,),
    "layers.0.input_layernorm.weight": (64,),
    "layers.0.self_attn.q_proj.weight": (64, 128),
    "layers.0.self_attn.k_proj.weight": (32, 128),
    "layers.0.self_attn.v_proj.weight": (32, 128),
    "layers.0.self_attn.o_proj.weight": (64, 64),
    "layers.0.post_attention_layernorm.weight": (64,),
    "layers.0.mlp.gate_proj.weight": (96, 64),
    "layers.0.mlp.up_proj.weight": (96, 64),
    "layers.0.mlp.down_proj.weight": (64, 96),
    "norm.weight": (64,),
    "lm_head.weight": (128, 64),
}


def test_the_plain_draft_has_these_tensors_and_no_others() -> None:
    assert expected_tensors(draft_config()) == PLAIN


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"embedding": "own"}, {"embed_tokens.weight": (512, 64)}),
        ({"fc_bias": True}, {"fc.bias": (64,)}),
        ({"fc_input_norm": "joint"}, {"input_norm.weight": (192,)}),
        (
            {"fc_input_norm": "per_tap"},
            {
                "fc_norm.0.weight": (64,),
                "fc_norm.1.weight": (64,),
                "fc_norm.2.weight": (64,),
            },
        ),
        (
            {"decoder": "qwen3"},
            {
                "layers.0.self_attn.q_norm.weight": (32,),
                "layers.0.self_attn.k_norm.weight": (32,),
            },
        ),
        (
            {"attention_bias": True},
            {
                "layers.0.self_attn.q_proj.bias": (64,),
                "layers.0.self_attn.k_proj.bias": (32,),
                "layers.0.self_attn.v_proj.bias": (32,),
            },
        ),
        ({"attention_output_bias": True}, {"layers.0.self_attn.o_proj.bias": (64,)}),
        (
            {"num_layers": 2},
            {
                "layers.1.input_layernorm.weight": (64,),
                "layers.1.self_attn.q_proj.weight": (64, 64),
                "layers.1.self_attn.k_proj.weight": (32, 64),
                "layers.1.self_attn.v_proj.weight": (32, 64),
                "layers.1.self_attn.o_proj.weight": (64, 64),
                "layers.1.post_attention_layernorm.weight": (64,),
                "layers.1.mlp.gate_proj.weight": (96, 64),
                "layers.1.mlp.up_proj.weight": (96, 64),
                "layers.1.mlp.down_proj.weight": (64, 96),
            },
        ),
    ],
)
def test_a_variant_adds_these_tensors(changes: dict[str, Any], more: dict[str, Shape]) -> None:
    assert expected_tensors(draft_config(**changes)) == PLAIN | more


def test_a_narrow_draft_takes_the_taps_of_a_wider_target() -> None:
    narrow = draft_config(target_hidden_size=128, embedding="own", fc_input_norm="per_tap")

    table = expected_tensors(narrow)

    assert (table["fc.weight"], table["fc_norm.2.weight"]) == ((64, 384), (128,))


def test_the_targets_head_is_not_in_the_file() -> None:
    full = draft_config(draft_vocab_size=512, has_vocab_map=False, lm_head="target")

    assert "lm_head.weight" not in expected_tensors(full)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 60_288),
        ({"has_vocab_map": False, "draft_vocab_size": 512}, 84_224),
        ({"embedding": "own"}, 93_056),
    ],
)
def test_parameters_are_counted_as_hubs_count_them(changes: dict[str, Any], count: int) -> None:
    assert num_parameters(draft_config(**changes)) == count


def test_offsets_are_target_id_minus_draft_id() -> None:
    ids = np.array([3, 4, 9], dtype=np.int64)

    assert offsets_from_vocab_map(ids).tolist() == [3, 3, 7]
    assert vocab_map_from_offsets(np.array([3, 3, 7], dtype=np.int32)).tolist() == [3, 4, 9]


def test_the_mask_marks_the_ids_of_the_map() -> None:
    mask = target_mask(np.array([1, 3], dtype=np.int64), 5)

    assert mask.tolist() == [False, True, False, True, False]


def test_a_sound_map_has_no_problems() -> None:
    assert vocab_map_problems(np.array([0, 0, 3, 3]), 4, 8) == []


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([0, 0, 0], ("d2t-length", "d2t has shape [3], expected [4]")),
        (
            [0, 0, 9, 9],
            (
                "d2t-range",
                "d2t maps 2 draft ids outside the vocabulary of 8; the first is draft id 2: "
                "9 + 2 = 11",
            ),
        ),
        (
            [-1, 0, 0, 0],
            (
                "d2t-range",
                "d2t maps 1 draft ids outside the vocabulary of 8; the first is draft id 0: "
                "-1 + 0 = -1",
            ),
        ),
        (
            [1, 3, 5, 7],
            (
                "d2t-absolute",
                "d2t maps 1 draft ids outside the vocabulary of 8; the first is draft id 3: "
                "7 + 3 = 10; the values look like absolute target ids",
            ),
        ),
        (
            [0, 1, 2, 3],
            (
                "d2t-absolute",
                "d2t rises at every step ([0, 1, 2, 3]…): absolute target ids, not offsets; read "
                "as offsets it would map to [0, 2, 4, 6]…",
            ),
        ),
        (
            [1, 0, 0, 0],
            ("d2t-duplicates", "d2t maps 1 draft ids to a target id that another one has"),
        ),
    ],
)
def test_a_map_that_cannot_be_right_is_named(offsets: list[int], expected: tuple[str, str]) -> None:
    (problem,) = vocab_map_problems(np.array(offsets), 4, 8)

    assert (problem.id, problem.message) == expected


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("midlayer.self_attn.q_proj.weight", "layers.0.self_attn.q_proj.weight"),
        ("model.midlayer.mlp.up_proj.weight", "layers.0.mlp.up_proj.weight"),
        ("model.layers.1.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight"),
        ("aux_norm_low.weight", "fc_norm.0.weight"),
        ("aux_norm_mid.weight", "fc_norm.1.weight"),
        ("aux_norm_high.weight", "fc_norm.2.weight"),
        ("fc.weight", "fc.weight"),
        ("model.d2t", "d2t"),
        ("t2d", None),
        ("verifier_lm_head.weight", None),
        ("midlayer.self_attn.rotary_emb.inv_freq", None),
    ],
)
def test_a_stored_name_means_the_same_in_every_dialect(stored: str, canonical: str | None) -> None:
    assert canonical_name(stored) == canonical


def test_two_tensors_of_one_meaning_are_a_problem() -> None:
    names, (problem,) = canonical_names(
        ["layers.0.mlp.up_proj.weight", "midlayer.mlp.up_proj.weight"]
    )

    assert set(names) == {"layers.0.mlp.up_proj.weight"}
    assert (problem.id, problem.message) == (
        "tensor-twice",
        "layers.0.mlp.up_proj.weight and midlayer.mlp.up_proj.weight are both "
        "layers.0.mlp.up_proj.weight",
    )


def test_specforge_calls_the_first_layer_midlayer_and_no_other() -> None:
    names = ["layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight", "fc.weight"]

    assert [midlayer_name(n) for n in names] == [
        "midlayer.mlp.up_proj.weight",
        "layers.1.mlp.up_proj.weight",
        "fc.weight",
    ]
    assert [layers_name(n) for n in names] == names
