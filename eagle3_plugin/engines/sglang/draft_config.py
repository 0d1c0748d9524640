"""config.json as SGLang reads it rightly: output ids under eagle_config, every flag its own."""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json, TargetConfig
from eagle3_plugin.draft.dialects import sglang as sglang_dialect
from eagle3_plugin.errors import DraftError, Problem

ARCHITECTURE = "Eagle3Draft"
"""Our class, under a name that SGLang does not have; it has both decoders."""


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
    written["max_position_embeddings"] = longest
    return written


def _last_boundary(boundary: int) -> Problem:
    return Problem(
        "tap-not-captured",
        f"the draft taps boundary {boundary}, the state after the last layer, and SGLang captures "
        "states at the entry of a layer only: serve this draft with vLLM",
    )
