"""Turns the tap ids that a config stores into boundaries, or says that they are ambiguous.

An *output* id i names the output of layer i, which is boundary i + 1 (SpecForge, SGLang, lmsys).
A *boundary* id is used as it is (vLLM, speculators). Source: dialects facts 0.1 and 3.1 to 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eagle3_plugin.draft.config import default_taps
from eagle3_plugin.errors import Problem

TAP_IDS = "eagle_aux_hidden_state_layer_ids"
"""The key of both lists: in `eagle_config` (output ids) and at the top level (boundaries)."""

Convention = Literal["output", "boundary"]
Ids = tuple[int, ...]

SETTLE_IDS = "Settle it with --ids output (SGLang, SpecForge) or --ids boundary (vLLM), or --taps."


@dataclass(frozen=True)
class StoredIds:
    """The two places where configs keep tap ids; None = absent."""

    nested: Ids | None
    top: Ids | None


def boundaries(ids: Ids, convention: Convention) -> Ids:
    return tuple(i + 1 for i in ids) if convention == "output" else ids


def output_ids(taps: Ids) -> list[int]:
    """The output ids of boundaries; boundary 0 (the embedding) has none."""
    return [tap - 1 for tap in taps]


def read_ids(
    ids: StoredIds, answer: Convention | None, target_num_layers: int | None
) -> Ids | Problem | None:
    """Boundaries of what a config stores, or None if it stores no list.

    The nested list holds output ids and the top-level one boundaries; `answer` (--ids) overrules.
    """
    if ids.nested is not None and ids.top is not None:
        return _read_both_lists(ids.nested, ids.top, answer)
    if ids.nested is not None:
        return read_one_list(ids.nested, answer or "output", target_num_layers, bool(answer))
    if ids.top is not None:
        return read_one_list(ids.top, answer or "boundary", target_num_layers, bool(answer))
    return None


def read_one_list(
    ids: Ids, convention: Convention, target_num_layers: int | None, is_settled: bool = False
) -> Ids | Problem:
    """Boundaries of the only list that is there, unless it fits the other convention better.

    It does when it is, number for number, the other convention's spelling of the default taps,
    or names a layer that this convention does not have. is_settled: the user named `convention`.
    """
    here = boundaries(ids, convention)
    if is_settled:
        return here
    other: Convention = "boundary" if convention == "output" else "output"
    there = boundaries(ids, other)
    stand = f"tap ids {list(ids)} stand where {convention} ids are kept (boundaries {list(here)})"
    if is_default(ids, other, target_num_layers) and not is_default(
        ids, convention, target_num_layers
    ):
        return Problem(
            "taps-ambiguous",
            f"{stand}, but are the default taps when read as {other} ids (boundaries "
            f"{list(there)})",
            SETTLE_IDS,
        )
    if target_num_layers is not None and max(there) <= target_num_layers < max(here):
        return Problem(
            "taps-ambiguous",
            f"{stand}, but the target has only {target_num_layers} layers: they look like {other} "
            f"ids (boundaries {list(there)})",
            SETTLE_IDS,
        )
    return here


def _read_both_lists(nested: Ids, top: Ids, answer: Convention | None) -> Ids | Problem:
    """Boundaries when the nested list holds output ids and the top-level one boundaries."""
    from_nested = boundaries(nested, "output")
    if answer is not None:
        return from_nested if answer == "output" else top
    if from_nested == top:
        return top
    return Problem(
        "taps-conflict",
        f"eagle_config has tap ids {list(nested)} (output ids: boundaries {list(from_nested)}), "
        f"the top level has {list(top)} (boundaries)",
        "Settle it with --ids output (eagle_config is right), --ids boundary (the top level is "
        "right), or --taps.",
    )


def is_default(ids: Ids, convention: Convention, target_num_layers: int | None) -> bool:
    """True if these ids spell the default taps of that target (of some target, if unknown)."""
    taps = boundaries(ids, convention)
    if len(taps) != 3:
        return False
    return taps == default_taps(target_num_layers or taps[2] + 3)
