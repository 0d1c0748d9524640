"""Stored tensor names <-> canonical names (`draft/tensors.py`).

The reading table is one for all dialects: a stored name means the same in each of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from eagle3_plugin.draft.tensors import DEAD_TENSORS
from eagle3_plugin.errors import Problem

_PREFIXES = (
    ("midlayer.", "layers.0."),
    ("aux_norm_low.", "fc_norm.0."),
    ("aux_norm_mid.", "fc_norm.1."),
    ("aux_norm_high.", "fc_norm.2."),
)
_DEAD_SUFFIXES = ("rotary_emb.inv_freq",)


def canonical_name(stored: str) -> str | None:
    """The canonical name of a stored tensor, or None for one that no draft computes with."""
    name = stored.removeprefix("model.")
    for prefix, replacement in _PREFIXES:
        if name.startswith(prefix):
            name = replacement + name.removeprefix(prefix)
    dead = name in DEAD_TENSORS or name.endswith(_DEAD_SUFFIXES)
    return None if dead else name


def canonical_names(stored: Iterable[str]) -> tuple[dict[str, str], list[Problem]]:
    """Canonical -> stored name, and a problem for every two tensors that claim one name."""
    names: dict[str, str] = {}
    problems = []
    for name in sorted(stored):
        canonical = canonical_name(name)
        if canonical is None:
            continue
        if canonical in names:
            message = f"{names[canonical]} and {name} are both {canonical}"
            problems.append(Problem("tensor-twice", message, "Remove one of the two tensors."))
        names[canonical] = name
    return names, problems


def midlayer_name(canonical: str) -> str:
    """The SpecForge / SGLang spelling: the first layer is called midlayer."""
    prefix = "layers.0."
    return "midlayer." + canonical[len(prefix) :] if canonical.startswith(prefix) else canonical


def layers_name(canonical: str) -> str:
    """The speculators / ModelOpt spelling, which is the canonical one."""
    return canonical
