"""Conversion keeps a draft to the bit: there and back, along chains, from every source."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.read import Draft
from eagle3_plugin.errors import AmbiguousError
from tests.drafts import draft_config, edit_config, read, write_random
from tests.stored import Table, edit_tensors, load_tensors, save_tensors
from tests.variants import ALL, VARIANTS, open_draft, variant

TAP_IDS = "eagle_aux_hidden_state_layer_ids"

PAIRS = [
    (name, first, second)
    for name, (_, dialects) in VARIANTS.items()
    for first, second in itertools.permutations(dialects, 2)
]


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


@pytest.mark.parametrize(("name", "first", "second"), PAIRS)
def test_there_and_back_is_the_identity(name: str, first: str, second: str, tmp_path: Path) -> None:
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
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    shards: dict[str, Table] = {file: {} for file in files}
    for position, name in enumerate(table):
        shards[files[position % 2]][name] = table[name]
    for file, part in shards.items():
        save_tensors(source, part, file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))

    convert(read(source), tmp_path / "out", "sglang")

    assert load_tensors(tmp_path / "out") == table


def test_a_draft_can_be_converted_in_its_place(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config())
    original = weights(read(folder))

    convert(read(folder), folder, "speculators", force=True)

    assert weights(open_draft(folder)) == original
