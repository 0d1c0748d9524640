"""Bytes and FLOPs of targets and drafts, against published counts."""

from __future__ import annotations

from typing import Any

import pytest

from eagle3_plugin.errors import NotFoundError, TargetError
from eagle3_plugin.planning.shapes import (
    Experts,
    TargetShape,
    draft_shape,
    known_target,
    target_shape,
    usual_draft_shape,
)
from tests.drafts import draft_config
from tests.targets import QWEN3_4B, QWEN3_8B, QWEN3_30B_A3B, QWEN3_VL_2B

SHAPE_4B = TargetShape(
    hidden_size=2560,
    intermediate_size=9728,
    num_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
)


def quantised(**section: Any) -> float:
    return target_shape(QWEN3_4B | {"quantization_config": section}).bytes_per_weight


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(TargetError) as caught:
        target_shape(config, "Qwen/Qwen3-4B")
    return str(caught.value)


def test_a_dense_target_is_read_from_its_config() -> None:
    assert target_shape(QWEN3_4B) == SHAPE_4B


def test_the_text_part_of_a_multimodal_target_is_read() -> None:
    shape = target_shape(QWEN3_VL_2B)

    assert (shape.hidden_size, shape.num_layers, shape.num_attention_heads) == (2048, 28, 16)


def test_the_experts_of_a_target_are_read() -> None:
    assert target_shape(QWEN3_30B_A3B).experts == Experts(128, 8, 768, 48)


def test_layers_without_experts_are_counted_out() -> None:
    changes = {"decoder_sparse_step": 2, "mlp_only_layers": [1, 3]}
    experts = target_shape(QWEN3_30B_A3B | changes).experts

    assert experts is not None
    assert experts.num_layers == 22


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("Qwen3-4B", 8.04),
        ("Qwen3-8B", 15.14),
        ("Qwen3-32B", 63.97),
        ("LLaMA-3.1-8B-Instruct", 15.01),
    ],
)
def test_a_dense_step_reads_the_16_bit_weights(name: str, gigabytes: float) -> None:
    """The models' own parameter counts (4.02, 8.19, 32.8, 8.03 G), without the embedding where
    it is a table of its own (0.62, 0.78, 0.53 G), times two bytes."""
    target, _ = known_target(name)

    assert target.step_bytes(1) / 1e9 == pytest.approx(gigabytes, abs=0.005)
    assert target.step_bytes(64) == target.step_bytes(1)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [("Qwen3-30B-A3B", 30.2, 3.04), ("Qwen3-235B-A22B", 234.5, 21.6)],
)
def test_experts_are_counted_in_all_and_in_use(name: str, total: float, active: float) -> None:
    """Qwen states 30.5 and 3.3 G, 235 and 22 G, with the embedding (0.31 and 0.62 G)."""
    target, _ = known_target(name)

    assert target.num_params / 1e9 == pytest.approx(total, abs=0.05)
    assert target.active_params / 1e9 == pytest.approx(active, abs=0.05)


@pytest.mark.parametrize(
    ("num_tokens", "touched"), [(1, 8.0), (4, 29.1), (8, 51.6), (16, 82.4), (32, 111.8)]
)
def test_more_tokens_touch_more_experts(num_tokens: int, touched: float) -> None:
    """128 * (1 - (120 / 128) ** tokens)."""
    assert Experts(128, 8, 768, 48).touched(num_tokens) == pytest.approx(touched, abs=0.05)


def test_the_kv_cache_holds_two_values_a_head_and_layer() -> None:
    """2 * 36 layers * 8 heads * 128 * 2 bytes."""
    assert SHAPE_4B.kv_bytes_per_token == 147456


def test_the_usual_draft_of_the_4b_has_the_published_size() -> None:
    """SpecForge's qwen3-4b-eagle3.json: 218,429,056 parameters with 4 norms of 2560 and d2t of
    32,000 and t2d of 151,936: 218,234,880 in matrices."""
    draft = usual_draft_shape(SHAPE_4B)

    assert draft.pass_params + draft.fc_params == 218_234_880
    assert (draft.pass_bytes, draft.fc_bytes) == (397_148_160, 39_321_600)
    assert draft.kv_bytes_per_token == 4096


def test_a_drafts_config_gives_the_same_shape() -> None:
    draft = draft_config(
        hidden_size=2560,
        intermediate_size=9728,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        draft_vocab_size=32000,
        target_hidden_size=2560,
    )

    assert draft_shape(draft) == usual_draft_shape(SHAPE_4B)


def test_the_draft_of_a_target_with_experts_is_dense_and_wider() -> None:
    """SpecForge's qwen3-30B-A3B-eagle3.json: intermediate size 12288."""
    _, draft = known_target("Qwen3-30B-A3B")

    assert draft.pass_params == 2048 * (3 * 4096 + 4 * 512 + 3 * 12288 + 32000)


@pytest.mark.parametrize(
    ("section", "num_bytes"),
    [
        ({"quant_method": "fp8"}, 1.0),
        ({"quant_method": "awq", "bits": 4}, 0.52),
        ({"quant_method": "gptq", "bits": 8}, 1.0),
        ({"quant_method": "gptq"}, 0.52),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
            },
            1.0,
        ),
    ],
)
def test_quantised_weights_are_smaller(section: dict[str, Any], num_bytes: float) -> None:
    assert quantised(**section) == pytest.approx(num_bytes)


def test_the_head_stays_in_16_bits() -> None:
    """3.633 G weights of a byte, and 151,936 * 2560 of two."""
    shape = target_shape(QWEN3_4B | {"quantization_config": {"quant_method": "fp8"}})

    assert shape.step_bytes(1) == 3_633_315_840 + 2 * 388_956_160


def test_an_unknown_quantisation_is_an_error() -> None:
    config = QWEN3_4B | {"quantization_config": {"quant_method": "spqr"}}

    assert refusal(config) == (
        "Qwen/Qwen3-4B: config.json lacks what the cost of a step depends on\n"
        "  config.json: quantization_config has quant_method spqr and no bits; "
        "expected bits, or a quant_method of fp8, awq, gptq\n"
        "hint: --target takes the folder or hub id of the target model, with its own config.json."
    )


def test_all_absent_sizes_are_listed() -> None:
    said = refusal({"num_experts": 128, "model_type": "qwen3_moe"})

    for name in ("hidden_size", "num_hidden_layers", "moe_intermediate_size", "head_dim"):
        assert f"config.json: {name} is absent; expected a positive integer" in said


def test_what_ships_agrees_with_the_published_configs() -> None:
    for name, config in (
        ("Qwen3-4B", QWEN3_4B),
        ("Qwen3-8B", QWEN3_8B),
        ("Qwen3-30B-A3B", QWEN3_30B_A3B),
        ("Qwen3-VL-2B-Instruct", QWEN3_VL_2B),
    ):
        assert known_target(name)[0] == target_shape(config)


def test_a_model_that_does_not_ship_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="no shape of 'Qwen4' ships with the package") as caught:
        known_target("Qwen4")

    assert caught.value.hint == "Give the target's folder or hub id: its config.json has the sizes."
