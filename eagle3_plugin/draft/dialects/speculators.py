"""The speculators format (RedHatAI, vLLM's own trainer), in all its vintages.

The decoder layer's sizes are nested in `transformer_layer_config`; tap ids are boundaries at the
top level. `norm_before_residual` is false when absent in the library (0.9.0) and true when absent
in vLLM 0.32 (transformers_utils/configs/speculators/algos.py:34): absent is ambiguous.
"""

from __future__ import annotations

from typing import Any

from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.draft.dialects import vllm
from eagle3_plugin.draft.dialects.llama_config import layer_fields
from eagle3_plugin.draft.dialects.names import layers_name
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.errors import Problem

NAME = "speculators"
TITLE = "speculators, RedHatAI"
ARCHITECTURES = ("Eagle3Speculator", "Eagle3DraftModel")
LAYER_SECTION = "transformer_layer_config"
NORM_OUTPUT_IS_AMBIGUOUS = False
IDS = vllm.IDS
stored_name = layers_name
read_taps = vllm.read_taps


def evidence(stored: Stored) -> list[str]:
    keys = ("speculators_model_type", "speculators_config", LAYER_SECTION)
    return [f"config.json has {key}" for key in keys if stored.config.get(key) is not None]


def write_config(config: DraftConfig) -> Json:
    layer = layer_fields(config)
    dtype = layer.pop("torch_dtype")
    layer["architectures"] = [
        "Qwen3ForCausalLM" if config.decoder == "qwen3" else "LlamaForCausalLM"
    ]
    taps: dict[str, Any] = {}
    if config.taps != "default":
        taps["eagle_aux_hidden_state_layer_ids"] = list(config.taps)
    return {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_version": "0.9.0",
        "draft_vocab_size": config.draft_vocab_size,
        "target_hidden_size": config.target_hidden_size,
        "norm_before_residual": config.residual == "normed",
        "norm_before_fc": config.fc_input_norm == "joint",
        "fc_norm": config.fc_input_norm == "per_tap",
        "norm_output": config.feedback == "postnorm",
        **taps,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}],
            "verifier": {"name_or_path": None, "architectures": []},
        },
        LAYER_SECTION: layer,
    }


def losses(config: DraftConfig) -> list[Problem]:
    """What stock vLLM 0.32, the engine of this format, would get wrong."""
    found = vllm.losses(config)
    if config.decoder == "llama" and config.num_taps != 3:
        message = (
            f"vLLM 0.32: the Llama class makes an fc for three taps, the draft has "
            f"{config.num_taps}, and this format has no field that tells it"
        )
        found.append(Problem("stock-vllm", message))
    return found
