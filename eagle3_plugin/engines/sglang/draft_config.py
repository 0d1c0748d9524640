"""config.json as SGLang reads it rightly: output ids under eagle_config, every flag its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from eagle3_plugin.draft.config import DraftConfig, Json, TargetConfig
from eagle3_plugin.draft.dialects import sglang as sglang_dialect
from eagle3_plugin.errors import DraftError, EngineError, Problem

logger = logging.getLogger(__name__)

ARCHITECTURE = "Eagle3Draft"
"""Our class, under a name that SGLang does not have; it has both decoders."""

TARGET_KEY = "eagle3_target"
"""Where the target's config travels, as JSON values, beside the draft's."""

TYPES = ("dtype", "torch_dtype")
ROPE_NAMES = ("rope_parameters", "rope_scaling")
"""Of one section, in transformers 5 and 4."""

ROPES = (*ROPE_NAMES, "rope_theta")
LENGTH = "max_position_embeddings"
DRAFT_KEYS = (
    "bias",
    "eagle_aux_hidden_state_layer_ids",
    "eagle_config",
    "fc_norm",
    "norm_before_fc",
    "norm_before_residual",
    "norm_output",
    "use_aux_norm",
)
"""Keys by which a draft is described, absent where they say nothing new."""


def engine_config(config: DraftConfig, target: TargetConfig) -> Json:
    """config.json of the SGLang dialect, plus what SGLang asks for before our class is built.

    Output ids are ascending, as SGLang captures them; `models/draft.py` reorders fc's columns.
    `model_type` is always llama: SGLang reads sizes and rope from it, and the decoder is ours.
    `max_position_embeddings` is at least the target's, or SGLang refuses to start; it sizes the
    table of rotations, and changes none of them. `torch_dtype` is the target's, as SGLang gives a
    draft the type that its own file states, and then meets two types in one multiplication.
    """
    taps = sorted(config.taps_for(target.num_layers))
    if taps[-1] >= target.num_layers:
        raise DraftError([_last_boundary(taps[-1])])
    written = sglang_dialect.write_config(config)
    written["architectures"] = [ARCHITECTURE]
    written["model_type"] = "llama"
    written["eagle_config"] = {
        "eagle_aux_hidden_state_layer_ids": [boundary - 1 for boundary in taps],
        "use_aux_hidden_state": True,
    }
    written["num_aux_hidden_states"] = config.num_taps
    written["bias"] = config.fc_bias
    written["torch_dtype"] = target.dtype or written["torch_dtype"]
    longest = max(config.max_position_embeddings, target.max_position_embeddings)
    written[LENGTH] = longest
    written[TARGET_KEY] = target.model_dump(mode="json")
    return written


def apply_overrides(config: Any, overrides: Mapping[str, Any]) -> None:
    """Takes from --json-model-override-args what a draft shares with its target: type and length.

    SGLang gives the same arguments to target and draft. A rope is the target's alone, as Qwen's
    cards give it for long contexts: the draft keeps the one that it was trained with. Raises
    EngineError for those that would change the draft otherwise; the others are not a draft's.
    """
    shared = {key: overrides[key] for key in (*TYPES, LENGTH) if key in overrides}
    if LENGTH in shared:
        shared[LENGTH] = max(shared[LENGTH], getattr(config, LENGTH))
    clashes = [
        f"{key} = {value!r} (the draft has {getattr(config, key, None)!r})"
        for key, value in overrides.items()
        if key not in (*shared, *ROPES)
        and _is_of_drafts(config, key)
        and getattr(config, key, None) != value
    ]
    if clashes:
        raise EngineError(
            "SGLang gives --json-model-override-args to the draft too, and these would change it: "
            + ", ".join(clashes),
            hint="Write what is meant for the target into a copy of its config.json; what a draft "
            "was trained with is settled by `eagle3 convert`.",
        )
    for key, value in shared.items():
        setattr(config, key, value)
    ropes = [key for key in ROPES if key in overrides]
    if ropes:
        logger.info(
            "eagle3_plugin: %s of --json-model-override-args is the target's; the draft keeps the "
            "rope that it was trained with",
            " and ".join(ropes),
        )


def _is_of_drafts(config: Any, key: str) -> bool:
    return hasattr(config, key) or key in DRAFT_KEYS


def _last_boundary(boundary: int) -> Problem:
    return Problem(
        "tap-not-captured",
        f"the draft taps boundary {boundary}, the state after the last layer, and SGLang captures "
        "states at the entry of a layer only: serve this draft with vLLM",
    )
