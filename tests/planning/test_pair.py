from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import DraftError, TargetError
from eagle3_plugin.planning.pair import draft_shape_of, read_pair
from eagle3_plugin.planning.shapes import DraftShape
from tests.planned import SEED_A, SEED_B

SEED_A_CONFIG = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 1,
    "vocab_size": 151936,
    "draft_vocab_size": 32000,
}
"""The sizes of a Qwen3-4B draft as SpecForge writes them."""

TARGET = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 512,
    },
    "vision_config": {"hidden_size": 16, "depth": 2, "intermediate_size": 32},
}


def write(folder: Path, **files: Any) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def test_the_seeds_and_published_targets_need_no_file() -> None:
    pair, acceptance = read_pair(*SEED_A)

    assert pair.target_source == "published sizes of Qwen3-4B-Instruct-2507"
    assert pair.draft_source == "usual shape of a draft for this target"
    assert (pair.target.num_layers, pair.is_multimodal, acceptance.basis) == (36, False, "card")
    assert read_pair(*SEED_B)[0].is_multimodal


def test_a_folder_is_read_by_its_config_alone(tmp_path: Path) -> None:
    target = write(tmp_path / "target", config=TARGET)
    draft = write(tmp_path / "draft", config=SEED_A_CONFIG)
    pair, acceptance = read_pair(target, draft)

    assert (pair.target.hidden_size, pair.model_type, pair.is_multimodal) == (64, "qwen3_vl", True)
    assert pair.target_bytes == pair.target.shared_bytes + 2 * 2 * (4 * 16**2 + 2 * 16 * 32)
    assert pair.draft_source == f"{draft}: config.json"
    assert acceptance.basis == "assumed"


def test_an_embedding_of_its_own_counts(tmp_path: Path) -> None:
    tied = write(tmp_path / "tied", config=TARGET)
    own = write(tmp_path / "own", config=TARGET | {"tie_word_embeddings": False})
    first, second = (read_pair(name, SEED_A[1])[0].target_bytes for name in (tied, own))

    assert second - first == 2 * 512 * 64


def test_the_sidecar_of_a_draft_has_its_acceptance(tmp_path: Path) -> None:
    expected = {
        "acceptance_rate_conditional": [0.8, 0.7, 0.6],
        "tokens_per_verify": {"1": 1.8, "2": 2.36, "3": 2.7},
        "num_rounds": 1000,
        "target": "T",
    }
    sidecar = {"schema": 1, "config_sha256": "0", "expected_acceptance": expected}
    draft = write(tmp_path / "draft", config=SEED_A_CONFIG, eagle3=sidecar)
    _, acceptance = read_pair(SEED_A[0], draft)

    assert acceptance.basis == "measured"
    assert acceptance.source == f"{draft}: eagle3.json, measured with T"


def test_the_shape_of_a_draft_is_that_of_its_weights() -> None:
    """Seed A has 218,429,056 parameters: these, four norms of 2560, and the vocabulary maps."""
    found = draft_shape_of(SEED_A_CONFIG)

    assert found.pass_params + found.fc_params + 4 * 2560 + 32000 + 151936 == 218_429_056
    assert found == DraftShape(198_574_080, 3 * 2560 * 2560, 2 * 8 * 128 * 2)


def test_speculators_nests_the_layer_and_lists_the_taps() -> None:
    config = {
        "transformer_layer_config": {k: v for k, v in SEED_A_CONFIG.items() if "draft" not in k},
        "draft_vocab_size": 32000,
        "eagle_aux_hidden_state_layer_ids": [2, 18, 33],
    }

    assert draft_shape_of(config) == draft_shape_of(SEED_A_CONFIG)


def test_fewer_taps_of_a_narrower_target_make_a_smaller_fc() -> None:
    config = SEED_A_CONFIG | {
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": [2, 18]},
        "target_hidden_size": 1024,
    }

    assert draft_shape_of(config).fc_params == 2 * 1024 * 2560


def test_a_config_without_sizes_names_all_that_are_missing(tmp_path: Path) -> None:
    draft = write(tmp_path / "draft", config={"vocab_size": 10})
    with pytest.raises(DraftError) as error:
        read_pair(SEED_A[0], draft)
    for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
        assert f"{name} is absent; expected a positive integer" in error.value.message
    with pytest.raises(TargetError, match="lacks what the cost of a step depends on"):
        read_pair(draft, SEED_A[1])
