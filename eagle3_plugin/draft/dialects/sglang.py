"""SGLang's own dialect, which SpecForge writes and lmsys publishes.

Tap ids: `eagle_config.eagle_aux_hidden_state_layer_ids`, output ids. SGLang adds one to each for
every Qwen target (SGLang 0.5.23 models/qwen3.py:778-791) and ignores ids at the top level.
"""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.dialects.llama_config import draft_fields, layer_fields
from eagle3_plugin.draft.dialects.names import midlayer_name
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import Convention, Ids, StoredIds, output_ids, read_ids
from eagle3_plugin.errors import Problem

NAME = "sglang"
TITLE = "SGLang, SpecForge, lmsys"
ARCHITECTURES = ("LlamaForCausalLMEagle3", "Qwen3ForCausalLMEagle3")
NORM_OUTPUT_IS_AMBIGUOUS = True
IDS: Convention = "output"
stored_name = midlayer_name


def evidence(stored: Stored) -> list[str]:
    name = architecture_of(stored.config)
    return [f"architectures is {name}"] if name in ARCHITECTURES else []


def read_taps(ids: StoredIds, settle: Settle) -> Ids | Problem | None:
    """Boundaries from either place: each says by itself which convention it holds."""
    return read_ids(ids, settle.ids, settle.target_num_layers)


def write_config(config: DraftConfig) -> Json:
    architecture = ARCHITECTURES[config.decoder == "qwen3"]
    written: Json = {"architectures": [architecture]}
    written |= layer_fields(config) | draft_fields(config)
    if config.taps != "default":
        written["eagle_config"] = {
            "eagle_aux_hidden_state_layer_ids": output_ids(config.taps),
            "use_aux_hidden_state": True,
        }
    return written


def losses(config: DraftConfig) -> list[Problem]:
    """What stock SGLang 0.5.23 would ignore or refuse (models/llama_eagle3.py)."""
    found = []
    if config.decoder == "qwen3":
        found.append("q_norm and k_norm are dropped")
    if config.residual == "normed":
        found.append("norm_before_residual is not read: the residual would be the raw state")
    if config.attention_bias or config.attention_output_bias:
        found.append("attention biases are dropped")
    if config.num_taps * config.target_hidden_size == config.hidden_size:
        found.append("fc is skipped, since its input is as wide as its output")
    if config.fc_bias:
        found.append("the bias of fc is dropped")
    if config.num_layers > 1:
        found.append(
            f"{config.num_layers} layers: those after the first read a hidden_norm that no draft "
            "has, and not their input_layernorm"
        )
    if config.embedding == "own" and config.hidden_size == config.target_hidden_size:
        found.append("the draft's own embedding is replaced by the target's")
    if config.taps != "default" and list(config.taps) != sorted(config.taps):
        found.append(f"taps {list(config.taps)} are captured in ascending order")
    if config.taps != "default" and 0 in config.taps:
        found.append("boundary 0 (the embedding) has no output id")
    scaled = config.rope.type != "default"
    if scaled and config.rope.mrope_section is not None:
        found.append(f"M-RoPE with a rope of type {config.rope.type}: the scaling is dropped")
    elif not config.rope.is_usual_yarn:
        found.append("yarn's attention_factor is not read")
    return [Problem("stock-sglang", f"SGLang 0.5.23: {what}") for what in found]
