"""Writes the flat, Llama-like config.json that the SGLang and vLLM dialects share."""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.draft.dialects.rope import write_rope

_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


def layer_fields(config: DraftConfig) -> Json:
    """Sizes, rope and biases of the decoder layer, as transformers spells them."""
    return {
        "model_type": config.decoder,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        **write_rope(config.rope),
        "attention_bias": config.attention_bias,
        "tie_word_embeddings": False,
        "torch_dtype": _TORCH_NAMES[config.dtype],
    }


def draft_fields(config: DraftConfig) -> Json:
    """What makes it an EAGLE-3 draft, in the flat spelling of both engines.

    `draft_vocab_size` is null when the lm_head is the target's: that is how SGLang is told to
    share it, and vLLM then takes the vocabulary's size.
    """
    fields: Json = {
        "draft_vocab_size": config.draft_vocab_size if config.lm_head == "own" else None,
        "target_hidden_size": config.target_hidden_size,
    }
    if config.num_taps != 3:
        fields["num_aux_hidden_states"] = config.num_taps
    if config.residual == "normed":
        fields["norm_before_residual"] = True
    if config.fc_input_norm == "joint":
        fields["norm_before_fc"] = True
    if config.fc_input_norm == "per_tap":
        fields["fc_norm"] = True
    if config.feedback == "postnorm":
        fields["norm_output"] = True
    return fields
