"""The parts of published configs, in the words of their publishers.

Values are quoted from the projects' own files (SafeAILab/EAGLE cb7e084, SpecForge a6b6b02,
wangzhaode/SpecForge c5036ee, AngelSlim 46b1b38 and 7674abd, RedHatAI, nm-testing, ModelOpt); the
weights are zeros of the real shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED, Settle
from tests.stored import Shapes, draft_shapes

TAP_IDS = "eagle_aux_hidden_state_layer_ids"


@dataclass(frozen=True)
class Sizes:
    """hidden, intermediate, heads, kv heads, head_dim, vocabulary."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int = 128
    vocab: int = 151936

    def keys(self) -> dict[str, Any]:
        """As config.json spells them."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "num_hidden_layers": 1,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "hidden_act": "silu",
        }

    def shapes(self, **more: Any) -> Shapes:
        return draft_shapes(**vars(self), **more)

    def canonical(self, **changes: Any) -> DraftConfig:
        """What most drafts of these sizes are; `changes` is how this one differs."""
        values: dict[str, Any] = {
            "decoder": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_layers": 1,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "draft_vocab_size": 32000,
            "target_hidden_size": self.hidden,
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
        return DraftConfig.model_validate(values | changes)


SMALL_4B = Sizes(2560, 9728, 32, 8)
DENSE_8B = Sizes(4096, 12288, 32, 8)
DENSE_32B = Sizes(5120, 25600, 64, 8)
MOE_30B = Sizes(2048, 12288, 32, 4)
MOE_235B = Sizes(4096, 24576, 64, 4)
VL_2B = Sizes(2048, 6144, 16, 8)
GPT_OSS = Sizes(2880, 17280, 64, 8, 64, 201088)

SPECFORGE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "model_type": "llama",
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "draft_vocab_size": 32000,
}
INTERLEAVED = {"mrope_interleaved": True, "mrope_section": [24, 20, 20]}
VL_ROPE = {"theta": 5e6, "mrope_section": (24, 20, 20), "mrope_interleaved": True}


def nested(ids: list[int]) -> dict[str, Any]:
    return {"eagle_config": {TAP_IDS: ids, "use_aux_hidden_state": True}}


def speculators(architecture: str, sizes: Sizes, layer: dict[str, Any], **top: Any) -> Any:
    """A speculators config: the layer nested, the draft's own fields at the top."""
    return {
        "architectures": [architecture],
        "auto_map": {"": "config.Eagle3SpeculatorConfig"},
        "draft_vocab_size": 32000,
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}],
            "verifier": {"architectures": ["Qwen3ForCausalLM"], "name_or_path": "Qwen/Qwen3"},
        },
        "speculators_model_type": "eagle3",
        "target_hidden_size": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformer_layer_config": sizes.keys() | layer,
        "transformers_version": "4.55.0",
        **top,
    }


LAYER_2025 = {
    "attention_bias": False,
    "max_position_embeddings": 40960,
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "use_cache": True,
}
LAYER_2026 = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 40960,
    "mlp_bias": False,
    "model_type": "llama",
    "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
    "tie_word_embeddings": False,
}
"""How transformers 5 writes the same layer."""


@dataclass(frozen=True)
class Published:
    """A published checkpoint and how it has to be read."""

    config: dict[str, Any]
    shapes: Shapes
    dialect: str
    evidence: tuple[str, ...]
    draft: DraftConfig
    notes: tuple[str, ...] = ()
    settle: Settle = field(default=NOTHING_SETTLED)
