"""vLLM's own flat dialect: tap ids at the top level, boundaries, read as they are."""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.dialects.llama_config import draft_fields, layer_fields
from eagle3_plugin.draft.dialects.names import layers_name
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import Convention, Ids, StoredIds, read_ids
from eagle3_plugin.errors import Problem

NAME = "vllm"
TITLE = "vLLM"
ARCHITECTURES = ("Eagle3LlamaForCausalLM", "Eagle3Qwen3ForCausalLM", "Eagle3Qwen3vlForCausalLM")
NORM_OUTPUT_IS_AMBIGUOUS = False
IDS: Convention = "boundary"
stored_name = layers_name


def evidence(stored: Stored) -> list[str]:
    found = []
    if architecture_of(stored.config) in ARCHITECTURES:
        found.append(f"architectures is {architecture_of(stored.config)}")
    if stored.config.get("eagle_aux_hidden_state_layer_ids"):
        found.append("eagle_aux_hidden_state_layer_ids at the top level")
    return found


def read_taps(ids: StoredIds, settle: Settle) -> Ids | Problem | None:
    """Boundaries from either place: each says by itself which convention it holds."""
    return read_ids(ids, settle.ids, settle.target_num_layers)


def write_config(config: DraftConfig) -> Json:
    architecture = ARCHITECTURES[config.decoder == "qwen3"]
    written: Json = {"architectures": [architecture]}
    written |= layer_fields(config) | draft_fields(config)
    if config.taps != "default":
        written["eagle_aux_hidden_state_layer_ids"] = list(config.taps)
    return written


def losses(config: DraftConfig) -> list[Problem]:
    """What stock vLLM 0.32 would ignore or leave uninitialised (models/llama_eagle3.py)."""
    found = []
    if config.taps != "default" and list(config.taps) != sorted(config.taps):
        found.append(f"taps {list(config.taps)} are captured in ascending order")
    if config.has_vocab_map and config.draft_vocab_size == config.vocab_size:
        found.append("a vocabulary map of the full vocabulary has no place: loading fails")
    if config.fc_bias:
        found.append("the bias of fc has no place")
    if config.decoder == "llama" and config.attention_bias and not config.attention_output_bias:
        found.append("the Llama class makes an o_proj bias that the draft lacks: uninitialised")
    if config.decoder == "qwen3" and config.attention_output_bias:
        found.append("the Qwen3 class has no o_proj bias")
    if config.attention_output_bias and not config.attention_bias:
        found.append("an o_proj bias without q, k and v biases cannot be spelled")
    scaled = config.rope.type not in ("default", "yarn")
    if scaled and config.rope.mrope_section is not None:
        found.append(f"M-RoPE with a rope of type {config.rope.type} has no class")
    return [Problem("stock-vllm", f"vLLM 0.32: {what}") for what in found]
