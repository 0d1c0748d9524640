"""What is worth telling of a draft, but stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drafts import draft_config, edit_config, read, write_random
from tests.reading import notes, problems
from tests.stored import edit_tensors, set_offsets


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
