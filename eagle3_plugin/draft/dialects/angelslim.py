"""Tencent AngelSlim, 2025 and 2026.

2025: SpecForge's names, no tap ids, nothing in the files that tells it from SpecForge but the
repository's name. 2026: `Eagle3LlamaForCausalLM`, own key `aux_hidden_states_layer_ids` (output
ids), `modal_type`. One version of the 2026 trainer counted layers wrongly, so that the high tap is
n - 2 and not n - 3; configs do not say which: `eagle3 score --sweep-taps` does.
"""

from __future__ import annotations

from eagle3_plugin.draft.dialects import sglang
from eagle3_plugin.draft.dialects.fields import Fields, architecture_of
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import Ids, StoredIds
from eagle3_plugin.errors import Problem

NAME = "angelslim"
TITLE = "Tencent AngelSlim"
OWN_IDS = "aux_hidden_states_layer_ids"
NORM_OUTPUT_IS_AMBIGUOUS = True


def evidence(stored: Stored) -> list[str]:
    found = [f"config.json has {key}" for key in (OWN_IDS, "modal_type") if key in stored.config]
    if found and architecture_of(stored.config) == "Eagle3LlamaForCausalLM":
        found.append("architectures is Eagle3LlamaForCausalLM")
    return found


def read_taps(ids: StoredIds, settle: Settle) -> Ids | Problem | None:
    return sglang.read_taps(ids, settle)


def own_ids(stored: Stored) -> Ids | None:
    """AngelSlim's own key, which holds output ids like SpecForge's nested list."""
    return Fields(stored.config, stored.problems).ids(OWN_IDS)
