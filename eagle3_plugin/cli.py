"""The verbs: parse, call, print. Everything that they do is elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eagle3_plugin import console
from eagle3_plugin.arguments import AsJson
from eagle3_plugin.cli_bench import bench
from eagle3_plugin.cli_draft import check, convert, inspect, score
from eagle3_plugin.cli_plan import plan
from eagle3_plugin.cli_report import report
from eagle3_plugin.cli_serve import WithWords, serve
from eagle3_plugin.cli_tune import tune
from eagle3_plugin.cli_watch import watch
from eagle3_plugin.errors import Eagle3Error, UsageError

app = typer.Typer(
    name="eagle3",
    help="EAGLE-3 drafts for Qwen3 and Qwen3-VL, served as they were trained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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


for verb in (inspect, check, convert, score):
    app.command()(verb)


app.command(cls=WithWords)(bench)
app.command()(report)
app.command()(watch)
app.command()(plan)
app.command(cls=WithWords)(serve)
app.command(cls=WithWords)(tune)


@app.command()
def plugins(
    engine: Annotated[str, typer.Argument(help="The engine: vllm or sglang.")] = "vllm",
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
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", help="vllm, sglang or both.", show_default="vllm if found, else sglang"
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", help="The Python of the engine's environment.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="The tiny draft to train.", show_default="llama"),
    ] = None,
    vl: Annotated[
        bool, typer.Option("--vl", help="A tiny Qwen3-VL, shown pictures, in place of a Qwen3.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option("--work", help="Keep converted draft and logs in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a tiny pair, convert the draft, serve it with and without speculation, and compare."""
    from eagle3_plugin.demo import run_demo

    if vl and variant is not None:
        raise UsageError("--vl and --variant name two pairs; expected one of them")
    chosen = None if vl else variant or "llama"
    result = run_demo(engine=engine, variant=chosen, python=python, work=work, quiet=as_json)
    if as_json:
        console.print_json(result.to_json())
    if not result.ok:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
