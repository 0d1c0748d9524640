"""`eagle3 score`: a named draft and a named target -> a score, kept in eagle3.json if asked."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from eagle3_plugin.draft.checkpoint import write_json_atomic
from eagle3_plugin.draft.prompts import BUNDLED, read_prompts
from eagle3_plugin.draft.read import Draft
from eagle3_plugin.draft.rounds import ScoreResult
from eagle3_plugin.draft.sidecar import SIDECAR, new_sidecar, with_expected_acceptance
from eagle3_plugin.errors import MissingExtraError, UsageError
from eagle3_plugin.hub import Source, resolve

try:
    from eagle3_plugin.draft.score import Dtype, load_pair, score
    from eagle3_plugin.draft.sweep import SweepResult, sweep_taps
    from eagle3_plugin.draft.sweep_images import ImageSweepResult, sweep_images
    from eagle3_plugin.settings import Settings
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        f"scoring needs {missing.name}, which is not installed",
        hint="pip install 'eagle3-plugin[torch]'",
    ) from missing


@dataclass(frozen=True)
class ScoreRequest:
    """What to score with: `prompts` is None for the bundled set, `trees` are as typed (5,4,16).

    sweep: what to find out instead of a score.
    """

    target: str
    prompts: Path | None
    chain: int
    max_new_tokens: int
    dtype: str
    device: str
    sweep: Literal["taps", "images"] | None
    trees: tuple[str, ...] = ()


def run_score(
    draft: Draft, request: ScoreRequest, progress: Callable[[int, int], None]
) -> ScoreResult | SweepResult | ImageSweepResult:
    """The draft's score, or with `sweep` the ranking of tap sets or of ways to feed images."""
    dtypes: tuple[Dtype, ...] = get_args(Dtype)
    dtype = next((d for d in dtypes if d == request.dtype), None)
    if dtype is None:
        raise UsageError(f"--dtype {request.dtype}: expected one of {', '.join(dtypes)}")
    trees = [Settings.parse(text) for text in request.trees]
    runs: dict[str | None, Callable[..., Any]] = {
        None: functools.partial(score, trees=trees),
        "taps": sweep_taps,
        "images": sweep_images,
    }
    prompts = read_prompts(request.prompts or BUNDLED)
    folder = _fetched(resolve(request.target))
    return runs[request.sweep](  # type: ignore[no-any-return]
        *load_pair(draft, folder, dtype=dtype, device=request.device),
        prompts,
        chain=request.chain,
        max_new_tokens=request.max_new_tokens,
        progress=progress,
    )


def save_score(draft: Draft, result: ScoreResult, target: str) -> Path:
    """Writes the expected acceptance into the eagle3.json of the draft's own folder."""
    folder = Path(draft.checkpoint.source.name)
    if not folder.is_dir():
        raise UsageError(
            f"--save needs a draft in a local folder; {draft.checkpoint.source.name} is on a hub",
            hint="Convert it into a folder first: eagle3 convert DRAFT OUT --to universal",
        )
    kept = draft.checkpoint.eagle3 or new_sidecar(
        draft.config, draft.checkpoint.config, {"source": folder.resolve().name}
    )
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = folder / SIDECAR
    name = Path(target).resolve().name if Path(target).is_dir() else target
    write_json_atomic(path, with_expected_acceptance(kept, result.to_json(), name, day))
    return path


_TARGET_FILES = (".json", ".safetensors", ".txt", ".model", ".jinja")


def _fetched(target: Source) -> Path:
    """The folder with the target's config, tokenizer and weights, downloaded if need be."""
    files = [target.path(f) for f in target.sizes() if f.endswith(_TARGET_FILES)]
    return files[0].parent
