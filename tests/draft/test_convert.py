"""Conversion: the same draft in another spelling, to the bit, or a refusal that says what is lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig, Rope, TargetConfig
from eagle3_plugin.draft.convert import Conversion, convert
from eagle3_plugin.draft.dialects import vllm
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.errors import (
    AmbiguousError,
    CannotExpressError,
    DraftError,
    OutputError,
    UsageError,
)
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config, edit_config, read, write_random
from tests.stored import edit_tensors, load_tensors, save_tensors

TAP_IDS = "eagle_aux_hidden_state_layer_ids"
ALL = ("sglang", "speculators", "universal", "vllm")
VLLM = ("speculators", "vllm")
FLAT = ("sglang", "universal", "vllm")
FULL = {"draft_vocab_size": 512}
YARN = {"factor": 4.0, "original_max_position_embeddings": 256.0}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192.0,
}

VARIANTS: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ALL),
    "listed taps": ({"taps": (2, 18, 33)}, ALL),
    "taps of pull request 431": ({"taps": (4, 18, 33)}, ALL),
    "taps whose output ids look like boundaries": ({"taps": (3, 19, 34)}, ALL),
    "taps that look like output ids": ({"taps": (1, 17, 32)}, ALL),
    "the embedding as a tap": ({"taps": (0, 18, 33)}, VLLM),
    "four taps": ({"taps": (2, 9, 18, 33), "num_taps": 4}, FLAT),
    "four taps, qwen3": ({"taps": (2, 9, 18, 33), "num_taps": 4, "decoder": "qwen3"}, VLLM),
    "one tap": ({"taps": (18,), "num_taps": 1}, FLAT),
    "qwen3": ({"decoder": "qwen3"}, VLLM),
    "normed residual": ({"residual": "normed"}, VLLM),
    "joint norm": ({"fc_input_norm": "joint"}, ALL),
    "per-tap norms": ({"fc_input_norm": "per_tap"}, ALL),
    "postnorm feedback": ({"feedback": "postnorm"}, ALL),
    "all biases, llama": ({"attention_bias": True, "attention_output_bias": True}, VLLM),
    "q, k and v biases, qwen3": ({"attention_bias": True, "decoder": "qwen3"}, VLLM),
    "two layers": ({"num_layers": 2}, VLLM),
    "head_dim of its own": ({"head_dim": 16}, ALL),
    "narrower than the target": ({"target_hidden_size": 128, "embedding": "own"}, ALL),
    "own embedding": ({"embedding": "own"}, VLLM),
    "full vocabulary": (FULL | {"has_vocab_map": False}, ALL),
    "the target's head": (FULL | {"has_vocab_map": False, "lm_head": "target"}, ALL),
    "a permuted vocabulary": (FULL, ("sglang",)),
    "yarn": ({"rope": {"theta": 1e6, "type": "yarn", "parameters": YARN}}, ALL),
    "llama3": ({"rope": {"theta": 5e5, "type": "llama3", "parameters": LLAMA3}}, ALL),
    "linear": ({"rope": {"theta": 1e4, "type": "linear", "parameters": {"factor": 2.0}}}, ALL),
    "mrope": ({"rope": {"theta": 5e6, "mrope_section": (8, 4, 4)}}, ALL),
    "interleaved mrope": (
        {"rope": {"theta": 5e6, "mrope_section": (8, 4, 4), "mrope_interleaved": True}},
        ALL,
    ),
    "float16": ({"dtype": "F16"}, ALL),
    "float32": ({"dtype": "F32"}, ALL),
    "float64": ({"dtype": "F64"}, ALL),
    "known image inputs": ({"image_embedding": "visual", "deepstack_tap": "before"}, ALL),
    "descending taps": ({"taps": (33, 18, 2)}, ()),
    "a bias in fc": ({"fc_bias": True}, ()),
    "q, k and v biases, llama": ({"attention_bias": True}, ()),
    "only an o bias": ({"attention_output_bias": True}, ()),
    "all biases, qwen3": (
        {"attention_bias": True, "attention_output_bias": True, "decoder": "qwen3"},
        (),
    ),
}
"""Each variant, and the dialects whose stock engine reads it rightly."""

PAIRS = [
    (name, first, second)
    for name, (_, dialects) in VARIANTS.items()
    for first, second in itertools.permutations(dialects, 2)
]


def variant(name: str) -> DraftConfig:
    return draft_config(**VARIANTS[name][0])


def open_draft(folder: Path, **answers: Any) -> Draft:
    return read_draft(Checkpoint.open(resolve(str(folder))), Settle(**answers))


def weights(draft: Draft) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Canonical name -> dtype, shape and bytes, read from the file by hand."""
    table = load_tensors(Path(draft.checkpoint.source.name))
    return {name: table[stored] for name, stored in draft.names.items()}


