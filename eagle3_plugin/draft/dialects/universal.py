"""One folder that both stock engines read rightly: both lists of tap ids, each in its place.

vLLM reads the top level first, SGLang only the nested list (dialects facts 3.3, confirmed by a
run in both: measured facts).
"""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.draft.dialects import sglang, vllm
from eagle3_plugin.draft.dialects.names import midlayer_name
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import TAP_IDS
from eagle3_plugin.errors import Problem

NAME = "universal"
TITLE = "both engines"
NORM_OUTPUT_IS_AMBIGUOUS = False
IDS = None
stored_name = midlayer_name
read_taps = sglang.read_taps


def evidence(stored: Stored) -> list[str]:
    nested = stored.config.get("eagle_config")
    if not isinstance(nested, dict) or not nested.get(TAP_IDS) or not stored.config.get(TAP_IDS):
        return []
    return ["tap ids both in eagle_config and at the top level"]


def write_config(config: DraftConfig) -> Json:
    written = sglang.write_config(config)
    if config.taps != "default":
        written[TAP_IDS] = list(config.taps)
    return written


def losses(config: DraftConfig) -> list[Problem]:
    found = sglang.losses(config) + vllm.losses(config)
    return list({p.message: p for p in found}.values())
