"""Architecture names of EAGLE-3 drafts with Llama or Qwen3 layers, as seen in published configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eagle3_plugin.draft.dialects.fields import architecture_of

LLAMA_NAMES = (
    "LlamaForCausalLMEagle3",
    "Eagle3LlamaForCausalLM",
    "Eagle3Speculator",
    "Eagle3DraftModel",
)
QWEN3_NAMES = ("Qwen3ForCausalLMEagle3", "Eagle3Qwen3ForCausalLM")
QWEN3_VL_NAMES = ("Eagle3Qwen3vlForCausalLM", "Qwen3VLForConditionalGenerationEagle3")
PLAIN_NAMES = ("LlamaForCausalLM", "Qwen3ForCausalLM")
"""SafeAILab/EAGLE gives its drafts the name of an ordinary model."""

DRAFT_NAMES = (*LLAMA_NAMES, *QWEN3_NAMES, *QWEN3_VL_NAMES)


def is_our_target(config: Mapping[str, Any]) -> bool:
    """Whether a target's config.json is of the Qwen3 family; pairs of others stay the engine's."""
    return str(config.get("model_type")).startswith("qwen3")


def is_ours(config: Mapping[str, Any]) -> bool:
    """Whether a draft's config.json is one that this package reads.

    Other EAGLE-3 families (DeepSeek, MiniMax, P-EAGLE) are left to the engine.
    """
    if config.get("speculators_model_type") is not None:
        return bool(config["speculators_model_type"] == "eagle3")
    return architecture_of(config) in (*DRAFT_NAMES, *PLAIN_NAMES)
