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
    if architecture_of(stored.config) == "Eagle3LlamaForCausalLM":
        if found:
            found.append("architectures is Eagle3LlamaForCausalLM")
        elif stored.stored_with_prefix("midlayer."):
            found.append("architectures is Eagle3LlamaForCausalLM with tensors named midlayer.…")
    return found


def read_taps(ids: StoredIds, settle: Settle) -> Ids | Problem | None:
    return sglang.read_taps(ids, settle)


def nested_or_own_ids(nested: Ids | None, stored: Stored, top: Fields) -> Ids | None:
    """AngelSlim's own key holds output ids, as the list in eagle_config does."""
    own = top.ids(OWN_IDS)
    if nested is not None and own is not None and nested != own:
        stored.problem(
            "taps-conflict",
            f"eagle_config has tap ids {list(nested)}, {OWN_IDS} has {list(own)} (both output ids)",
            "Give the boundaries that the draft was trained on with --taps.",
        )
    return nested or own


def note_unknown_taps(stored: Stored) -> None:
    stored.note(
        "taps-angelslim",
        "AngelSlim's config names no taps; read as the default. One version of its trainer took "
        "the high tap one layer later (n - 2 instead of n - 3)",
        "`eagle3 score --sweep-taps` tells which; settle it with --taps.",
    )
