"""`eagle3 serve`: check, choose, start, prove, try, and stay until told to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from eagle3_plugin.arguments import DeviceName, EnginePython, read_device, read_engine
from eagle3_plugin.engine_ready import engine_python
from eagle3_plugin.errors import Eagle3Error, EngineError, OfflineError, OutputError, UsageError

if TYPE_CHECKING:
    from eagle3_plugin.planning.cost import Engine
    from eagle3_plugin.planning.settings import Choice
    from eagle3_plugin.serving.choice import Chosen
    from eagle3_plugin.serving.compose import Device
    from eagle3_plugin.serving.launch import Launch
    from eagle3_plugin.serving.preflight import Preflight

CONCURRENCY = "1..16"
CONTEXT_TOKENS = 1024
WORDS = "eagle3.words"
"""Where the command keeps what came after `--`."""


class WithWords(TyperCommand):
    """A command that hands on everything after `--` as it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[WORDS] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- FLAGS OF THE ENGINE]"]


def serve(
    ctx: typer.Context,
    engine: Annotated[str, typer.Argument(help="vllm or sglang.")],
    target: Annotated[str, typer.Option("--target", help="The target: a folder or hub id.")],
    draft: Annotated[str, typer.Option("--draft", help="The draft, named alike.")],
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings", help="steps,topk,draft tokens (5,4,16) or off.", show_default="a plan's"
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            help="As in eagle3 plan; with --settings, its memory is shared out.",
            show_default="without --settings the GPU of this machine",
        ),
    ] = None,
    num_gpus: Annotated[int, typer.Option("--num-gpus", min=1, help="Tensor parallel.")] = 1,
    acceptance: Annotated[
        str | None, typer.Option("--acceptance", help="As in eagle3 plan.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            help="What eagle3 tune measured.",
            show_default="the one it keeps of this pair and hardware",
        ),
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency", help="Requests at a time, as in plan.", show_default=CONCURRENCY
        ),
    ] = None,
    context_tokens: Annotated[
        int | None,
        typer.Option(
            "--context-tokens", min=1, help="As in eagle3 plan.", show_default=str(CONTEXT_TOKENS)
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="To listen on.", show_default="the engine's"),
    ] = None,
    device: DeviceName = "gpu",
    python: EnginePython = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="The engine's log.", show_default="eagle3-ENGINE-PORT.log"),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds until it has to be healthy.")
    ] = 1200,
    force: Annotated[
        bool, typer.Option("--force", help="Go on when the check finds errors.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command and start nothing.")
    ] = False,
) -> None:
    """Start a server with the settings that pay, prove that the plugin holds the draft, try it."""
    from eagle3_plugin.serving.compose import PORTS, Served, compose, require_reachable
    from eagle3_plugin.serving.launch import Launch
    from eagle3_plugin.settings import Settings
    from eagle3_plugin.show_serve import show_choice

    judged, where = read_engine(engine), read_device(device)
    words: tuple[str, ...] = ctx.meta[WORDS]
    if not dry_run:
        require_reachable(words)
    interpreter = python or _python(judged, dry_run)
    made_for: dict[str, Any] = {
        "acceptance": acceptance,
        "profile": profile,
        "concurrency": concurrency,
        "context-tokens": context_tokens,
    }
    kept = profile or _kept_profile(judged, (target, draft), where, num_gpus)
    wanted = _wanted(settings, judged, where, gpu, made_for, kept)
    flight = _checked(draft, target, judged, interpreter, words, force=force, dry_run=dry_run)
    chosen = _chosen(wanted, judged, (target, draft), gpu, num_gpus, made_for, words, kept)
    port = port or PORTS[judged]
    served = Served(judged, interpreter, target, draft, port, where)
    path = log or Path(f"eagle3-{judged}-{port}.log")
    command = compose(served, chosen, words, path.with_suffix(".adaptive.json"))
    show_choice(chosen, command)
    if dry_run:
        return
    _write_adaptive(command.adaptive)
    is_proved = flight.plugin and command.keeps_draft and isinstance(chosen.choice, Settings)
    raise typer.Exit(_run(Launch(judged, command, path, timeout_s, is_proved)))


def _kept_profile(
    engine: Engine, pair: tuple[str, str], device: Device, num_gpus: int
) -> Path | None:
    """What eagle3 tune measured on this CPU; profiles of GPUs are found by the plan itself."""
    from eagle3_plugin.planning.profile import cpu_name, profile_path

    path = profile_path(engine, *pair, cpu_name(), num_gpus) if device == "cpu" else None
    return path if path is not None and path.exists() else None