def settled_answers(config: DraftConfig, dialect: str) -> dict[str, Any]:
    """The flags that a user who knows the draft would give."""
    ids = {"sglang": "output", "vllm": "boundary", "speculators": "boundary"}
    known = {"ids": ids[dialect]} if dialect in ids else {}
    return known | {"feedback": config.feedback}


def known_from_files(config: DraftConfig) -> DraftConfig:
    """What config.json and the weights can say; image inputs are in eagle3.json only."""
    unknown = {"image_embedding": "unknown", "deepstack_tap": "unknown"}
    return DraftConfig.model_validate(config.model_dump() | unknown)


def assert_same(draft: Draft, original: Draft) -> None:
    assert weights(draft) == weights(original)
    if original.vocab_map is None:
        assert draft.vocab_map is None
    else:
        assert draft.vocab_map is not None
        assert draft.vocab_map.tolist() == original.vocab_map.tolist()


# Round trips


@pytest.mark.parametrize(("name", "first", "second"), PAIRS)
def test_there_and_back_is_the_identity(
    name: str, first: str, second: str, tmp_path: Path
) -> None:
    config = variant(name)
    source = write_random(tmp_path / "source", known_from_files(config), first)
    answers = settled_answers(config, first)
    original = open_draft(source, **answers)

    convert(original, tmp_path / "there", second)
    convert(open_draft(tmp_path / "there"), tmp_path / "back", first)

    back = open_draft(tmp_path / "back")
    assert_same(open_draft(tmp_path / "there"), original)
    assert_same(back, original)
    assert back.config == original.config == known_from_files(config)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "back" / file).read_bytes() == (source / file).read_bytes()


@pytest.mark.parametrize(
    ("name", "dialect"), [(n, d) for n, (_, dialects) in VARIANTS.items() for d in dialects]
)
def test_without_eagle3_json_it_is_the_same_draft_or_ambiguous(
    name: str, dialect: str, tmp_path: Path
) -> None:
    config = variant(name)
    source = write_random(tmp_path / "source", known_from_files(config), dialect)
    original = open_draft(source, **settled_answers(config, dialect))
    convert(original, tmp_path / "out", dialect)
    (tmp_path / "out" / "eagle3.json").unlink()

    try:
        unaided = open_draft(tmp_path / "out")
    except AmbiguousError:
        assert name in (
            "taps whose output ids look like boundaries",
            "taps that look like output ids",
            "postnorm feedback",
        )
    else:
        assert unaided.config == original.config
        assert_same(unaided, original)
    settled = open_draft(tmp_path / "out", **settled_answers(config, dialect))
    assert settled.config == original.config
    assert_same(settled, original)


@pytest.mark.parametrize("dialect", ALL)
def test_eagle3_json_carries_what_config_json_cannot(dialect: str, tmp_path: Path) -> None:
    config = variant("known image inputs")
    draft = read(write_random(tmp_path / "source", known_from_files(config), dialect))
    known = Draft(**(vars(draft) | {"config": config}))

    convert(known, tmp_path / "out", dialect)

    assert open_draft(tmp_path / "out").config == config


def test_the_chain_through_every_dialect_comes_back_byte_for_byte(tmp_path: Path) -> None:
    source = write_random(tmp_path / "0", draft_config(taps=(2, 18, 33)), "sglang")
    at = source
    for step, dialect in enumerate(("speculators", "vllm", "universal", "sglang"), start=1):
        out = tmp_path / str(step)
        convert(open_draft(at), out, dialect)
        at = out

    for file in ("config.json", "model.safetensors"):
        assert (at / file).read_bytes() == (source / file).read_bytes()


def test_weights_of_mixed_dtypes_keep_each_its_own(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config())
    edit_tensors(source, norm__weight=("F32", (64,)))
    original = read(source)

    convert(original, tmp_path / "out", "vllm")

    assert weights(open_draft(tmp_path / "out")) == weights(original)


# Read-only dialects


def write_read_only(folder: Path, dialect: str) -> Path:
    """The small draft as a trainer writes it whose dialect we only read."""
    write_random(folder, draft_config(), "sglang")
    changes: dict[str, dict[str, Any]] = {
        "eagle": {"architectures": ["LlamaForCausalLM"]},
        "angelslim": {
            "architectures": ["Eagle3LlamaForCausalLM"],
            "aux_hidden_states_layer_ids": [1, 17, 32],
        },
        "mnn": {"target_model_type": "qwen3_vl", "tie_word_embeddings": True},
        "modelopt": {"eagle_config": {TAP_IDS: [1, 17, 32], "use_aux_hidden_state": True}},
    }
    edit_config(folder, **changes[dialect])
    if dialect == "modelopt":
        table = load_tensors(folder)
        del table["t2d"]
        save_tensors(folder, {n.replace("midlayer.", "layers.0."): t for n, t in table.items()})
    return folder


