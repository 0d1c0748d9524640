"""A draft folder or hub id -> the Hugging Face config that vLLM is given in its place.

vLLM then sees one spelling, with boundaries as tap ids at the top level (read by both of its
runners), every size explicit, and an architecture that `models.py` registers. Nothing of what the
draft's own config.json leaves out or spells in another convention is left for vLLM to guess.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig, Json, TargetConfig
from eagle3_plugin.draft.dialects import vllm as vllm_dialect
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.fit import fit_problems
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.errors import DraftError
from eagle3_plugin.hub import resolve

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ARCHITECTURES = {"llama": "Eagle3LlamaDraft", "qwen3": "Eagle3Qwen3Draft"}
"""Our classes under names of their own; they start with Eagle3, so that vLLM keeps them."""

CANONICAL_KEY = "eagle3_draft"
"""Where the canonical config travels, as JSON values, to the processes that build the model."""


def read_for_target(checkpoint: Checkpoint, target: TargetConfig) -> Draft:
    """The draft, read and found to fit this target; raises DraftError naming every problem."""
    draft = read_draft(checkpoint, Settle(target_num_layers=target.num_layers))
    problems = fit_problems(draft.config, target)
    if problems:
        raise DraftError(problems, where=f"{checkpoint.source.name} does not fit the target")
    return draft


def engine_config(config: DraftConfig) -> Json:
    """config.json of the vLLM dialect, plus what our classes need beyond it.

    Taps are ascending, as vLLM captures them; `models.py` reorders fc's columns to match.
    `bias` gives the Llama class an o_proj bias without biases on q, k and v.
    """
    written = vllm_dialect.write_config(config)
    written["architectures"] = [ARCHITECTURES[config.decoder]]
    if config.taps != "default":
        written["eagle_aux_hidden_state_layer_ids"] = sorted(config.taps)
    written["num_aux_hidden_states"] = config.num_taps
    written["draft_vocab_size"] = config.draft_vocab_size
    written["bias"] = config.attention_output_bias
    written[CANONICAL_KEY] = config.model_dump(mode="json")
    return written


def hugging_face_config(
    model: str, revision: str | None, target_config: dict[str, Any]
) -> PreTrainedConfig:
    """The config that vLLM's ModelConfig gets for the draft `model`."""
    from transformers import AutoConfig

    target = target_from_config(target_config)
    draft = read_for_target(Checkpoint.open(resolve(model, revision=revision)), target)
    values = engine_config(draft.config.resolved(target.num_layers))
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    config.name_or_path = model
    return config


def canonical_config(hf_config: object) -> DraftConfig:
    """The DraftConfig that `engine_config` sent along."""
    return DraftConfig.model_validate_json(json.dumps(getattr(hf_config, CANONICAL_KEY)))
