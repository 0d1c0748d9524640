"""Reads what configs leave open or spell in two ways: taps, residual input and feedback.

Each can be settled by the user; what is neither stated nor settled is a problem that names the
flag, where producers and engines differ about the default.
"""

from __future__ import annotations

from types import ModuleType

from eagle3_plugin.draft.dialects import angelslim, speculators
from eagle3_plugin.draft.dialects.fields import Fields
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.dialects.shape import Stored
from eagle3_plugin.draft.dialects.taps import TAP_IDS, Ids, StoredIds
from eagle3_plugin.errors import Problem

SETTLE_RESIDUAL = "Settle it with --residual raw (false) or --residual normed (true)."


def read_taps(module: ModuleType, stored: Stored, top: Fields, settle: Settle) -> Ids | None:
    """Boundaries, or None for the default; after a problem the stored list, as long as it is."""
    if settle.taps is not None:
        return settle.taps
    nested = top.section("eagle_config").ids(TAP_IDS)
    if module is angelslim:
        nested = angelslim.nested_or_own_ids(nested, stored, top)
    ids = StoredIds(nested, top.ids(TAP_IDS))
    taps: Ids | Problem | None = module.read_taps(ids, settle)
    if isinstance(taps, Problem):
        stored.problems.append(taps)
        return ids.nested or ids.top
    if taps is None and module is angelslim:
        angelslim.note_unknown_taps(stored)
    return taps


def read_residual(module: ModuleType, stored: Stored, top: Fields, settle: Settle) -> str:
    """`raw` or `normed`, elsewhere norm_before_residual."""
    nested = top.section("eagle_config").flag("norm_before_residual")
    stated = top.flag("norm_before_residual")
    if settle.residual is not None:
        return settle.residual
    if stated is not None and nested is not None and stated != nested:
        stored.problem(
            "residual-ambiguous",
            f"norm_before_residual is {_json(stated)} at the top level and {_json(nested)} in "
            "eagle_config",
            SETTLE_RESIDUAL,
        )
    value = nested if stated is None else stated
    if value is None and module is speculators:
        stored.problem(
            "residual-ambiguous",
            "norm_before_residual is absent: the speculators library then means false, vLLM true",
            SETTLE_RESIDUAL,
        )
    return "normed" if value else "raw"


def read_feedback(module: ModuleType, stored: Stored, top: Fields, settle: Settle) -> str:
    """`prenorm` or `postnorm`, elsewhere norm_output.

    Before SpecForge's pull request 879 (2026-09-15) its `norm_output` did not mean feedback.
    """
    stated = top.flag("norm_output")
    if settle.feedback is not None:
        return settle.feedback
    from_specforge = module.NORM_OUTPUT_IS_AMBIGUOUS and stored.stored_with_prefix("midlayer.")
    if stated and from_specforge:
        stored.problem(
            "norm-output-ambiguous",
            "norm_output is true in a SpecForge checkpoint: until 2026-09-15 SpecForge fed the "
            "state before the norm back all the same, since then (and in both engines) the one "
            "after it",
            "Settle it with --feedback prenorm or --feedback postnorm; `eagle3 score` with each "
            "tells which.",
        )
    if stated is False and from_specforge:
        stored.note(
            "norm-output-false",
            "norm_output is false: SpecForge before 2026-09-15 then trained the head without the "
            "final norm; read as every engine does, with the norm",
        )
    return "postnorm" if stated else "prenorm"


def _json(flag: bool) -> str:
    return "true" if flag else "false"
