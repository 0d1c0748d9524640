"""One folder that both stock engines read rightly: both lists of tap ids, each in its place.

vLLM reads the top level first, SGLang only the nested list (dialects facts 3.3, confirmed by a
run in both: measured facts).
"""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.draft.dialects import sglang, vllm
from eagle3_plugin.draft.dialects.names import midlayer_name
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import Ids, StoredIds, boundaries, read_both_lists
from eagle3_plugin.errors import Problem

NAME = "universal"
TITLE = "both engines"
NORM_OUTPUT_IS_AMBIGUOUS = False
stored_name = midlayer_name


def evidence(stored: Stored) -> list[str]:
    nested = (stored.config.get("eagle_config") or {}) if isinstance(
        stored.config.get("eagle_config"), dict
    ) else {}
    key = "eagle_aux_hidden_state_layer_ids"
    both = bool(nested.get(key)) and bool(stored.config.get(key))
    return ["tap ids both in eagle_config and at the top level"] if both else []


def read_taps(ids: StoredIds, settle: Settle) -> Ids | Problem | None:
    if settle.ids == "output" and ids.nested is not None:
        return boundaries(ids.nested, "output")
    if settle.ids == "boundary" and ids.top is not None:
        return ids.top
    if ids.nested is None or ids.top is None:
        return None
    return read_both_lists(ids.nested, ids.top)


def write_config(config: DraftConfig) -> Json:
    written = sglang.write_config(config)
    if config.taps != "default":
        written["eagle_aux_hidden_state_layer_ids"] = list(config.taps)
    return written


def losses(config: DraftConfig) -> list[Problem]:
    found = sglang.losses(config) + vllm.losses(config)
    return list({p.message: p for p in found}.values())
