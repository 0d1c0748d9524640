"""Drafts for a Qwen3-VL-MoE, in the configs that SpecForge and AngelSlim train them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.check import check, plugin_serves
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.rules.rule import Engine
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.engines import names
from tests.drafts import read
from tests.published_configs import INTERLEAVED, SPECFORGE, VL_ROPE, Sizes
from tests.reading import checkpoint
from tests.stored import write_sparse
from tests.targets import QWEN3_VL_30B_A3B

TARGET = target_from_config(QWEN3_VL_30B_A3B)
SIZES = Sizes(2048, 6144, 32, 4)
SPECFORGE_30B: dict[str, Any] = SPECFORGE | SIZES.keys() | {
    "max_position_embeddings": 262144,
    "max_window_layers": None,
    "target_model_type": "qwen3_vl_moe",
    "rope_scaling": INTERLEAVED,
    "rope_theta": 5000000,
}  # fmt: skip
"""sgl-project/SpecForge configs/qwen3-vl-30b-a3b-eagle3.json at 5b2789f: no type in its rope."""

ANGELSLIM_30B: dict[str, Any] = SPECFORGE | SIZES.keys() | {
    "architectures": ["Eagle3LlamaForCausalLM"],
    "max_position_embeddings": 262144,
    "target_model_type": "qwen3_vl",
    "rope_scaling": {"type": "default", "rope_type": "default"} | INTERLEAVED,
    "rope_theta": 5000000,
    "image_token_id": 151655,
    "video_token_id": 151656,
    "modal_type": "VLM",
}  # fmt: skip
"""AngelSlim train/configs/qwen3-vl-30b-a3b-eagle3-mrope.json at 7708dee."""

CONFIGS = {"specforge": SPECFORGE_30B, "angelslim": ANGELSLIM_30B}
IMAGES = ["image-embedding-unknown", "deepstack-unknown"]


@pytest.fixture(params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_sparse(tmp_path / request.param, CONFIGS[request.param], SIZES.shapes())


def test_the_target_is_read_with_its_experts_and_its_deepstack() -> None:
    assert (TARGET.model_type, TARGET.num_layers, TARGET.num_experts) == ("qwen3_vl_moe", 48, 128)
    assert (TARGET.is_multimodal, TARGET.deepstack_layers) == (True, (0, 1, 2))
    assert TARGET.rope.mrope_section == (24, 20, 20)


def test_both_plugins_take_the_pair(folder: Path) -> None:
    assert names.is_our_target(QWEN3_VL_30B_A3B)
    assert names.is_ours(checkpoint(folder).config)
    assert plugin_serves(checkpoint(folder), TARGET)


def test_the_draft_reads_as_one_of_a_dense_target_does(folder: Path) -> None:
    draft = read_draft(checkpoint(folder))
    assert draft.config == SIZES.canonical(max_position_embeddings=262144, rope=VL_ROPE)
    assert draft.config.taps_for(TARGET.num_layers) == (2, 24, 45)


@pytest.mark.parametrize(
    ("engine", "plugin", "warnings"),
    [
        ("vllm", False, ["mrope-v2-runner", "image-key-slots", *IMAGES]),
        ("vllm", True, IMAGES),
        ("sglang", False, IMAGES),
        ("sglang", True, IMAGES),
    ],
)
def test_specforges_draft_is_checked_as_one_of_a_dense_target_is(
    engine: Engine, plugin: bool, warnings: list[str], tmp_path: Path
) -> None:
    path = write_sparse(tmp_path / "draft", SPECFORGE_30B, SIZES.shapes())
    report = check(checkpoint(path), TARGET, engine, plugin=plugin, settle=NOTHING_SETTLED)
    assert report.ok
    assert [f.id for f in report.findings if f.severity == "warning"] == warnings


def test_it_is_converted_for_both_engines(folder: Path, tmp_path: Path) -> None:
    convert(read(folder), tmp_path / "out", "universal", target=TARGET)

    again = read(tmp_path / "out").config
    assert again == SIZES.canonical(max_position_embeddings=262144, rope=VL_ROPE, taps=(2, 24, 45))
