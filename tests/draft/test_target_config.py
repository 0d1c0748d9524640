"""Targets as their publishers describe them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.config import Rope, TargetConfig
from eagle3_plugin.draft.fit import fit_problems
from eagle3_plugin.draft.target_config import read_target, target_from_config
from eagle3_plugin.errors import TargetError
from tests.drafts import draft_config
from tests.targets import QWEN3_4B, QWEN3_8B, QWEN3_30B_A3B, QWEN3_VL_2B

TARGET_4B = TargetConfig(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    hidden_size=2560,
    num_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
    max_position_embeddings=262144,
    rope=Rope(theta=5000000.0),
    tie_word_embeddings=True,
    dtype="bfloat16",
)
TARGET_VL_2B = TargetConfig(
    architecture="Qwen3VLForConditionalGeneration",
    model_type="qwen3_vl",
    hidden_size=2048,
    num_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
    max_position_embeddings=262144,
    rope=Rope(theta=5000000.0, mrope_section=(24, 20, 20), mrope_interleaved=True),
    tie_word_embeddings=True,
    dtype="bfloat16",
    deepstack_layers=(0, 1, 2),
    is_multimodal=True,
)


def changed(target: TargetConfig, **changes: Any) -> TargetConfig:
    return TargetConfig.model_validate(target.model_dump() | changes)


def refusal(config: dict[str, Any]) -> TargetError:
    with pytest.raises(TargetError) as caught:
        target_from_config(config, "Qwen/Qwen3-4B")
    return caught.value


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def test_the_4b_instruct_is_read() -> None:
    assert target_from_config(QWEN3_4B) == TARGET_4B
    assert TARGET_4B.default_taps == (2, 18, 33)


def test_the_8b_is_read() -> None:
    assert target_from_config(QWEN3_8B) == changed(
        TARGET_4B,
        hidden_size=4096,
        max_position_embeddings=40960,
        rope={"theta": 1e6},
        tie_word_embeddings=False,
    )


def test_a_mixture_of_experts_is_read() -> None:
    assert target_from_config(QWEN3_30B_A3B) == changed(
        TARGET_4B,
        architecture="Qwen3MoeForCausalLM",
        model_type="qwen3_moe",
        hidden_size=2048,
        num_layers=48,
        num_key_value_heads=4,
        max_position_embeddings=40960,
        rope={"theta": 1e6},
        tie_word_embeddings=False,
        num_experts=128,
    )


def test_the_text_side_of_a_vision_model_is_read() -> None:
    assert target_from_config(QWEN3_VL_2B) == TARGET_VL_2B
    assert TARGET_VL_2B.default_taps == (2, 14, 25)


def test_a_tie_flag_inside_text_config_counts_when_there_is_none_outside() -> None:
    config = without(QWEN3_VL_2B, "tie_word_embeddings")

    assert target_from_config(config) == TARGET_VL_2B


def test_the_spelling_of_transformers_5_is_read_alike() -> None:
    rope = {"rope_theta": 5000000.0, "rope_type": "default"}
    config = without(QWEN3_4B, "rope_theta", "rope_scaling") | {"rope_parameters": rope}

    assert target_from_config(config) == TARGET_4B


def test_a_stretched_context_is_read() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}

    rope = target_from_config(QWEN3_8B | {"rope_scaling": yarn}).rope

    assert rope == Rope(
        theta=1e6,
        type="yarn",
        parameters={"factor": 4.0, "original_max_position_embeddings": 32768.0},
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
        ({"bits": 4}, "unknown"),
        ({}, None),
        (None, None),
    ],
)
def test_a_quantised_target_says_how(section: dict[str, Any] | None, expected: str | None) -> None:
    target = target_from_config(QWEN3_4B | {"quantization_config": section})

    assert target.quantization == expected


def test_a_config_without_head_dim_splits_the_hidden_size() -> None:
    assert target_from_config(without(QWEN3_8B, "head_dim")).head_dim == 128


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    error = refusal(without(QWEN3_4B, "hidden_size") | {"vocab_size": "many", "num_experts": -1})

    assert error.message == (
        "Qwen/Qwen3-4B: config.json does not describe a decoder-only target\n"
        "  config.json: hidden_size is absent; expected a positive integer\n"
        "  config.json: vocab_size is 'many'; expected a positive integer\n"
        "  config.json: num_experts is -1; expected a positive integer"
    )
    assert error.hint == (
        "--target takes the folder or hub id of the target model, not of the draft."
    )


def test_a_field_inside_text_config_is_named_with_its_place() -> None:
    text = without(QWEN3_VL_2B["text_config"], "num_hidden_layers")

    assert refusal(QWEN3_VL_2B | {"text_config": text}).message.endswith(
        "  config.json: text_config.num_hidden_layers is absent; expected a positive integer"
    )


@pytest.mark.parametrize(
    "sign",
    [
        {"draft_vocab_size": 32000},
        {"eagle_config": {"use_aux_hidden_state": True}},
        {"eagle_aux_hidden_state_layer_ids": [2, 18, 33]},
        {"speculators_model_type": "eagle3"},
    ],
)
def test_a_draft_is_not_taken_for_a_target(sign: dict[str, Any]) -> None:
    error = refusal(QWEN3_4B | {"num_hidden_layers": 1} | sign)

    assert error.message.endswith(f"  config.json has {next(iter(sign))}: this is a draft")


def test_an_empty_config_is_refused() -> None:
    assert "hidden_size is absent" in refusal({}).message


def test_a_target_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_4B))

    assert read_target(str(tmp_path)) == TARGET_4B


def test_a_pair_of_equal_sizes_fits() -> None:
    target = changed(TARGET_4B, hidden_size=64, vocab_size=512)

    assert fit_problems(draft_config(), target) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"hidden_size": 128, "vocab_size": 512},
            (
                "target-hidden-size",
                "the draft was trained on a target with hidden size 64; this target has 128",
            ),
        ),
        (
            {"hidden_size": 64, "vocab_size": 1024},
            (
                "target-vocabulary",
                "the draft was trained for a vocabulary of 512; this target has 1024",
            ),
        ),
        (
            {"hidden_size": 64, "vocab_size": 512, "num_layers": 4},
            (
                "taps-range",
                "taps [2, 2, 1] do not lie in a target of 4 layers (boundaries 0 to 4, each once)",
            ),
        ),
    ],
)
def test_a_pair_that_does_not_fit_says_why(
    changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    (problem,) = fit_problems(draft_config(), changed(TARGET_4B, **changes))

    assert (problem.id, problem.message) == expected


def test_taps_beyond_the_last_layer_do_not_fit() -> None:
    target = changed(TARGET_4B, hidden_size=64, vocab_size=512)

    (problem,) = fit_problems(draft_config(taps=(2, 18, 37)), target)

    assert (problem.id, problem.message) == (
        "taps-range",
        "taps [2, 18, 37] do not lie in a target of 36 layers (boundaries 0 to 36, each once)",
    )
