"""The verbs: parse, call, print. Everything that they do is elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eagle3_plugin import console
from eagle3_plugin.arguments import (
    AsJson,
    DialectName,
    DraftName,
    Feedback,
    Ids,
    PromptFile,
    Residual,
    TapList,
    TargetName,
    answers,
    bench_prompts,
    is_qwen3,
    open_checkpoint,
    open_draft,
    open_target,
    read_engine,
)
from eagle3_plugin.errors import Eagle3Error, UsageError

app = typer.Typer(
    name="eagle3",
    help="EAGLE-3 drafts for Qwen3 and Qwen3-VL, served as they were trained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

WITH_PLUGIN = ("vllm",)
"""Engines that this release has a plugin for; others are judged as stock."""


def main() -> None:
    """Run the command line; exit 0 = done, 1 = the thing checked is wrong, 2 = wrong use."""
    try:
        app()
    except Eagle3Error as error:
        console.print_error(error.message, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.err.print("stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


@app.command()
def inspect(
    draft: DraftName,
    target: TargetName = None,
    dialect: DialectName = None,
    taps: TapList = None,
    ids: Ids = None,
    residual: Residual = None,
    feedback: Feedback = None,
    as_json: AsJson = False,
) -> None:
    """Show what a draft is: canonical config, dialect, tensors, size. Reads headers only."""
    from eagle3_plugin.draft.inspect import inspection

    read_target = open_target(target)
    settle = answers(dialect, taps, ids, residual, feedback, read_target)
    found = inspection(open_draft(draft, settle), read_target)
    if as_json:
        return console.print_json(found)
    from eagle3_plugin.show import show_inspection

    show_inspection(found)
    console.print_next(f"eagle3 check {draft} --target {target or 'TARGET'} --engine vllm")


@app.command()
def check(
    draft: DraftName,
    target: TargetName = None,
    engine: Annotated[str, typer.Option("--engine", help="vllm or sglang.")] = "vllm",
    stock: Annotated[
        bool, typer.Option("--stock", help="Judge the engine without our plugin.")
    ] = False,
    dialect: DialectName = None,
    taps: TapList = None,
    ids: Ids = None,
    residual: Residual = None,
    feedback: Feedback = None,
    as_json: AsJson = False,
) -> None:
    """Find every silent failure of a draft with this target in this engine, before it is served."""
    from eagle3_plugin.draft.check import check as run_check
    from eagle3_plugin.draft.check import installed_version

    read_target = open_target(target)
    settle = answers(dialect, taps, ids, residual, feedback, read_target)
    judged = read_engine(engine)
    report = run_check(
        open_checkpoint(draft),
        read_target,
        judged,
        plugin=not stock and judged in WITH_PLUGIN and is_qwen3(read_target),
        settle=settle,
        engine_version=installed_version(judged),
    )
    if as_json:
        console.print_json(report.to_json())
    else:
        from eagle3_plugin.show import show_report

        show_report(report, draft, target)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def convert(
    draft: DraftName,
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[str, typer.Option("--to", help="sglang, vllm, speculators or universal.")],
    target: TargetName = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    dialect: DialectName = None,
    taps: TapList = None,
    ids: Ids = None,
    residual: Residual = None,
    feedback: Feedback = None,
    as_json: AsJson = False,
) -> None:
    """Write a draft in another dialect, with its meaning kept to the bit."""
    from eagle3_plugin.draft.convert import convert as run_convert

    read_target = open_target(target)
    settle = answers(dialect, taps, ids, residual, feedback, read_target)
    source = open_draft(draft, settle)
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


@app.command()
def score(
    draft: DraftName,
    target: Annotated[str, typer.Option("--target", help="The target model, named alike.")],
    prompts: PromptFile = None,
    chain: Annotated[int, typer.Option("--chain", min=1, help="The longest chain to judge.")] = 5,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=2)] = 128,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16.")] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")] = "cpu",
    sweep_taps: Annotated[
        bool, typer.Option("--sweep-taps", help="Find out which taps the draft was trained on.")
    ] = False,
    save: Annotated[
        bool,
        typer.Option("--save", help="Keep the acceptance in the draft's eagle3.json."),
    ] = False,
    dialect: DialectName = None,
    taps: TapList = None,
    ids: Ids = None,
    residual: Residual = None,
    feedback: Feedback = None,
    as_json: AsJson = False,
) -> None:
    """Measure acceptance without an engine: greedy tokens per verify for every chain length."""
    from eagle3_plugin.draft.scoring import ScoreRequest, run_score, save_score
    from eagle3_plugin.draft.sweep import SweepResult
    from eagle3_plugin.show import show_score, show_sweep

    if save and sweep_taps:
        raise UsageError("--save keeps a score, --sweep-taps makes none; give one of the two")
    read_target = open_target(target)
    settle = answers(dialect, taps, ids, residual, feedback, read_target)
    source = open_draft(draft, settle)
    request = ScoreRequest(
        target=target,
        prompts=prompts,
        chain=chain,
        max_new_tokens=max_new_tokens,
        dtype=dtype,
        device=device,
        sweep=sweep_taps,
    )
    with console.progress_bar("score", hidden=as_json) as update:
        result = run_score(source, request, update)
    if isinstance(result, SweepResult):
        if as_json:
            return console.print_json(result.to_json())
        return show_sweep(result, draft, target)
    if save:
        save_score(source, result, target)
    if as_json:
        return console.print_json(result.to_json())
    show_score(result, draft, target, saved=save)


@app.command()
def bench(
    url: Annotated[str, typer.Argument(help="A running OpenAI-compatible server.")],
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The same engine without speculation.")
    ] = None,
    prompts: PromptFile = None,
    humaneval: Annotated[
        int | None,
        typer.Option("--humaneval", min=1, help="The first N problems of HumanEval instead."),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1)] = 1,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 128,
    temperature: Annotated[float, typer.Option("--temperature", min=0)] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Measure acceptance and speed of a running server; compare its output with a baseline's."""
    from eagle3_plugin.serving.bench import bench as run_bench
    from eagle3_plugin.show import show_bench

    asked = bench_prompts(prompts, humaneval)
    with console.progress_bar("bench", hidden=as_json) as update:
        result = run_bench(
            url,
            asked,
            baseline_url=baseline,
            concurrency=concurrency,
            max_tokens=max_new_tokens,
            temperature=temperature,
            progress=lambda phase, done, total: update(done, total, phase),
        )
    if as_json:
        console.print_json(result.to_json())
    else:
        show_bench(result)
    if result.equality is not None and result.equality.num_equal < result.equality.num_compared:
        raise typer.Exit(1)


