"""eagle3.json: the canonical config beside config.json, with provenance and expected acceptance.

Engines ignore it; we read it first. It holds a fingerprint of the config.json that it was written
for: if somebody edits config.json afterwards, the two no longer belong together, and that is an
error, not a guess.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from eagle3_plugin import __version__
from eagle3_plugin.draft.config import DraftConfig, Json
from eagle3_plugin.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eagle3_plugin.draft.checkpoint import Checkpoint

SIDECAR = "eagle3.json"
SCHEMA = 1

_REMEDY = "Delete eagle3.json, or convert the draft again."


def new_sidecar(config: DraftConfig, written_config: Json, provenance: Mapping[str, Any]) -> Json:
    """The content of an eagle3.json for this draft, written beside `written_config`."""
    return {
        "schema": SCHEMA,
        "draft": config.model_dump(mode="json"),
        "config_sha256": config_fingerprint(written_config),
        "provenance": {"tool": f"eagle3_plugin {__version__}", **provenance},
    }


def config_fingerprint(config: Mapping[str, Any]) -> str:
    """SHA-256 of config.json's content, whatever its spacing and order of keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sidecar_config(checkpoint: Checkpoint, problems: list[Problem]) -> DraftConfig | None:
    """The canonical config of eagle3.json, None if there is no such file."""
    kept = checkpoint.eagle3
    if kept is None:
        return None
    if kept.get("schema") != SCHEMA:
        message = f"eagle3.json has schema {kept.get('schema')!r}, expected {SCHEMA}"
        problems.append(Problem("sidecar", message, _REMEDY))
        return None
    if kept.get("config_sha256") != config_fingerprint(checkpoint.config):
        message = "config.json was changed after eagle3.json was written for it"
        problems.append(Problem("sidecar-stale", message, _REMEDY))
        return None
    try:
        return DraftConfig.model_validate_json(json.dumps(kept.get("draft")))
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, d['loc']))}: {d['msg']}" for d in error.errors()[:3])
        problems.append(
            Problem("sidecar", f"eagle3.json does not describe a draft: {what}", _REMEDY)
        )
        return None


def with_expected_acceptance(kept: Json, score: Json, target: str, day: str) -> Json:
    """An eagle3.json with what a score measured, and with what it was measured."""
    keys = (
        "chain", "dtype", "num_prompts", "num_rounds", "max_new_tokens", "tokens_per_verify",
        "acceptance_rate", "acceptance_rate_conditional", "prompt_sets", "rank_wise", "trees",
        "rounds_per_prompt", "accepted_draft_tokens_per_prompt",
    )  # fmt: skip
    measured = {key: score[key] for key in keys}
    by = f"eagle3_plugin {__version__}"
    return kept | {"expected_acceptance": measured | {"target": target, "date": day, "by": by}}
