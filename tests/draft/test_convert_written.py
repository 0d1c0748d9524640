"""What conversion writes: config.json word for word, tensor names, the report, eagle3.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.config import Rope, TargetConfig
from eagle3_plugin.draft.convert import Conversion, convert
from tests.drafts import draft_config, read, write_random
from tests.stored import edit_tensors, load_tensors
from tests.variants import ALL, FULL, YARN, open_draft

TAP_IDS = "eagle_aux_hidden_state_layer_ids"

TARGET_36 = TargetConfig(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    hidden_size=64,
    num_layers=36,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
    vocab_size=512,
    max_position_embeddings=262144,
    rope=Rope(theta=5e6),
    tie_word_embeddings=True,
)
NESTED = {TAP_IDS: [1, 17, 32], "use_aux_hidden_state": True}


@pytest.mark.parametrize(
    ("dialect", "top", "nested"),
    [
        ("sglang", None, NESTED),
        ("vllm", [2, 18, 33], None),
        ("speculators", [2, 18, 33], None),
        ("universal", [2, 18, 33], NESTED),
    ],
)
def test_with_a_target_the_default_taps_are_written_out(
    dialect: str, top: list[int] | None, nested: dict[str, Any] | None, tmp_path: Path
) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))

    done = convert(draft, tmp_path / "out", dialect, target=TARGET_36)

    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written.get(TAP_IDS), written.get("eagle_config")) == (top, nested)
    assert done.config == open_draft(tmp_path / "out").config == draft_config(taps=(2, 18, 33))


@pytest.mark.parametrize("dialect", ALL)
def test_without_a_target_the_default_taps_stay_unwritten(dialect: str, tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))

    convert(draft, tmp_path / "out", dialect)

    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert TAP_IDS not in written
    assert "eagle_config" not in written


SGLANG_CONFIG = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "draft_vocab_size": 128,
    "target_hidden_size": 64,
}


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, {}),
        ({"fc_input_norm": "joint"}, {"norm_before_fc": True}),
        ({"fc_input_norm": "per_tap"}, {"fc_norm": True}),
        ({"feedback": "postnorm"}, {"norm_output": True}),
        (
            {"taps": (2, 9, 18, 33), "num_taps": 4},
            {
                "num_aux_hidden_states": 4,
                "eagle_config": {TAP_IDS: [1, 8, 17, 32], "use_aux_hidden_state": True},
            },
        ),
        (
            FULL | {"has_vocab_map": False, "lm_head": "target"},
            {"draft_vocab_size": None},
        ),
        (
            {"rope": {"theta": 1e6, "type": "yarn", "parameters": YARN}},
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 256,
                }
            },
        ),
        (
            {"rope": {"theta": 5e6, "mrope_section": (8, 4, 4), "mrope_interleaved": True}},
            {
                "rope_theta": 5e6,
                "rope_scaling": {
                    "rope_type": "default",
                    "mrope_section": [8, 4, 4],
                    "mrope_interleaved": True,
                },
            },
        ),
    ],
)
def test_the_sglang_config_is_written_like_this(
    changes: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    draft = open_draft(
        write_random(tmp_path / "source", draft_config(**changes), "vllm"), ids="boundary"
    )

    convert(draft, tmp_path / "out", "sglang")

    assert json.loads((tmp_path / "out" / "config.json").read_text()) == SGLANG_CONFIG | more


def test_the_vllm_config_of_a_qwen3_draft_is_written_like_this(tmp_path: Path) -> None:
    config = draft_config(decoder="qwen3", residual="normed", taps=(2, 18, 33))
    draft = read(write_random(tmp_path / "source", config, "speculators"))

    convert(draft, tmp_path / "out", "vllm")

    assert json.loads((tmp_path / "out" / "config.json").read_text()) == SGLANG_CONFIG | {
        "architectures": ["Eagle3Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "norm_before_residual": True,
        TAP_IDS: [2, 18, 33],
    }


def test_the_speculators_config_is_written_like_this(tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config(taps=(2, 18, 33))))

    convert(draft, tmp_path / "out", "speculators")

    layer_keys = set(SGLANG_CONFIG) - {"draft_vocab_size", "target_hidden_size", "torch_dtype"}
    layer = {key: SGLANG_CONFIG[key] for key in layer_keys}
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_version": "0.9.0",
        "draft_vocab_size": 128,
        "target_hidden_size": 64,
        "norm_before_residual": False,
        "norm_before_fc": False,
        "fc_norm": False,
        "norm_output": False,
        TAP_IDS: [2, 18, 33],
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}],
            "verifier": {"name_or_path": None, "architectures": []},
        },
        "transformer_layer_config": layer | {"architectures": ["LlamaForCausalLM"]},
    }


@pytest.mark.parametrize(
    ("dialect", "layer"),
    [
        ("sglang", "midlayer"),
        ("universal", "midlayer"),
        ("vllm", "layers.0"),
        ("speculators", "layers.0"),
    ],
)
def test_the_first_layer_is_called_as_its_engine_calls_it(
    dialect: str, layer: str, tmp_path: Path
) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))

    convert(draft, tmp_path / "out", dialect)

    names = set(load_tensors(tmp_path / "out"))
    assert f"{layer}.self_attn.q_proj.weight" in names
    assert {"fc.weight", "norm.weight", "lm_head.weight", "d2t", "t2d"} <= names


def test_the_report_names_what_was_renamed_made_and_dropped(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config())
    edit_tensors(source, drop=("t2d",), verifier_norm__weight=("BF16", (64,)))

    done = convert(read(source), tmp_path / "out", "vllm")

    layer = (
        "hidden_norm",
        "input_layernorm",
        "mlp.down_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "post_attention_layernorm",
        "self_attn.k_proj",
        "self_attn.o_proj",
        "self_attn.q_proj",
        "self_attn.v_proj",
    )
    assert done == Conversion(
        source=str(source),
        source_dialect="sglang",
        dialect="vllm",
        out=str(tmp_path / "out"),
        config=draft_config(),
        renamed={f"midlayer.{n}.weight": f"layers.0.{n}.weight" for n in layer},
        made=("t2d",),
        dropped=("verifier_norm.weight",),
        num_bytes=(tmp_path / "out" / "model.safetensors").stat().st_size,
    )
    report = done.to_json()
    assert json.loads(json.dumps(report)) == report
    assert report["schema"] == 1
    assert report["config"]["taps"] == "default"


def test_eagle3_json_tells_where_the_draft_comes_from(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config())

    convert(read(source), tmp_path / "out", "vllm")

    text = (tmp_path / "out" / "eagle3.json").read_text()
    kept = json.loads(text)
    assert kept["draft"] == draft_config().model_dump(mode="json")
    assert kept["provenance"] == {
        "tool": "eagle3_plugin 0.1.0",
        "source": "source",
        "revision": None,
        "dialect": "sglang",
        "evidence": ["architectures is LlamaForCausalLMEagle3"],
        "files": {
            "model.safetensors": {"size_bytes": (source / "model.safetensors").stat().st_size}
        },
        "tensors_sha256": kept["provenance"]["tensors_sha256"],
    }
    assert len(kept["provenance"]["tensors_sha256"]) == 64
    assert str(tmp_path) not in text


def test_progress_adds_up_to_the_bytes_of_the_tensors(tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))
    steps: list[int] = []

    convert(draft, tmp_path / "out", "vllm", progress=steps.append)

    assert sum(steps) == sum(len(data) for _, _, data in load_tensors(tmp_path / "out").values())
