"""The verbs about a draft on its own or with its target: inspect, check, convert, score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eagle3_plugin import console
from eagle3_plugin.answers import NONE_GIVEN, Answers, with_answers
from eagle3_plugin.arguments import (
    AsJson,
    DraftName,
    PromptFile,
    TargetName,
    TreeList,
    open_checkpoint,
    open_draft,
    open_target,
    read_engine,
)
from eagle3_plugin.errors import UsageError


@with_answers
def inspect(
    draft: DraftName,
    target: TargetName = None,
    settle: Answers = NONE_GIVEN,
    as_json: AsJson = False,
) -> None:
    """Show what a draft is: canonical config, dialect, tensors, size. Reads headers only."""
    from eagle3_plugin.draft.inspect import inspection

    read_target = open_target(target)
    found = inspection(open_draft(draft, settle(read_target)), read_target)
    if as_json:
        return console.print_json(found)
    from eagle3_plugin.show import show_inspection

    show_inspection(found)
    console.print_next(f"eagle3 check {draft} --target {target or 'TARGET'} --engine vllm")


@with_answers
def check(
    draft: DraftName,
    target: TargetName = None,
    engine: Annotated[str, typer.Option("--engine", help="vllm or sglang.")] = "vllm",
    stock: Annotated[
        bool, typer.Option("--stock", help="Judge the engine without our plugin.")
    ] = False,
    settle: Answers = NONE_GIVEN,
    as_json: AsJson = False,
) -> None:
    """Find every silent failure of a draft with this target in this engine, before it is served."""
    from eagle3_plugin.draft.check import check as run_check
    from eagle3_plugin.draft.check import installed_version

    read_target = open_target(target)
    judged = read_engine(engine)
    report = run_check(
        open_checkpoint(draft),
        read_target,
        judged,
        plugin=not stock,
        settle=settle(read_target),
        engine_version=installed_version(judged),
    )
    if as_json:
        console.print_json(report.to_json())
    else:
        from eagle3_plugin.show import show_report

        show_report(report, draft, target)
    if not report.ok:
        raise typer.Exit(1)


@with_answers
def convert(
    draft: DraftName,
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[str, typer.Option("--to", help="sglang, vllm, speculators or universal.")],
    target: TargetName = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    settle: Answers = NONE_GIVEN,
    as_json: AsJson = False,
) -> None:
    """Write a draft in another dialect, with its meaning kept to the bit."""
    from eagle3_plugin.draft.convert import convert as run_convert

    read_target = open_target(target)
    source = open_draft(draft, settle(read_target))
    total = sum(t.nbytes for t in source.checkpoint.tensors.values())
    with console.progress_bar("convert", hidden=as_json) as update:
        written = [0]

        def progress(num_bytes: int) -> None:
            written[0] += num_bytes
            update(written[0], total)

        done = run_convert(source, out, to, target=read_target, force=force, progress=progress)
    if as_json:
        return console.print_json(done.to_json())
    from eagle3_plugin.show import show_conversion

    show_conversion(done, target)


@with_answers
def score(
    draft: DraftName,
    target: Annotated[str, typer.Option("--target", help="The target model, named alike.")],
    prompts: PromptFile = None,
    chain: Annotated[int, typer.Option("--chain", min=1, help="The longest chain to judge.")] = 5,
    tree: TreeList = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=2)] = 128,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16.")] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")] = "cpu",
    sweep_taps: Annotated[
        bool, typer.Option("--sweep-taps", help="Find out which taps the draft was trained on.")
    ] = False,
    sweep_images: Annotated[
        bool, typer.Option("--sweep-images", help="Find out how it was trained on images.")
    ] = False,
    save: Annotated[
        bool,
        typer.Option("--save", help="Keep the acceptance in the draft's eagle3.json."),
    ] = False,
    settle: Answers = NONE_GIVEN,
    as_json: AsJson = False,
) -> None:
    """Measure acceptance without an engine: greedy tokens per verify of chains and trees.

    Prompts may have images, with a Qwen3-VL target.
    """
    from eagle3_plugin.draft.rounds import ScoreResult
    from eagle3_plugin.draft.scoring import ScoreRequest, run_score, save_score
    from eagle3_plugin.draft.sweep import SweepResult
    from eagle3_plugin.show_score import show_image_sweep, show_score, show_sweep

    sweep = _one_sweep(sweep_taps, sweep_images, save=save, tree=bool(tree))
    read_target = open_target(target)
    source = open_draft(draft, settle(read_target))
    request = ScoreRequest(
        target=target,
        prompts=prompts,
        chain=chain,
        max_new_tokens=max_new_tokens,
        dtype=dtype,
        device=device,
        sweep=sweep,
        trees=tuple(tree or ()),
    )
    with console.progress_bar("score", hidden=as_json) as update:
        result = run_score(source, request, update)
    if save and isinstance(result, ScoreResult):
        save_score(source, result, target)
    if as_json:
        return console.print_json(result.to_json())
    if isinstance(result, ScoreResult):
        return show_score(result, draft, target, saved=save)
    if isinstance(result, SweepResult):
        return show_sweep(result, draft, target)
    show_image_sweep(result, draft, target)


def _one_sweep(
    taps: bool, images: bool, *, save: bool, tree: bool
) -> Literal["taps", "images"] | None:
    """What to sweep over, if anything: a sweep makes no score, and is one at a time."""
    if taps and images:
        raise UsageError("--sweep-taps and --sweep-images are two sweeps; give one of the two")
    if not taps and not images:
        return None
    name = "--sweep-taps" if taps else "--sweep-images"
    if save:
        raise UsageError(f"--save keeps a score, {name} makes none; give one of the two")
    if tree:
        raise UsageError(f"--tree is part of a score, {name} makes none; give one of the two")
    return "taps" if taps else "images"
