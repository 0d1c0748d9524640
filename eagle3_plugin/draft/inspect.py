"""What `eagle3 inspect` shows of a draft."""

from __future__ import annotations

from typing import Any

from eagle3_plugin.draft.config import TargetConfig
from eagle3_plugin.draft.fit import fit_problems
from eagle3_plugin.draft.read import Draft
from eagle3_plugin.draft.tensors import num_parameters


def inspection(draft: Draft, target: TargetConfig | None = None) -> dict[str, Any]:
    """The public JSON form (schema 1). With a target, taps are numbers and the fit is judged."""
    stored = draft.checkpoint.tensors
    sizes = draft.checkpoint.source.sizes()
    files = sorted({info.file for info in stored.values()})
    found: dict[str, Any] = {
        "schema": 1,
        "name": draft.checkpoint.source.name,
        "revision": draft.checkpoint.source.revision,
        "dialect": draft.dialect,
        "evidence": list(draft.evidence),
        "config": draft.config.model_dump(mode="json"),
        "num_parameters": num_parameters(draft.config),
        "files": {name: {"size_bytes": sizes.get(name)} for name in files},
        "tensors": {
            name: {"stored_as": at, "dtype": stored[at].dtype, "shape": list(stored[at].shape)}
            for name, at in sorted(draft.names.items())
        },
        "notes": [{"id": n.id, "message": n.message, "hint": n.hint} for n in draft.notes],
        "expected_acceptance": (draft.checkpoint.eagle3 or {}).get("expected_acceptance"),
    }
    if target is not None:
        found["taps"] = list(draft.config.taps_for(target.num_layers))
        found["fits_target"] = [p.message for p in fit_problems(draft.config, target)] or True
    return found
