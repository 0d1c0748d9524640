"""config.json as vLLM reads it rightly: boundaries at the top level, for both of its runners."""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json, TargetConfig
from eagle3_plugin.draft.dialects import vllm as vllm_dialect

ARCHITECTURES = {"llama": "Eagle3LlamaDraft", "qwen3": "Eagle3Qwen3Draft"}
"""Our classes under names of their own; they start with Eagle3, so that vLLM keeps them."""


def engine_config(config: DraftConfig, target: TargetConfig) -> Json:
    """config.json of the vLLM dialect, plus what our classes need beyond it.

    Taps are ascending, as vLLM captures them; `models.py` reorders fc's columns to match.
    `bias` gives the Llama class an o_proj bias without biases on q, k and v.
    """
    written = vllm_dialect.write_config(config)
    written["architectures"] = [ARCHITECTURES[config.decoder]]
    written["eagle_aux_hidden_state_layer_ids"] = sorted(config.taps_for(target.num_layers))
    written["num_aux_hidden_states"] = config.num_taps
    written["draft_vocab_size"] = config.draft_vocab_size
    written["bias"] = config.attention_output_bias
    return written
