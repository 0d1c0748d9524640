"""Reading a checkpoint: what a sound draft says, and how its dialect is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.errors import UsageError
from tests.drafts import draft_config, edit_config, read, write_random
from tests.reading import checkpoint, problems
from tests.stored import edit_tensors, set_offsets


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
    edit_tensors(folder, midlayer__self_attn__q_proj__weight=("BF16", (64, 64)))

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
