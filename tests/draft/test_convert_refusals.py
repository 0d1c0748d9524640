"""What conversion refuses to write, and what it says is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from eagle3_plugin.draft.config import Rope, TargetConfig
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects import vllm
from eagle3_plugin.errors import CannotExpressError, DraftError, OutputError, UsageError
from tests.drafts import draft_config, read, write_random
from tests.variants import ALL, VARIANTS, open_draft, variant

TARGET = TargetConfig(
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
SGLANG = "SGLang 0.5.23: "
STOCK_VLLM = "vLLM 0.32: "
QWEN3 = SGLANG + "q_norm and k_norm are dropped"
NORMED = SGLANG + "norm_before_residual is not read: the residual would be the raw state"
LAYERS = SGLANG + (
    "2 layers: those after the first read a hidden_norm that no draft has, and not their "
    "input_layernorm"
)
NO_FC = SGLANG + "fc is skipped, since its input is as wide as its output"
EMBEDDING = SGLANG + "the draft's own embedding is replaced by the target's"
BIASES = SGLANG + "attention biases are dropped"
FACTOR = SGLANG + "yarn's attention_factor is not read"
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
    ("one tap", "sglang", [NO_FC]),
    ("one tap", "universal", [NO_FC]),
    ("own embedding", "sglang", [EMBEDDING]),
    ("own embedding", "universal", [EMBEDDING]),
    ("the embedding as a tap", "sglang", [ZERO]),
    ("four taps", "speculators", [FOUR]),
    ("yarn with a factor of its own", "sglang", [FACTOR]),
    ("yarn with a factor of its own", "universal", [FACTOR]),
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
        "Serve the draft as it is with the plugin (no conversion needed), or write "
        "it as speculators or vllm."
    )


def test_a_refusal_says_so_when_no_dialect_can_hold_the_draft(tmp_path: Path) -> None:
    draft = read(write_random(tmp_path / "source", draft_config(fc_bias=True), "vllm"))

    with pytest.raises(CannotExpressError) as caught:
        convert(draft, tmp_path / "out", "sglang")

    assert caught.value.hint == (
        "Serve the draft as it is with the plugin (no conversion needed): no "
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
    target = TargetConfig.model_validate(TARGET.model_dump() | {"hidden_size": 128})

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


def test_a_writer_that_does_not_say_what_it_should_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = read(write_random(tmp_path / "source", draft_config()))
    right = vllm.write_config(draft.config)
    monkeypatch.setattr(vllm, "write_config", lambda config: right | {"rms_norm_eps": 1e-5})

    with pytest.raises(OutputError) as caught:
        convert(draft, tmp_path / "out", "vllm")

    assert (
        caught.value.message == f"{tmp_path / 'out'} was written, but reads back as another draft"
    )
    assert caught.value.hint == (
        "This is a bug of eagle3_plugin; please report it with both config.json."
    )