@pytest.mark.parametrize("target_dialect", ALL)
@pytest.mark.parametrize("dialect", ["eagle", "angelslim", "mnn", "modelopt"])
def test_what_is_only_read_can_be_written_as_anything(
    dialect: str, target_dialect: str, tmp_path: Path
) -> None:
    original = read(write_read_only(tmp_path / "source", dialect))
    taps = (2, 18, 33) if dialect in ("angelslim", "modelopt") else "default"

    done = convert(original, tmp_path / "out", target_dialect)

    again = open_draft(tmp_path / "out")
    assert (original.dialect, done.source_dialect) == (dialect, dialect)
    assert again.config == original.config == draft_config(taps=taps)
    assert_same(again, original)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["tie_word_embeddings"] is False


def test_an_old_bin_file_is_converted(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config(dtype="F16"))
    expected = {name: data for name, (_, _, data) in load_tensors(source).items()}
    dtypes = {"F16": np.float16, "I64": np.int64, "BOOL": np.bool_}
    table = {
        name: torch.from_numpy(np.frombuffer(data, dtypes[dtype]).reshape(shape).copy())
        for name, (dtype, shape, data) in load_tensors(source).items()
    }
    (source / "model.safetensors").unlink()
    torch.save(table, source / "pytorch_model.bin")
    edit_config(source, architectures=["LlamaForCausalLM"])

    done = convert(read(source), tmp_path / "out", "sglang")

    found = {name: data for name, (_, _, data) in load_tensors(tmp_path / "out").items()}
    assert found == expected
    assert done.source_dialect == "eagle"


def test_shards_are_joined(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config())
    table = load_tensors(source)
    (source / "model.safetensors").unlink()
    shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for position, name in enumerate(table):
        shards[sorted(shards)[position % 2]][name] = table[name]
    for file, part in shards.items():
        save_tensors(source, part, file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))

    convert(read(source), tmp_path / "out", "sglang")

    assert load_tensors(tmp_path / "out") == table


# What is written


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


# The report and eagle3.json


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


# Refusals


SGLANG = "SGLang 0.5.23: "
STOCK_VLLM = "vLLM 0.32: "
QWEN3 = SGLANG + "q_norm and k_norm are dropped"
NORMED = SGLANG + "norm_before_residual is not read: the residual would be the raw state"
LAYERS = SGLANG + "2 layers: only one is built"
EMBEDDING = SGLANG + "the draft's own embedding is replaced by the target's"
BIASES = SGLANG + "attention biases are dropped"
ZERO = SGLANG + "boundary 0 (the embedding) has no output id"
ORDER = "taps [33, 18, 2] are captured in ascending order"
LLAMA_BIAS = STOCK_VLLM + (
    "the Llama class makes an o_proj bias that the draft lacks: uninitialised"
)
ONLY_O = STOCK_VLLM + "an o_proj bias without q, k and v biases cannot be spelled"
QWEN3_O = STOCK_VLLM + "the Qwen3 class has no o_proj bias"
FULL_MAP = STOCK_VLLM + "a vocabulary map of the full vocabulary has no place: loading fails"
FOUR = STOCK_VLLM + (
    "the Llama class makes an fc for three taps, the draft has 4, and this format has no field "
    "that tells it"
)

REFUSALS = [
    ("qwen3", "sglang", [QWEN3]),
    ("qwen3", "universal", [QWEN3]),
    ("normed residual", "sglang", [NORMED]),
    ("normed residual", "universal", [NORMED]),
    ("two layers", "sglang", [LAYERS]),
    ("own embedding", "sglang", [EMBEDDING]),
    ("own embedding", "universal", [EMBEDDING]),
    ("the embedding as a tap", "sglang", [ZERO]),
    ("four taps", "speculators", [FOUR]),
    ("a permuted vocabulary", "vllm", [FULL_MAP]),
    ("a permuted vocabulary", "speculators", [FULL_MAP]),
    ("a permuted vocabulary", "universal", [FULL_MAP]),
    ("descending taps", "sglang", [SGLANG + ORDER]),
    ("descending taps", "vllm", [STOCK_VLLM + ORDER]),
    ("descending taps", "universal", [SGLANG + ORDER, STOCK_VLLM + ORDER]),
    ("a bias in fc", "sglang", [SGLANG + "the bias of fc is dropped"]),
    ("a bias in fc", "vllm", [STOCK_VLLM + "the bias of fc has no place"]),
    ("q, k and v biases, llama", "sglang", [BIASES]),
    ("q, k and v biases, llama", "vllm", [LLAMA_BIAS]),
    ("only an o bias", "speculators", [ONLY_O]),
    ("all biases, qwen3", "vllm", [QWEN3_O]),
    ("all biases, qwen3", "sglang", [QWEN3, BIASES]),
]


