"""The two seed drafts at full size: inspected, checked and converted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eagle3_plugin.draft.check import check
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig, TargetConfig
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED
from eagle3_plugin.draft.inspect import inspection
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.rules.rule import Engine
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.hub import resolve
from tests.drafts import read
from tests.seeds import NUM_PARAMETERS_A, NUM_PARAMETERS_B, write_seed_a, write_seed_b
from tests.targets import QWEN3_4B, QWEN3_VL_2B

TAP_IDS = "eagle_aux_hidden_state_layer_ids"
TARGET_A = target_from_config(QWEN3_4B)
TARGET_B = target_from_config(QWEN3_VL_2B)

DRAFT_A = DraftConfig.model_validate(
    {
        "decoder": "llama",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_layers": 1,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "draft_vocab_size": 32000,
        "target_hidden_size": 2560,
        "taps": "default",
        "num_taps": 3,
        "residual": "raw",
        "fc_input_norm": "none",
        "feedback": "prenorm",
        "attention_bias": False,
        "attention_output_bias": False,
        "fc_bias": False,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 40960,
        "rope": {"theta": 1e6},
        "embedding": "target",
        "lm_head": "own",
        "has_vocab_map": True,
        "dtype": "BF16",
    }
)
DRAFT_B = DraftConfig.model_validate(
    DRAFT_A.model_dump()
    | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "target_hidden_size": 2048,
        "max_position_embeddings": 262144,
        "rope": {"theta": 5e6, "mrope_section": (24, 20, 20), "mrope_interleaved": True},
    }
)
VLLM_A = {
    "architectures": ["Eagle3LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "vocab_size": 151936,
    "draft_vocab_size": 32000,
    "target_hidden_size": 2560,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    TAP_IDS: [2, 18, 33],
}
"""What the card of A asks its vLLM readers to write by hand."""


@pytest.fixture(scope="module")
def seed_a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seed_a(tmp_path_factory.mktemp("a"))


@pytest.fixture(scope="module")
def seed_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seed_b(tmp_path_factory.mktemp("b"))


@pytest.mark.parametrize(
    ("write", "num_parameters"),
    [(write_seed_a, NUM_PARAMETERS_A), (write_seed_b, NUM_PARAMETERS_B)],
)
def test_a_seed_has_the_published_number_of_parameters(
    write: Callable[[Path], Path], num_parameters: int, tmp_path: Path
) -> None:
    checkpoint = Checkpoint.open(resolve(str(write(tmp_path))))

    counted = sum(math.prod(t.shape) for t in checkpoint.tensors.values())

    assert counted == num_parameters
    assert inspection(read_draft(checkpoint))["num_parameters"] == num_parameters


def test_seed_a_reads_as_specforge_trained_it(seed_a: Path) -> None:
    draft = read(seed_a)

    assert (draft.dialect, draft.config, draft.notes) == ("sglang", DRAFT_A, ())
    assert draft.config.taps_for(TARGET_A.num_layers) == (2, 18, 33)


def test_seed_b_reads_as_mnn_trained_it_and_its_tie_flag_is_told(seed_b: Path) -> None:
    draft = read(seed_b)

    assert (draft.dialect, draft.config) == ("mnn", DRAFT_B)
    assert [note.id for note in draft.notes] == ["tie-flag"]
    assert draft.config.taps_for(TARGET_B.num_layers) == (2, 14, 25)


def errors(folder: Path, target: TargetConfig, engine: Engine) -> list[str]:
    """What the stock engine would get wrong."""
    checkpoint = Checkpoint.open(resolve(str(folder)))
    report = check(checkpoint, target, engine, plugin=False, settle=NOTHING_SETTLED)
    return [finding.id for finding in report.findings if finding.severity == "error"]


def test_a_seed_is_inspected_and_checked_in_no_time(seed_a: Path) -> None:
    started = time.process_time()

    inspection(read(seed_a), TARGET_A)
    errors(seed_a, TARGET_A, "vllm")

    assert time.process_time() - started < 2


def test_stock_vllm_reads_both_seeds_rightly(seed_a: Path, seed_b: Path) -> None:
    assert errors(seed_a, TARGET_A, "vllm") == []
    assert errors(seed_b, TARGET_B, "vllm") == []


def test_stock_sglang_wants_a_shorter_context_for_seed_a(seed_a: Path) -> None:
    assert errors(seed_a, TARGET_A, "sglang") == ["max-positions"]


def test_stock_sglang_throws_the_head_of_seed_b_away_until_it_is_converted(
    seed_b: Path, tmp_path: Path
) -> None:
    convert(read(seed_b), tmp_path / "out", "universal", target=TARGET_B)

    assert errors(seed_b, TARGET_B, "sglang") == ["tie-flag"]
    assert errors(tmp_path / "out", TARGET_B, "sglang") == []
    assert errors(tmp_path / "out", TARGET_B, "vllm") == []


def test_the_tie_trap_of_seed_b_is_explained(seed_b: Path) -> None:
    checkpoint = Checkpoint.open(resolve(str(seed_b)))
    report = check(checkpoint, TARGET_B, "sglang", plugin=False, settle=NOTHING_SETTLED)

    trap = report.findings[0]

    assert trap.id == "tie-flag"
    assert trap.found == (
        "tie_word_embeddings is true, and the file has an lm_head of its own with 32000 rows"
    )
    assert trap.stock == (
        "Stock SGLang 0.5.23 takes embed_tokens for the lm_head: the head in the file has no place "
        "and is thrown away, in silence; the first ids of the vocabulary are proposed, nothing "
        "accepted."
    )
    assert trap.remedy == (
        f"Run: eagle3 convert {seed_b} OUT --to universal --target TARGET; then serve OUT."
    )


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_with_the_plugin_seed_b_leaves_two_questions_about_images(
    seed_b: Path, engine: Engine
) -> None:
    checkpoint = Checkpoint.open(resolve(str(seed_b)))
    report = check(checkpoint, TARGET_B, engine, plugin=True, settle=NOTHING_SETTLED)

    assert report.ok
    assert [f.id for f in report.findings if f.severity == "warning"] == [
        "image-embedding-unknown",
        "deepstack-unknown",
    ]


@pytest.mark.parametrize("dialect", ["sglang", "speculators", "universal", "vllm"])
@pytest.mark.parametrize("seed", ["seed_a", "seed_b"])
def test_a_seed_is_converted_to_every_dialect(
    seed: str, dialect: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    draft = read(request.getfixturevalue(seed))

    done = convert(draft, tmp_path / "out", dialect)

    again = read(tmp_path / "out")
    assert again.config == draft.config
    assert done.num_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    )


def test_the_vllm_config_of_seed_a_is_the_one_its_card_asks_for(
    seed_a: Path, tmp_path: Path
) -> None:
    convert(read(seed_a), tmp_path / "out", "vllm", target=TARGET_A)

    assert json.loads((tmp_path / "out" / "config.json").read_text()) == VLLM_A


def test_seed_b_keeps_its_rope_and_names_its_taps_in_either_place(
    seed_b: Path, tmp_path: Path
) -> None:
    convert(read(seed_b), tmp_path / "out", "universal", target=TARGET_B)

    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["rope_theta"] == 5000000.0
    assert written["rope_scaling"] == {
        "rope_type": "default",
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    }
    assert written[TAP_IDS] == [2, 14, 25]
    assert written["eagle_config"] == {TAP_IDS: [1, 13, 24], "use_aux_hidden_state": True}
