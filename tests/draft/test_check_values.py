"""What the check does with weights, with files of real size, and with configs of no sense."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eagle3_plugin.draft.check import check
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.hub import FolderSource
from tests.draft.check_cases import TAP_IDS, Trip, opened, run, target_config
from tests.drafts import draft_config, write_random
from tests.stored import draft_shapes, load_tensors, save_tensors, write_sparse


def test_a_big_tensor_is_sampled_over_its_whole_length_and_the_finding_says_so(
    tmp_path: Path,
) -> None:
    config = draft_config(draft_vocab_size=16384, vocab_size=16385)
    path = write_random(tmp_path / "draft", config)
    table = load_tensors(path)
    dtype, shape, data = table["lm_head.weight"]
    infinity = b"\x80\x7f"
    save_tensors(path, table | {"lm_head.weight": (dtype, shape, data[:-2] + infinity)})
    report = run(Trip("", {}, target={"vocab_size": 16385}), path, "vllm")
    assert [(f.id, f.found) for f in report.findings] == [
        (
            "tensor-not-finite",
            "lm_head.weight: 1 of a sample of 262144 values are NaN or infinite",
        ),
        ("weights-not-read", "of 1 tensor(s) above 1 MiB, a sample of 512 KiB was looked at"),
    ]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("BF16", b"\x80\xff"), ("F16", b"\x01\x7c"), ("F32", b"\0\0\x80\x7f"),
     ("F64", b"\0\0\0\0\0\0\xf8\x7f")],
)  # fmt: skip
def test_values_that_are_not_finite_are_seen_in_every_type(
    tmp_path: Path, dtype: str, value: bytes
) -> None:
    path = write_random(tmp_path / "draft", draft_config(dtype=dtype))
    table = load_tensors(path)
    _, shape, data = table["norm.weight"]
    save_tensors(path, table | {"norm.weight": (dtype, shape, value + data[len(value) :])})
    found = [f.found for f in run(Trip("", {}), path, "vllm").findings if f.severity == "error"]
    assert found == ["norm.weight: 1 of 64 values are NaN or infinite"]


class FarSource(FolderSource):
    """A folder whose weights would have to be fetched."""

    def local(self, file: str) -> Path | None:
        return None if file.endswith(".safetensors") else super().local(file)

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        with (self.folder / file).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if length is None else length)


def test_weights_that_are_far_away_are_not_fetched_and_the_report_says_so(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config())
    report = check(
        Checkpoint.open(FarSource(path, "org/draft")), target_config(), "vllm",
        plugin=False, settle=NOTHING_SETTLED, engine_version="0.32.0",
    )  # fmt: skip
    assert [(f.id, f.found) for f in report.findings] == [
        ("weights-not-read", "the weights are not on this machine: no value was looked at")
    ]


QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2560,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 262144, "rope_theta": 5000000,
    "tie_word_embeddings": True,
}  # fmt: skip
DRAFT_A = {
    "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": 2560,
    "intermediate_size": 9728, "num_hidden_layers": 1, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "draft_vocab_size": 32000,
    "max_position_embeddings": 40960, "rope_theta": 1000000, "rope_scaling": None,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}  # fmt: skip


SEVERITIES = ("error", "warning", "info")
A_WIDTHS = {"hidden": 2560, "intermediate": 9728, "heads": 32, "kv_heads": 8}
MROPE_B = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
SIZES_B = {
    "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 262144, "rope_theta": 5000000,
    "rope_scaling": MROPE_B,
}  # fmt: skip
QWEN3_VL_2B = {
    "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": SIZES_B | {"model_type": "qwen3_vl_text", "num_hidden_layers": 28},
    "vision_config": {"deepstack_visual_indexes": [5, 11, 17]},
}  # fmt: skip
DRAFT_B = SIZES_B | {
    "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama",
    "target_model_type": "qwen3_vl", "intermediate_size": 6144, "num_hidden_layers": 1,
    "draft_vocab_size": 32000, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}  # fmt: skip
B_WIDTHS = {"hidden": 2048, "intermediate": 6144, "heads": 16, "kv_heads": 8}


@pytest.mark.parametrize(
    ("draft", "widths", "target", "engine", "expected"),
    [
        (DRAFT_A, A_WIDTHS, QWEN3_4B, "vllm", "? rope-unlike-target ! weights-not-read "
         "max-positions"),
        (DRAFT_A, A_WIDTHS, QWEN3_4B, "sglang", "max-positions ? rope-unlike-target ! "
         "weights-not-read"),
        (DRAFT_B, B_WIDTHS, QWEN3_VL_2B, "vllm", "? mrope-v2-runner image-key-slots "
         "image-embedding-unknown deepstack-unknown ! weights-not-read tie-flag"),
        (DRAFT_B, B_WIDTHS, QWEN3_VL_2B, "sglang", "tie-flag ? image-embedding-unknown "
         "deepstack-unknown ! weights-not-read chat-template-images"),
    ],
)  # fmt: skip
def test_a_draft_of_the_size_and_config_of_a_published_one_is_checked_in_less_than_two_seconds(
    tmp_path: Path, draft: Any, widths: Any, target: Any, engine: Any, expected: str
) -> None:
    """expected: errors, ? warnings, ! what is only told."""
    path = write_sparse(
        tmp_path / "draft", draft, draft_shapes(**widths, head_dim=128, vocab=151936)
    )
    start = time.process_time()
    report = check(
        opened(path), target_from_config(target), engine,
        plugin=False, settle=NOTHING_SETTLED, engine_version=None,
    )  # fmt: skip
    assert time.process_time() - start < 2
    found = {s: [f.id for f in report.findings if f.severity == s] for s in SEVERITIES}
    found["info"].remove("engine-version-unknown")
    warnings, infos = expected.split("!")
    errors, _, warned = warnings.partition("?")
    assert found == dict(
        zip(SEVERITIES, (errors.split(), warned.split(), infos.split()), strict=True)
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 200) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
KEYS = (
    "architectures", "model_type", "hidden_size", "num_hidden_layers", "head_dim", "eagle_config",
    TAP_IDS, "draft_vocab_size", "target_hidden_size", "rope_theta", "rope_scaling",
    "rope_parameters", "norm_before_residual", "fc_norm", "norm_output", "attention_bias", "bias",
    "tie_word_embeddings", "speculators_config", "transformer_layer_config", "num_aux_layers",
    "num_aux_hidden_states", "speculators_model_type", "max_position_embeddings",
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON_VALUES, max_size=4))
def test_no_config_makes_the_check_fail_otherwise_than_with_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    if not path.exists():
        write_random(path, draft_config())
    checkpoint = opened(path)
    config = checkpoint.config | changes
    fuzzed = dataclasses.replace(checkpoint, config=config)
    for engine, plugin in (("vllm", False), ("vllm", True), ("sglang", False), ("sglang", True)):
        try:
            report = check(
                fuzzed, target_config(), engine, plugin=plugin, settle=NOTHING_SETTLED,  # type: ignore[arg-type]
            )  # fmt: skip
            json.dumps(report.to_json())
        except Eagle3Error:
            pass
