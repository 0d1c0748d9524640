"""Turns the tap ids that a config stores into boundaries, or says that they are ambiguous.

An *output* id i names the output of layer i, which is boundary i + 1 (SpecForge, SGLang, lmsys).
A *boundary* id is used as it is (vLLM, speculators). Source: dialects facts 0.1 and 3.1 to 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eagle3_plugin.draft.config import default_taps
from eagle3_plugin.errors import Problem

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


def read_one_list(
    ids: Ids, convention: Convention, target_num_layers: int | None
) -> Ids | Problem:
    """Boundaries of the only list that is there, unless it fits the other convention better.

    It does when it is, number for number, the other convention's spelling of the default taps,
    or names a layer that this convention does not have.
    """
    other: Convention = "boundary" if convention == "output" else "output"
    if is_default(ids, other, target_num_layers) and not is_default(
        ids, convention, target_num_layers
    ):
        here, there = list(boundaries(ids, convention)), list(boundaries(ids, other))
        return Problem(
            "taps-ambiguous",
            f"tap ids {list(ids)} stand where {convention} ids are kept (boundaries {here}), but "
            f"are the default taps when read as {other} ids (boundaries {there})",
            SETTLE_IDS,
        )
    outside = target_num_layers is not None and max(boundaries(ids, convention)) > target_num_layers
    if outside and max(boundaries(ids, other)) <= (target_num_layers or 0):
        return Problem(
            "taps-ambiguous",
            f"tap ids {list(ids)} stand where {convention} ids are kept, but the target has only "
            f"{target_num_layers} layers: they can only be {other} ids",
            SETTLE_IDS,
        )
    return boundaries(ids, convention)


def read_both_lists(nested: Ids, top: Ids) -> Ids | Problem:
    """Boundaries when the nested list holds output ids and the top-level one boundaries."""
    if boundaries(nested, "output") == top:
        return top
    return Problem(
        "taps-conflict",
        f"eagle_config has tap ids {list(nested)} (output ids: boundaries "
        f"{list(boundaries(nested, 'output'))}), the top level has {list(top)} (boundaries)",
        "Give the boundaries that the draft was trained on with --taps.",
    )


def is_default(ids: Ids, convention: Convention, target_num_layers: int | None) -> bool:
    """True if these ids spell the default taps of that target (of some target, if unknown)."""
    taps = boundaries(ids, convention)
    if len(taps) != 3:
        return False
    return taps == default_taps(target_num_layers or taps[2] + 3)
