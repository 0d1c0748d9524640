"""Whatever is in config.json, eagle3.json and the tensor table: a clear error or a draft."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.convert import config_for
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import WRITABLE, examine, read_draft
from eagle3_plugin.draft.sidecar import new_sidecar
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.draft.tensors import expected_tensors, num_parameters
from eagle3_plugin.engines.names import is_ours
from eagle3_plugin.errors import CannotExpressError, DraftError, Eagle3Error, TargetError
from tests.drafts import draft_config
from tests.stored import NUM_BYTES, Shapes, draft_shapes

TAP_IDS = "eagle_aux_hidden_state_layer_ids"
SIZES: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "head_dim": 4,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "model_type": "llama",
}
FLAT = SIZES | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 16}
SPECULATORS = {
    "architectures": ["Eagle3DraftModel"],
    "speculators_model_type": "eagle3",
    "draft_vocab_size": 16,
    "norm_before_residual": False,
    "transformer_layer_config": SIZES,
}
KEYS = (
    *FLAT,
    *SPECULATORS,
    TAP_IDS,
    "aux_hidden_states_layer_ids",
    "modal_type",
    "target_model_type",
    "eagle_config",
    "target_hidden_size",
    "num_aux_hidden_states",
    "norm_before_fc",
    "fc_norm",
    "use_aux_norm",
    "norm_output",
    "attention_bias",
    "tie_word_embeddings",
    "rope_scaling",
    "rope_parameters",
    "rope_type",
    "type",
    "factor",
    "mrope_section",
    "mrope_interleaved",
    "layer_types",
    "quantization_config",
    "text_config",
    "vision_config",
    "num_experts",
    "use_aux_hidden_state",
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.sampled_from(["llama", "qwen3", "yarn", "LlamaForCausalLM", "Eagle3LlamaForCausalLM"]),
    st.lists(st.integers(-1, 40), max_size=5),
)
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=6,
)
CHANGES = st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=5)
CONFIGS = st.builds(
    lambda base, changes: base | changes, st.sampled_from([FLAT, SPECULATORS, {}]), CHANGES
)
TABLE: Shapes = draft_shapes(
    hidden=8, intermediate=12, heads=2, kv_heads=1, head_dim=4, vocab=32, draft_vocab=16
)
NAMES = (*TABLE, "embed_tokens.weight", "fc.bias", "fc_norm.0.weight", "layers.1.x", "layers.", "")
ENTRIES = st.tuples(
    st.sampled_from(sorted(NUM_BYTES)), st.lists(st.integers(0, 33), max_size=3).map(tuple)
)
TABLES = st.builds(
    lambda gone, more: {n: e for n, e in TABLE.items() if n not in gone} | more,
    st.sets(st.sampled_from(sorted(TABLE)), max_size=2),
    st.dictionaries(st.sampled_from(NAMES), ENTRIES, max_size=3),
)
SETTLED = st.builds(
    Settle,
    dialect=st.sampled_from([None, None, *WRITABLE, "eagle", "modelopt", "angelslim", "mnn"]),
    taps=st.sampled_from([None, (2, 18, 33), (1, 2), (5, 5, 5), (3, 2, 1)]),
    ids=st.sampled_from([None, "output", "boundary"]),
    residual=st.sampled_from([None, "raw", "normed"]),
    feedback=st.sampled_from([None, "prenorm", "postnorm"]),
    target_num_layers=st.sampled_from([None, 1, 36]),
)
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class MemorySource:
    """A checkpoint that is nowhere but here."""

    files: dict[str, bytes]
    name: str = "memory"
    revision: None = None

    def sizes(self) -> dict[str, int]:
        return {name: len(data) for name, data in self.files.items()}

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        return self.files[file][start : None if length is None else start + length]

    def local(self, file: str) -> Path | None:
        return None

    def path(self, file: str) -> Path:
        raise AssertionError(f"reading must not fetch {file}")


def weights(shapes: Shapes) -> bytes:
    table, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + NUM_BYTES[dtype] * math.prod(shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def checkpoint(config: Any, shapes: Shapes, eagle3: Any = None) -> Checkpoint:
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": weights(shapes)}
    if eagle3 is not None:
        files["eagle3.json"] = json.dumps(eagle3).encode()
    return Checkpoint.open(MemorySource(files))


def error_of(action: Callable[[], object]) -> Eagle3Error | None:
    """What the action refuses with; anything but an Eagle3Error is a traceback."""
    try:
        action()
    except Eagle3Error as error:
        return error
    return None


def read_or_refuse(found: Checkpoint, settle: Settle) -> None:
    """A draft whose table is the file's, or an error with problems: nothing else."""
    error = error_of(lambda: read_draft(found, settle))
    if error is not None:
        assert isinstance(error, DraftError)
        assert error.problems
        assert error.problems == examine(found, settle).problems
        return
    draft = read_draft(found, settle)
    assert set(expected_tensors(draft.config)) == set(draft.names) - {"d2t"}
    assert num_parameters(draft.config) > 0
    for dialect in WRITABLE:
        refused = error_of(partial(config_for, draft.config, dialect))
        assert refused is None or isinstance(refused, CannotExpressError)


def test_the_unchanged_files_are_sound() -> None:
    assert read_draft(checkpoint(FLAT, TABLE)).dialect == "sglang"
    assert read_draft(checkpoint(SPECULATORS, TABLE)).dialect == "speculators"


@FUZZ
@given(config=CONFIGS, settle=SETTLED)
def test_no_config_makes_a_traceback(config: dict[str, Any], settle: Settle) -> None:
    read_or_refuse(checkpoint(config, TABLE), settle)


@FUZZ
@given(config=st.sampled_from([FLAT, SPECULATORS]), shapes=TABLES, settle=SETTLED)
def test_no_tensor_table_makes_a_traceback(
    config: dict[str, Any], shapes: Shapes, settle: Settle
) -> None:
    read_or_refuse(checkpoint(config, shapes), settle)


@FUZZ
@given(config=CONFIGS, shapes=TABLES)
def test_no_pair_of_the_two_makes_a_traceback(config: dict[str, Any], shapes: Shapes) -> None:
    read_or_refuse(checkpoint(config, shapes), Settle())


@FUZZ
@given(
    top=st.dictionaries(st.sampled_from(["schema", "draft", "config_sha256", "x"]), JUNK),
    draft=st.dictionaries(
        st.sampled_from(["num_layers", "taps", "num_taps", "rope", "dtype"]), JUNK
    ),
    settle=SETTLED,
)
def test_no_eagle3_json_makes_a_traceback(
    top: dict[str, Any], draft: dict[str, Any], settle: Settle
) -> None:
    kept = new_sidecar(draft_config(), FLAT, {})
    kept["draft"] |= draft

    read_or_refuse(checkpoint(FLAT, TABLE, kept | top), settle)


@FUZZ
@given(config=CONFIGS)
def test_no_target_config_makes_a_traceback(config: dict[str, Any]) -> None:
    error = error_of(lambda: target_from_config(config))

    assert error is None or isinstance(error, TargetError)


@FUZZ
@given(config=CONFIGS)
def test_no_config_confuses_the_question_whether_a_draft_is_ours(config: dict[str, Any]) -> None:
    assert is_ours(config) in (True, False)
