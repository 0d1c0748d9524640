"""Every kind of draft that tests need, as changes to one plain draft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eagle3_plugin.draft.config import DraftConfig, Rope, default_taps
from eagle3_plugin.errors import UsageError
from eagle3_plugin.tiny.recipes import TargetRecipe

DRAFT_VOCAB_SIZE = 1024
_CONTEXT = 2048
_THETA = 1_000_000.0
_FULL: Mapping[str, Any] = {"draft_vocab_size": None, "has_vocab_map": False}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen3": {"decoder": "qwen3"},
    "normed": {"residual": "normed"},
    "fc_norm": {"fc_input_norm": "per_tap"},
    "norm_before_fc": {"fc_input_norm": "joint"},
    "norm_output": {"feedback": "postnorm"},
    "attention_bias": {"attention_bias": True},
    "two_layers": {"num_layers": 2},
    "four_taps": {"taps": (1, 3, 5, 7), "num_taps": 4},
    "late_taps": {"taps": (1, 4, 7)},
    "head_dim": {"head_dim": 64},
    "narrow": {"hidden_size": 96, "intermediate_size": 288, "embedding": "own"},
    "full_vocab": _FULL,
    "shared_head": {**_FULL, "lm_head": "target"},
    "own_embedding": {"embedding": "own"},
    "yarn": {
        "rope": Rope(
            theta=_THETA,
            type="yarn",
            parameters={"factor": 4.0, "original_max_position_embeddings": _CONTEXT / 4},
        )
    },
    "mrope": {"rope": Rope(theta=_THETA, mrope_section=(8, 4, 4))},
    "mrope_interleaved": {
        "rope": Rope(theta=_THETA, mrope_section=(6, 5, 5), mrope_interleaved=True)
    },
    "qwen3_everything": {
        "decoder": "qwen3",
        "residual": "normed",
        "fc_input_norm": "per_tap",
        "attention_bias": True,
        "embedding": "own",
    },
}
"""None as draft_vocab_size stands for the target's whole vocabulary."""

WELL_TRAINED = ("llama", "qwen3", "late_taps")
"""These get the full recipe unless a short one is asked for."""


def draft_config(variant: str, target: TargetRecipe) -> DraftConfig:
    """The config of a variant for a target of that recipe; the taps are always written out."""
    if variant not in VARIANTS:
        raise UsageError(
            f"there is no tiny draft named {variant!r}", hint=f"One of: {', '.join(VARIANTS)}."
        )
    taps = default_taps(target.num_layers)
    fields: dict[str, Any] = {
        "decoder": "llama",
        "hidden_size": target.hidden_size,
        "intermediate_size": 384,
        "num_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": target.vocab_size,
        "draft_vocab_size": DRAFT_VOCAB_SIZE,
        "target_hidden_size": target.hidden_size,
        "taps": taps if len(set(taps)) == len(taps) else (1, 2, 3),
        "num_taps": 3,
        "residual": "raw",
        "fc_input_norm": "none",
        "feedback": "prenorm",
        "attention_bias": False,
        "attention_output_bias": False,
        "fc_bias": False,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": _CONTEXT,
        "rope": Rope(theta=_THETA),
        "embedding": "target",
        "lm_head": "own",
        "has_vocab_map": True,
        "dtype": "BF16",
        **VARIANTS[variant],
    }
    fields["draft_vocab_size"] = fields["draft_vocab_size"] or target.vocab_size
    return DraftConfig(**fields)