@pytest.mark.parametrize(("name", "dialect", "expected"), REFUSALS)
def test_what_the_stock_engine_would_misread_is_not_written(
    name: str, dialect: str, expected: list[str], tmp_path: Path
) -> None:
    config = variant(name)
    source = write_random(tmp_path / "source", config, "vllm")
    draft = open_draft(source, taps=config.taps if config.taps != "default" else None)

    with pytest.raises(CannotExpressError) as caught:
        convert(draft, tmp_path / "out", dialect)

    assert [p.message for p in caught.value.problems] == expected
    engines = {"sglang": "stock-sglang", "vllm": "stock-vllm", "speculators": "stock-vllm"}
    if dialect in engines:
        assert {p.id for p in caught.value.problems} == {engines[dialect]}
    assert caught.value.message.startswith(f"{source} cannot be written as {dialect}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "dialect"),
    [(n, d) for n, (_, dialects) in VARIANTS.items() for d in ALL if d not in dialects],
)
def test_every_other_dialect_refuses_the_variant(name: str, dialect: str, tmp_path: Path) -> None:
    config = variant(name)
    source = write_random(tmp_path / "source", config, "vllm")
    draft = open_draft(source, taps=config.taps if config.taps != "default" else None)

    with pytest.raises(CannotExpressError):
        convert(draft, tmp_path / "out", dialect)


def test_a_refusal_names_the_dialects_that_can_hold_the_draft(tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config(decoder="qwen3"), "vllm"))

    with pytest.raises(CannotExpressError) as caught:
        convert(draft, tmp_path / "out", "sglang")

    assert caught.value.hint == (
        "Serve the draft as it is with our plugin in the engine (no conversion needed), or write "
        "it as speculators or vllm."
    )


def test_a_refusal_says_so_when_no_dialect_can_hold_the_draft(tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config(fc_bias=True), "vllm"))

    with pytest.raises(CannotExpressError) as caught:
        convert(draft, tmp_path / "out", "sglang")

    assert caught.value.hint == (
        "Serve the draft as it is with our plugin in the engine (no conversion needed): no "
        "dialect's stock engine reads it rightly."
    )


def test_a_dialect_that_is_only_read_is_wrong_use(tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))

    with pytest.raises(UsageError) as caught:
        convert(draft, tmp_path / "out", "mnn")

    assert caught.value.message == (
        "cannot write 'mnn'; --to takes one of: speculators, universal, vllm, sglang"
    )


def test_a_target_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config())
    target = TargetConfig.model_validate(TARGET_36.model_dump() | {"hidden_size": 128})

    with pytest.raises(DraftError) as caught:
        convert(read(source), tmp_path / "out", "vllm", target=target)

    assert caught.value.message == (
        f"{source} does not fit the target: 1 problem(s)\n"
        "  [target-hidden-size] the draft was trained on a target with hidden size 64; this target "
        "has 128"
    )
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_is_kept_unless_forced(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", draft_config())
    out = write_random(tmp_path / "out", draft_config(num_layers=2), "vllm")
    before = (out / "model.safetensors").read_bytes()

    with pytest.raises(OutputError, match="exists"):
        convert(read(source), out, "vllm")
    assert (out / "model.safetensors").read_bytes() == before
    convert(read(source), out, "vllm", force=True)

    assert open_draft(out).config == draft_config()


def test_a_draft_can_be_converted_in_its_place(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config())
    original = weights(read(folder))

    convert(read(folder), folder, "speculators", force=True)

    assert weights(open_draft(folder)) == original


def test_a_writer_that_does_not_say_what_it_should_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))
    right = vllm.write_config(draft.config)
    monkeypatch.setattr(vllm, "write_config", lambda config: right | {"rms_norm_eps": 1e-5})

    with pytest.raises(OutputError) as caught:
        convert(draft, tmp_path / "out", "vllm")

    assert caught.value.message == f"{tmp_path / 'out'} was written, but reads back as another draft"
    assert caught.value.hint == (
        "This is a bug of eagle3_plugin; please report it with both config.json."
    )