def _wanted(
    settings: str | None,
    engine: Engine,
    device: Device,
    gpu: str | None,
    made_for: Mapping[str, Any],
    kept: Path | None,
) -> Choice | None:
    """The settings as typed; None = those of a plan. Raises UsageError for what excludes itself."""
    from eagle3_plugin.serving.choice import read_settings

    if device == "cpu" and ((settings is None and kept is None) or gpu is not None):
        raise UsageError(
            "--device cpu has no plan: plans are made for GPUs; expected --settings and no --gpu",
            hint="For example --settings 3,1,4; or measure this machine with eagle3 tune.",
        )
    given = [f"--{name}" for name, value in made_for.items() if value is not None]
    for name in ("acceptance", "profile"):
        if settings is not None and made_for[name] is not None:
            raise UsageError(
                f"--{name} is for a plan, and --settings takes the place of one; "
                "give one of the two"
            )
    if settings is not None and gpu is None and given:
        raise UsageError(
            f"{', '.join(given)} with --settings share out the memory of a GPU; expected --gpu too",
            hint='Add for example --gpu "RTX 4090", or leave them out.',
        )
    return None if settings is None else read_settings(settings, engine)


def _python(engine: Engine, dry_run: bool) -> str:
    """The Python that has the engine; for a dry run without one, the bare word."""
    from eagle3_plugin.demo_engines import find_python

    return engine_python(engine, (find_python(engine) or "python") if dry_run else None)


def _checked(
    draft: str,
    target: str,
    engine: Engine,
    python: str,
    words: Sequence[str],
    *,
    force: bool,
    dry_run: bool,
) -> Preflight:
    """The preflight, printed; errors end here, but for --force."""
    from eagle3_plugin.serving.preflight import NOT_FOUND, Preflight, installed, preflight
    from eagle3_plugin.show_serve import show_preflight, show_unchecked

    try:
        here = NOT_FOUND if dry_run and python == "python" else installed(engine, python)
        flight = preflight(draft, target, engine, here, needs_engine=not dry_run, words=words)
    except OfflineError as error:
        if not (force or dry_run):
            raise
        show_unchecked(error)
        return Preflight(None, (), plugin=True)
    show_preflight(flight)
    if not flight.ok and not force:
        raise EngineError(
            f"{flight.num_errors} error(s) in the check above; expected none before a start",
            hint="Mend them, or go on all the same with --force.",
        )
    return flight


def _chosen(
    wanted: Choice | None,
    engine: Engine,
    pair: tuple[str, str],
    gpu: str | None,
    num_gpus: int,
    made_for: Mapping[str, Any],
    words: Sequence[str],
    profile: Path | None,
) -> Chosen:
    from eagle3_plugin.planning.asked import read_asked
    from eagle3_plugin.serving.choice import limit_flags, planned, stated

    if wanted is not None and gpu is None:
        return stated(wanted, engine, num_gpus)
    asked = read_asked(
        *pair,
        engine,
        gpu=gpu,
        num_gpus=num_gpus,
        acceptance=made_for["acceptance"],
        concurrency=made_for["concurrency"] or CONCURRENCY,
        context_tokens=made_for["context-tokens"] or CONTEXT_TOKENS,
        goal="latency",
        baseline_tokens_per_s=None,
        server_flags=limit_flags(words, engine),
        profile=profile,
    )
    return planned(asked) if wanted is None else stated(wanted, engine, num_gpus, asked)


def _write_adaptive(file: tuple[Path, str] | None) -> None:
    """SGLang's schedule, which it takes as a file."""
    if file is None:
        return
    path, text = file
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"SGLang's schedule {path} cannot be written: {error.strerror}; expected a folder "
            "that exists, the log's",
            hint="Name a log in a folder that you may write to, with --log.",
        ) from error


def _run(wanted: Launch) -> int:
    """The exit code; no key is in what is printed."""
    from eagle3_plugin.serving.launch import launch
    from eagle3_plugin.show_serve import speaking

    secrets = wanted.command.secrets
    try:
        with speaking(secrets) as voice:
            return launch(wanted, voice)
    except Eagle3Error as error:
        hint = None if error.hint is None else secrets.hide(error.hint)
        raise type(error)(secrets.hide(error.message), hint=hint) from None
