"""NVIDIA ModelOpt's export: SpecForge's config with `layers.0.` names and d2t without t2d.

Its nested tap ids are output ids in some published drafts and boundaries in others
(Qwen3-235B-Thinking [1, 46, 90]; gpt-oss-120b-v3 [24, 30, 36] of 36 layers), so only a list that
spells the default taps in output ids is read without being told.
"""

from __future__ import annotations

from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import (
    SETTLE_IDS,
    Ids,
    StoredIds,
    is_default,
    read_ids,
)
from eagle3_plugin.errors import Problem

NAME = "modelopt"
TITLE = "NVIDIA ModelOpt"
NORM_OUTPUT_IS_AMBIGUOUS = False


def evidence(stored: Stored) -> list[str]:
    if architecture_of(stored.config) != "LlamaForCausalLMEagle3":
        return []
    if "eagle_config" not in stored.config or not stored.stored_with_prefix("layers.0."):
        return []
    if "t2d" in stored.stored_names:
        return []
    return ["LlamaForCausalLMEagle3 with eagle_config, names layers.0.…, and no t2d"]


def read_taps(ids: StoredIds, settle: Settle) -> Ids | Problem | None:
    as_output = read_ids(ids, settle.ids, settle.target_num_layers)
    if ids.nested is None or ids.top is not None or settle.ids is not None:
        return as_output
    if is_default(ids.nested, "output", settle.target_num_layers):
        return as_output
    if as_output is None or isinstance(as_output, Problem):
        return as_output
    return Problem(
        "taps-ambiguous",
        f"tap ids {list(ids.nested)}: ModelOpt has published both output ids (boundaries "
        f"{list(as_output)}) and boundaries ({list(ids.nested)}) under this key",
        SETTLE_IDS,
    )
