"""Draft -> a checkpoint in another dialect: check, write, read back, report.

The bytes of every weight are copied as they are; only names, the config and the vocabulary map's
spelling change. Nothing is written that the dialect's stock engine would ignore.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.checkpoint import (
    Checkpoint,
    OutTensor,
    write_checkpoint,
)
from eagle3_plugin.draft.config import DraftConfig, Json, TargetConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.fit import fit_problems
from eagle3_plugin.draft.read import DIALECTS, WRITABLE, Draft, examine
from eagle3_plugin.draft.sidecar import SIDECAR, new_sidecar
from eagle3_plugin.draft.tensors import expected_tensors, offsets_from_vocab_map, target_mask
from eagle3_plugin.errors import (
    CannotExpressError,
    DraftError,
    OutputError,
    Problem,
    UsageError,
)
from eagle3_plugin.hub import resolve

_ONLY_IN_SIDECAR = {"image_embedding": "unknown", "deepstack_tap": "unknown"}
"""What no config.json can say, as it is read from one."""


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: names of tensors that were renamed, made and dropped, and the config."""

    source: str
    source_dialect: str
    dialect: str
    out: str
    config: DraftConfig
    renamed: Mapping[str, str]
    made: tuple[str, ...]
    dropped: tuple[str, ...]
    num_bytes: int

    def to_json(self) -> Json:
        kept = asdict(self) | {"config": self.config.model_dump(mode="json")}
        return {"schema": 1, **kept, "made": list(self.made), "dropped": list(self.dropped)}


def convert(
    draft: Draft,
    out: Path,
    dialect: str,
    *,
    target: TargetConfig | None = None,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Conversion:
    """Write `draft` to the folder `out` in that dialect; raises CannotExpressError first.

    With a target, which must fit (DraftError), the default taps are written out as numbers;
    without one they stay the default. progress is told the bytes written since its last call.
    """
    config = _for_target(draft, target) if target else draft.config
    written = config_for(config, dialect, where=draft.checkpoint.source.name)
    tensors = out_tensors(draft, config, dialect)
    sidecar = new_sidecar(config, written, _provenance(draft))
    kept = json.dumps(sidecar, indent=2, ensure_ascii=False).encode()
    write_checkpoint(out, written, tensors, {SIDECAR: kept}, force=force, progress=progress)
    _read_back(out, config, draft, dialect)
    return _report(draft, config, dialect, out, tensors)


def _for_target(draft: Draft, target: TargetConfig) -> DraftConfig:
    problems = fit_problems(draft.config, target)
    if problems:
        raise DraftError(problems, where=f"{draft.checkpoint.source.name} does not fit the target")
    return draft.config.resolved(target.num_layers)


def config_for(config: DraftConfig, dialect: str, *, where: str = "draft") -> Json:
    """The config.json of that dialect; CannotExpressError if its stock engine would misread it."""
    if dialect not in WRITABLE:
        raise UsageError(f"cannot write {dialect!r}; --to takes one of: {', '.join(WRITABLE)}")
    module = WRITABLE[dialect]
    losses: list[Problem] = module.losses(config)
    if losses:
        problems = [Problem(p.id, p.message, _remedy(config)) for p in losses]
        raise CannotExpressError(problems, where=f"{where} cannot be written as {dialect}")
    written: Json = module.write_config(config)
    return written


def _remedy(config: DraftConfig) -> str:
    serve = "Serve the draft as it is with the plugin (no conversion needed)"
    able = sorted(name for name, module in WRITABLE.items() if not module.losses(config))
    if able:
        return f"{serve}, or write it as {' or '.join(able)}."
    return f"{serve}: no dialect's stock engine reads it rightly."


def out_tensors(draft: Draft, config: DraftConfig, dialect: str) -> list[OutTensor]:
    """The tensors to write, in canonical order, under the dialect's names."""
    module = DIALECTS[dialect]
    stored = draft.checkpoint.tensors
    tensors = []
    for name, shape in expected_tensors(config).items():
        at = draft.names[name]
        source = (draft.checkpoint, at)
        tensors.append(OutTensor(module.stored_name(name), stored[at].dtype, shape, source))
    if draft.vocab_map is not None:
        offsets = offsets_from_vocab_map(draft.vocab_map).astype("<i8").tobytes()
        tensors.append(OutTensor("d2t", "I64", (config.draft_vocab_size,), offsets))
        mask = target_mask(draft.vocab_map, config.vocab_size).tobytes()
        tensors.append(OutTensor("t2d", "BOOL", (config.vocab_size,), mask))
    return tensors


def _provenance(draft: Draft) -> dict[str, Any]:
    source = draft.checkpoint.source
    sizes = source.sizes()
    files = sorted({info.file for info in draft.checkpoint.tensors.values()})
    return {
        "source": _public_name(source.name),
        "revision": source.revision,
        "dialect": draft.dialect,
        "evidence": list(draft.evidence),
        "files": {name: {"size_bytes": sizes.get(name)} for name in files},
        "tensors_sha256": _tensors_sha256(draft),
    }


def _tensors_sha256(draft: Draft) -> str:
    """SHA-256 of the source's tensor table (names, types, shapes, places) and vocabulary map."""
    table = [astuple(t) for _, t in sorted(draft.checkpoint.tensors.items())]
    digest = hashlib.sha256(json.dumps(table).encode())
    digest.update(b"" if draft.vocab_map is None else draft.vocab_map.tobytes())
    return digest.hexdigest()


def _public_name(name: str) -> str:
    """A hub id as it is; of a local folder only its own name, not where it lies."""
    path = Path(name)
    return path.resolve().name if path.is_dir() else name


def _read_back(out: Path, config: DraftConfig, draft: Draft, dialect: str) -> None:
    """What was written must read as the same draft, both with and without eagle3.json."""
    checkpoint = Checkpoint.open(resolve(str(out)))
    told = Settle(
        dialect=dialect,
        ids=WRITABLE[dialect].IDS,
        residual=config.residual,
        feedback=config.feedback,
    )
    plain = config.model_copy(update=_ONLY_IN_SIDECAR)
    alone = examine(replace(checkpoint, eagle3=None), told)
    for again, expected in ((examine(checkpoint), config), (alone, plain)):
        same_map = (again.vocab_map is None) == (draft.vocab_map is None) and (
            again.vocab_map is None or bool((again.vocab_map == draft.vocab_map).all())
        )
        if again.config != expected or again.problems or not same_map:
            found = "; ".join(p.message for p in again.problems) or "another draft"
            raise OutputError(
                f"{out} was written, but reads back as {found}",
                hint="This is a bug of eagle3_plugin; please report it with both config.json.",
            )


def _report(
    draft: Draft, config: DraftConfig, dialect: str, out: Path, tensors: list[OutTensor]
) -> Conversion:
    written = {t.name for t in tensors}
    used = {t.source[1] for t in tensors if isinstance(t.source, tuple)}
    renamed = {
        t.source[1]: t.name
        for t in tensors
        if isinstance(t.source, tuple) and t.source[1] != t.name
    }
    return Conversion(
        source=draft.checkpoint.source.name,
        source_dialect=draft.dialect,
        dialect=dialect,
        out=str(out),
        config=config,
        renamed=renamed,
        made=tuple(sorted(written - set(draft.checkpoint.tensors) - set(renamed.values()))),
        dropped=tuple(sorted(set(draft.checkpoint.tensors) - used - written)),
        num_bytes=sum((out / f).stat().st_size for f in ("model.safetensors",)),
    )
