"""The arguments that verbs share: how they are spelled, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eagle3_plugin.errors import UsageError

if TYPE_CHECKING:
    from eagle3_plugin.draft.checkpoint import Checkpoint
    from eagle3_plugin.draft.config import TargetConfig
    from eagle3_plugin.draft.dialects.settle import Settle
    from eagle3_plugin.draft.read import Draft
    from eagle3_plugin.serving.compose import Device

DraftName = Annotated[
    str, typer.Argument(help="The draft: a folder, org/name or org/name@revision.")
]
TargetName = Annotated[str | None, typer.Option("--target", help="The target model, named alike.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
EnginePython = Annotated[
    str | None,
    typer.Option(
        "--python",
        help="The Python of the engine's environment.",
        show_default="this one, else .venvs/ENGINE",
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="gpu, or cpu for small models.")]
TreeList = Annotated[
    list[str] | None,
    typer.Option(
        "--tree", help="Judge a tree of SGLang's too: steps,topk,draft tokens (5,4,16). Repeatable."
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompts", help="jsonl with prompt, messages or prompt_token_ids per line."),
]


def read_engine(name: str) -> Any:
    """The engine, or UsageError."""
    if name not in ("vllm", "sglang"):
        raise UsageError(f"unknown engine {name!r}; expected vllm or sglang")
    return name


def read_device(name: str) -> Device:
    """The device, or UsageError."""
    if name not in ("gpu", "cpu"):
        raise UsageError(f"--device is {name!r}, expected gpu or cpu")
    return "gpu" if name == "gpu" else "cpu"


def open_checkpoint(name: str) -> Checkpoint:
    """The files of a folder or hub id, headers read."""
    from eagle3_plugin.draft.checkpoint import Checkpoint
    from eagle3_plugin.hub import resolve

    return Checkpoint.open(resolve(name))


def open_draft(name: str, settle: Settle) -> Draft:
    """The draft of that name, with the answers that the user gave."""
    from eagle3_plugin.draft.read import read_draft

    return read_draft(open_checkpoint(name), settle)


def open_target(name: str | None) -> TargetConfig | None:
    """The config of a target, None without a name."""
    if name is None:
        return None
    from eagle3_plugin.draft.target_config import read_target

    return read_target(name)


def bench_prompts(path: Path | None, num_humaneval: int | None) -> list[dict[str, Any]]:
    """The prompts of a file, of HumanEval, or the bundled ones."""
    from eagle3_plugin.draft.prompts import BUNDLED, read_prompts
    from eagle3_plugin.serving.humaneval import humaneval_prompts

    if path is not None and num_humaneval is not None:
        raise UsageError("--prompts and --humaneval are two sets of prompts; give one of them")
    if num_humaneval is not None:
        return [dict(p) for p in humaneval_prompts(num_humaneval)]
    return [{p.kind: p.value, "set": p.set} for p in read_prompts(path or BUNDLED)]
