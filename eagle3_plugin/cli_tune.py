"""`eagle3 tune`: measure this machine, and keep what `plan` and `serve` then prefer."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eagle3_plugin import __version__, console
from eagle3_plugin.arguments import (
    AsJson,
    DeviceName,
    EnginePython,
    PromptFile,
    bench_prompts,
    read_device,
    read_engine,
)
from eagle3_plugin.cli_serve import CONCURRENCY, WORDS
from eagle3_plugin.engine_ready import engine_python, ready_to_measure
from eagle3_plugin.errors import Eagle3Error, UsageError

if TYPE_CHECKING:
    from eagle3_plugin.planning.cost import Engine
    from eagle3_plugin.planning.profile import Subject
    from eagle3_plugin.serving.redact import Secrets
    from eagle3_plugin.serving.tune import Tuned
    from eagle3_plugin.serving.tune_server import TuneServers
    from eagle3_plugin.settings import Settings


def tune(
    ctx: typer.Context,
    engine: Annotated[str, typer.Argument(help="vllm or sglang.")],
    target: Annotated[str, typer.Option("--target", help="The target: a folder or hub id.")],
    draft: Annotated[str, typer.Option("--draft", help="The draft, named alike.")],
    prompts: PromptFile = None,
    concurrency: Annotated[
        str, typer.Option("--concurrency", help="Requests at a time: 4, or a range.")
    ] = CONCURRENCY,
    tree: Annotated[
        list[str] | None,
        typer.Option("--tree", help="A tree to run too, as in 5,4,16 (SGLang). Repeatable."),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=2, help="Of each answer.")
    ] = 128,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0, help="Of measuring at each load, unless times agree sooner."
        ),
    ] = 20,
    device: DeviceName = "gpu",
    num_gpus: Annotated[int, typer.Option("--num-gpus", min=1, help="Tensor parallel.")] = 1,
    python: EnginePython = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile", help="Where to keep it.", show_default="where plan and serve look"
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds until a server has to be healthy.")
    ] = 1200,
    as_json: AsJson = False,
) -> None:
    """Measure round times and acceptance on this machine, and find the fastest settings.

    A run that was stopped goes on where it was when it is typed again.
    """
    from eagle3_plugin.planning.asked import parse_concurrency
    from eagle3_plugin.planning.plan import loads_between
    from eagle3_plugin.planning.profile import profile_path
    from eagle3_plugin.serving.compose import Served
    from eagle3_plugin.serving.redact import Secrets
    from eagle3_plugin.serving.tune_server import TuneServers
    from eagle3_plugin.show_tune import show_tuned, tuned_json

    judged, where = read_engine(engine), read_device(device)
    loads, trees = loads_between(*parse_concurrency(concurrency)), _trees(tree or (), judged)
    asked, words = bench_prompts(prompts, None), tuple(ctx.meta[WORDS])
    secrets = Secrets.of(words, os.environ)
    interpreter = engine_python(judged, python)
    servers = TuneServers(
        Served(judged, interpreter, target, draft, 0, where),
        num_gpus=num_gpus,
        words=words,
        prompts=asked,
        max_new_tokens=max_new_tokens,
        timeout_s=timeout_s,
        is_proved=True,
        waves_s=seconds,
    )
    version, is_proved = ready_to_measure(servers.served, words, quiet=as_json)
    servers = replace(servers, is_proved=is_proved)
    subject = _subject(servers, version, [secrets.hide(word) for word in words])
    path = profile or profile_path(judged, target, draft, subject.hardware, num_gpus)
    tuned = _run(servers, subject, path, loads, trees, secrets, quiet=as_json)
    if as_json:
        return console.print_json(tuned_json(tuned, path))
    show_tuned(tuned, path)
    console.print_next(secrets.hide(_next(servers, concurrency, python, profile)))


def _trees(texts: Sequence[str], engine: Engine) -> list[Settings]:
    """The trees as typed; vLLM drafts chains only, and chains are measured anyway."""
    from eagle3_plugin.settings import Settings

    trees = list(dict.fromkeys(map(Settings.parse, texts)))
    chains = [str(t) for t in trees if t.is_chain]
    if chains or (trees and engine == "vllm"):
        found = f"--tree {chains[0]}, a chain" if chains else "--tree with vllm"
        raise UsageError(
            f"{found}; expected a tree, and SGLang",
            hint="Leave it out: chains of all lengths are measured, and vLLM drafts nothing else.",
        )
    return trees


def _subject(servers: TuneServers, engine_version: str, words: Sequence[str]) -> Subject:
    """What the profile is of. words: without keys."""
    from eagle3_plugin.planning.asked import local_hardware
    from eagle3_plugin.planning.profile import Subject, cpu_name, full_name

    served = servers.served
    prompts = json.dumps(list(servers.prompts), sort_keys=True)
    return Subject(
        engine=served.engine,
        target=full_name(served.target),
        draft=full_name(served.draft),
        device=served.device,
        hardware=cpu_name() if served.device == "cpu" else local_hardware(),
        num_gpus=servers.num_gpus,
        engine_version=engine_version,
        plugin_version=__version__,
        words=tuple(words),
        prompts_sha256=hashlib.sha256(prompts.encode()).hexdigest(),
        num_prompts=len(servers.prompts),
        max_new_tokens=servers.max_new_tokens,
    )


def _run(
    servers: TuneServers,
    subject: Subject,
    path: Path,
    loads: Sequence[int],
    trees: Sequence[Settings],
    secrets: Secrets,
    *,
    quiet: bool,
) -> Tuned:
    """The result; what is measured is on the disk before the next measurement begins."""
    from eagle3_plugin.serving.profile_file import opened
    from eagle3_plugin.serving.tune import tune as find_fastest
    from eagle3_plugin.serving.tune_server import simulates
    from eagle3_plugin.show_tune import reporting

    served = servers.served
    try:
        with opened(path, subject) as file, reporting(quiet=quiet) as (report, loading):
            return find_fastest(
                file,
                loads,
                trees,
                servers.measuring(path.with_name(path.name + ".log"), file.name_command, loading),
                report,
                simulates=simulates(served.engine, served.device),
            )
    except Eagle3Error as error:
        hint = None if error.hint is None else secrets.hide(error.hint)
        raise type(error)(secrets.hide(error.message), hint=hint) from None


def _next(servers: TuneServers, concurrency: str, python: str | None, profile: Path | None) -> str:
    """The `eagle3 serve` of what was measured: the same machine, loads and words for the engine."""
    from eagle3_plugin.serving.redact import shown_command

    served = servers.served
    options = {
        "--target": served.target,
        "--draft": served.draft,
        "--concurrency": "".join(concurrency.split()),
        "--num-gpus": None if servers.num_gpus == 1 else str(servers.num_gpus),
        "--device": "cpu" if served.device == "cpu" else None,
        "--python": python,
        "--profile": None if profile is None else str(profile),
    }
    typed = [word for name, value in options.items() if value is not None for word in (name, value)]
    after = f" -- {shown_command(servers.words)}" if servers.words else ""
    return f"{shlex.join(('eagle3', 'serve', served.engine, *typed))}{after}"
