"""A draft folder or hub id -> the Hugging Face config that an engine is given in its place.

The engine then sees one spelling, with every size explicit and an architecture that our `models`
registers. Nothing of what the draft's own config.json leaves out or spells in another convention is
left for the engine to guess. What the engine itself reads is written by the engine's own
`draft_config.py`; our classes read the canonical config, which travels along.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eagle3_plugin.draft.checkpoint import CONFIG, Checkpoint, read_config
from eagle3_plugin.draft.config import DraftConfig, Json, TargetConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.fit import fit_problems
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.engines.names import is_ours
from eagle3_plugin.errors import DraftError
from eagle3_plugin.hub import resolve

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CANONICAL_KEY = "eagle3_draft"
"""Where the canonical config travels, as JSON values, to the processes that build the model."""

EngineConfig = Callable[[DraftConfig, TargetConfig], Json]
"""Canonical configs, the taps written out -> config.json as one engine reads it rightly."""


def is_read(model: str, revision: str | None) -> bool:
    """Whether the config.json of that draft is one that this package reads."""
    return is_ours(read_config(resolve(model, revision=revision), CONFIG))


def read_for_target(checkpoint: Checkpoint, target: TargetConfig) -> Draft:
    """The draft, read and found to fit this target; raises DraftError naming every problem."""
    draft = read_draft(checkpoint, Settle(target_num_layers=target.num_layers))
    problems = fit_problems(draft.config, target)
    if problems:
        raise DraftError(problems, where=f"{checkpoint.source.name} does not fit the target")
    return draft


def hugging_face_config(
    model: str, revision: str | None, target_config: dict[str, Any], engine_config: EngineConfig
) -> PreTrainedConfig:
    """The config that the engine gets for the draft `model`."""
    from transformers import AutoConfig

    target = target_from_config(target_config)
    draft = read_for_target(Checkpoint.open(resolve(model, revision=revision)), target)
    resolved = draft.config.resolved(target.num_layers)
    values = engine_config(resolved, target)
    values[CANONICAL_KEY] = resolved.model_dump(mode="json")
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    config.name_or_path = model
    return config


def canonical_config(hf_config: object) -> DraftConfig:
    """The DraftConfig that `hugging_face_config` sent along."""
    return DraftConfig.model_validate_json(json.dumps(getattr(hf_config, CANONICAL_KEY)))