@app.command()
def plugins(
    engine: Annotated[str, typer.Argument(help="The engine: vllm.")] = "vllm",
    python: Annotated[
        str,
        typer.Option(
            "--python", help="The Python of the engine's environment.", show_default="this one"
        ),
    ] = sys.executable,
    as_json: AsJson = False,
) -> None:
    """Prove, in a fresh process, what is registered with the installed engine."""
    from eagle3_plugin.engines.plugins import PROBES, registered
    from eagle3_plugin.show import show_plugins

    if engine not in PROBES:
        raise UsageError(f"no plugin for {engine!r} in this release; there is: {', '.join(PROBES)}")
    report = registered(engine, python)
    if as_json:
        console.print_json(report)
    else:
        show_plugins(report)
    if not report["ok"]:
        raise typer.Exit(1)


@app.command()
def demo(
    engine: Annotated[str, typer.Option("--engine", help="The engine: vllm.")] = "vllm",
    python: Annotated[
        str | None, typer.Option("--python", help="The Python of the engine's environment.")
    ] = None,
    variant: Annotated[str, typer.Option("--variant", help="The tiny draft to train.")] = "llama",
    work: Annotated[
        Path | None, typer.Option("--work", help="Keep converted draft and logs in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a tiny pair, convert the draft, serve it with and without speculation, and compare."""
    from eagle3_plugin.demo import run_demo

    if engine != "vllm":
        raise UsageError(f"no demo for {engine!r} in this release; there is: vllm")
    result = run_demo(variant=variant, python=python, work=work, quiet=as_json)
    if as_json:
        console.print_json(result.to_json())
    if not result.ok:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
