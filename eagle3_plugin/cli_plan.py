"""`eagle3 plan`: which settings to run, and why. Parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eagle3_plugin import console
from eagle3_plugin.arguments import AsJson, TargetName, read_engine
from eagle3_plugin.errors import OutputError, UsageError

if TYPE_CHECKING:
    from eagle3_plugin.planning.plan import Plan

PROBE = "3,1,4"


DraftName = Annotated[
    str | None, typer.Option("--draft", help="The draft: a folder or hub id; config only.")
]
GpuName = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        help='A name, or "mem_gib=24,mem_bw_gbps=1008,bf16_tflops=165".',
        show_default="the GPU of this machine",
    ),
]
NumGpus = Annotated[int, typer.Option("--num-gpus", min=1)]
EngineName = Annotated[str, typer.Option("--engine", help="vllm or sglang.")]
AcceptanceForm = Annotated[
    str | None,
    typer.Option(
        "--acceptance",
        help="typical, card:DRAFT[:BENCHMARK], 3.33@5,4,16, rates by depth 0.81,0.73, or a "
        "file of score --json or bench --json.",
        show_default="eagle3.json, else the card, else typical",
    ),
]
Concurrency = Annotated[
    str, typer.Option("--concurrency", help="Requests at a time: 4, or a range 1..64.")
]
ContextTokens = Annotated[
    int, typer.Option("--context-tokens", min=1, help="Tokens of each request.")
]
GoalName = Annotated[
    str,
    typer.Option("--goal", help="What decides in a range: latency (low end) or throughput."),
]
BaselineSpeed = Annotated[
    float | None,
    typer.Option("--baseline-tokens-per-s", help="Measured without speculation, all requests."),
]
ServerFlags = Annotated[
    list[str] | None,
    typer.Option("--server-flag", help="A flag of the server: page-size=64. Repeatable."),
]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", help="Write speedup by load to this SVG file.")
]
MeasurementFile = Annotated[
    Path | None,
    typer.Option("--from-measurements", help="Choose from a CSV of measurements instead."),
]
ProbeText = Annotated[
    str | None,
    typer.Option("--probe", help="The measured settings to choose from.", show_default=PROBE),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        help="Use the times that eagle3 tune measured, or a result of eagle3 bench.",
        show_default="the one it keeps of this pair and GPU",
    ),
]
Evaluate = Annotated[
    bool, typer.Option("--evaluate", help="Set the choices beside the best that was measured.")
]


def plan(
    target: TargetName = None,
    draft: DraftName = None,
    gpu: GpuName = None,
    num_gpus: NumGpus = 1,
    engine: EngineName = "vllm",
    acceptance: AcceptanceForm = None,
    concurrency: Concurrency = "1",
    context_tokens: ContextTokens = 1024,
    goal: GoalName = "latency",
    baseline_tokens_per_s: BaselineSpeed = None,
    server_flag: ServerFlags = None,
    profile: ProfileFile = None,
    plot: PlotFile = None,
    from_measurements: MeasurementFile = None,
    probe: ProbeText = None,
    evaluate: Evaluate = False,
    as_json: AsJson = False,
) -> None:
    """Choose settings for a GPU, a pair and a load: how many draft tokens, or none, and why."""
    of_pair = (target, draft, gpu, acceptance, baseline_tokens_per_s, server_flag, profile, plot)
    if from_measurements is not None:
        if any(option is not None for option in of_pair):
            raise UsageError(
                "--from-measurements takes target, draft and baseline from its file; "
                "expected --probe, --evaluate and --json beside it only"
            )
        return _from_measurements(from_measurements, probe or PROBE, evaluate, as_json)
    if probe is not None or evaluate:
        raise UsageError("--probe and --evaluate belong to --from-measurements, which is not there")
    if target is None or draft is None:
        raise UsageError(
            "a plan is for a pair: expected --target and --draft, or --from-measurements",
            hint="eagle3 plan --target TARGET --draft DRAFT --gpu NAME",
        )
    from eagle3_plugin.planning.asked import read_asked
    from eagle3_plugin.planning.plan import plan as make_plan

    asked = read_asked(
        target,
        draft,
        read_engine(engine),
        gpu=gpu,
        num_gpus=num_gpus,
        acceptance=acceptance,
        concurrency=concurrency,
        context_tokens=context_tokens,
        goal=goal,
        baseline_tokens_per_s=baseline_tokens_per_s,
        server_flags=server_flag or (),
        profile=profile,
    )
    _print(make_plan(asked), plot, as_json)


def _print(made: Plan, plot: Path | None, as_json: bool) -> None:
    if plot is not None:
        _write_picture(made, plot)
    if as_json:
        return console.print_json(made.to_json())
    from eagle3_plugin.show_plan import show_plan

    show_plan(made)


def _write_picture(made: Plan, path: Path) -> None:
    from eagle3_plugin.planning.picture import svg

    text = svg(made)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"--plot {path}: {error.strerror or error}; expected a file that can be written"
        ) from error


def _from_measurements(path: Path, probe: str, evaluate: bool, as_json: bool) -> None:
    from eagle3_plugin.planning.measurements import decide, read_points
    from eagle3_plugin.planning.regret import evaluate as regrets_of
    from eagle3_plugin.planning.settings import OFF, parse

    settings = parse(probe)
    if settings is OFF:
        raise UsageError("--probe is off, expected settings that were measured, as in 3,1,4")
    groups = read_points(path)
    decisions = decide(groups, settings)
    regrets = regrets_of(groups, decisions) if evaluate else ()
    if as_json:
        found: dict[str, Any] = decisions.to_json()
        if evaluate:
            found["regret"] = [r.to_json() for r in regrets]
        return console.print_json(found)
    from eagle3_plugin.show_plan import show_decisions

    show_decisions(decisions, regrets)
