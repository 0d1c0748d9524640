"""How a plan and the choices from measurements look on a terminal."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eagle3_plugin import console
from eagle3_plugin.console import print_next, print_pairs, print_table
from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm
from eagle3_plugin.planning.memory import GIB
from eagle3_plugin.planning.picture import best_series, blocks
from eagle3_plugin.planning.schedule import (
    off_from,
    sglang_config,
    sglang_steps,
    vllm_schedule,
)
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import chain

if TYPE_CHECKING:
    from eagle3_plugin.planning.measurements import Decisions
    from eagle3_plugin.planning.plan import Plan
    from eagle3_plugin.planning.ranking import Ranked
    from eagle3_plugin.planning.regret import Regret

NUM_ROWS = 6


def show_plan(plan: Plan) -> None:
    """The choice first, then what it rests on, then the command."""
    _show_inputs(plan)
    colour = "green" if plan.choice is not OFF else "yellow"
    console.out.print(f"\n[bold {colour}]{plan.choice}[/] ", end="")
    console.out.print(f"{plan.reason} ({plan.basis})", markup=False)
    _show_ranking(plan)
    if len(plan.rankings) > 1:
        _show_loads(plan)
    if plan.schedule:
        _show_schedule(plan)
    _show_rejected(plan)
    if plan.memory is not None:
        _show_memory(plan)
    for note in plan.notes:
        console.out.print(f"[yellow]note[/] \\[{note.id}] {note.what} ({note.source})")
    if plan.num_requests_asked > plan.max_requests:
        console.out.print(f"{plan.num_requests_asked} requests asked for; the others wait")
    print_next(*commands(plan))


def commands(plan: Plan) -> tuple[str, ...]:
    """What a user types to serve the choice and, where it differs by load, the schedule."""
    if not plan.needs_schedule:
        return (_static_command(plan),)
    one, many = "  # one setting for all loads", "  # by batch size, chains only"
    return _static_command(plan) + one, _schedule_command(plan) + many


def _static_command(plan: Plan) -> str:
    pair, choice = plan.asked.pair, plan.choice
    flags = shlex.join(plan.flags)
    is_sglang = plan.asked.machine.engine == "sglang"
    if choice is OFF:
        start = "python -m sglang.launch_server --model-path" if is_sglang else "vllm serve"
        return f"{start} {shlex.quote(pair.target_name)} {flags}"
    if is_sglang:
        return f"{sglang.serve_line(pair.target_name, pair.draft_name, choice)} {flags}"
    return f"{vllm.serve_line(pair.target_name, pair.draft_name, choice.num_steps)} {flags}"


def _schedule_command(plan: Plan) -> str:
    pair, flags = plan.asked.pair, shlex.join(plan.flags)
    steps = sglang_steps(plan.schedule)
    if plan.asked.machine.engine == "sglang":
        line = sglang.serve_line(pair.target_name, pair.draft_name, chain(steps))
        return f"{line} {flags} --speculative-adaptive --speculative-adaptive-config schedule.json"
    config = vllm.speculative_config(pair.draft_name, steps, vllm_schedule(plan.schedule))
    name, value = shlex.quote(pair.target_name), shlex.quote(config)
    return f"vllm serve {name} --speculative-config {value} {flags}"


def _show_inputs(plan: Plan) -> None:
    asked, gpu = plan.asked, plan.asked.machine.gpu
    known = asked.acceptance
    baseline = asked.baseline_tokens_per_s
    print_pairs(
        f"{asked.pair.target_name} with {asked.pair.draft_name}",
        [
            ("GPU" if gpu.mem_bw_gbps else "CPU", f"{asked.machine.num_gpus} x {_rates(plan)}"),
            ("engine", asked.machine.engine),
            ("load", f"{_load(plan)} of {asked.context_tokens} tokens, goal {asked.goal}"),
            ("acceptance", f"{known.basis}: {known.source}"),
            ("sizes", f"{asked.pair.target_source}; {asked.pair.draft_source}"),
            ("baseline", plan.basis if baseline is None else f"{baseline:g} tokens/s (measured)"),
            *_measured(plan),
        ],
    )


def _rates(plan: Plan) -> str:
    """The published rates, where times are modelled from them."""
    machine = plan.asked.machine
    if plan.asked.measured is not None:
        return machine.gpu.name
    bases = " and ".join(dict.fromkeys((machine.bandwidth_basis, machine.compute_basis)))
    gpu = machine.gpu
    return f"{gpu.name}: {gpu.mem_bw_gbps:g} GB/s, {gpu.flops() / 1e12:.0f} TFLOPS ({bases})"


def _measured(plan: Plan) -> list[tuple[str, str]]:
    """Where and when the times were measured, or why the ones that are kept were not taken."""
    if plan.asked.measured is None:
        note = plan.asked.passed_over
        return [] if note is None else [("note", note)]
    profile, source = plan.asked.measured.profile, plan.asked.measured.source
    subject = profile.subject
    release = f"{subject.engine} {subject.engine_version}"
    return [("profile", f"{console.shown(source)}: {release}, {profile.finished_at}")]


def _load(plan: Plan) -> str:
    first, last = plan.asked.first, plan.asked.last
    return f"{first} request(s)" if first == last else f"{first} to {last} requests"


def _show_ranking(plan: Plan) -> None:
    ranking = plan.deciding
    shown = [*ranking.ranked[:NUM_ROWS]]
    shown += [r for r in ranking.ranked[NUM_ROWS:] if r.choice is OFF]
    print_table(
        f"{ranking.num_requests} request(s) at a time, {plan.basis}; "
        "ranked between expected and low",
        ["settings", "speedup", "low", "high", "tokens/s", "tokens/verify", "break-even"],
        [_row(ranked) for ranked in shown],
    )
    best = ranking.best
    parts = [f"{t.name} {1e3 * t.seconds:.2f} ({t.basis})" for t in best.cost.terms]
    unit = "step" if best.choice is OFF else "round"
    text = f"{best.choice}: {1e3 * best.cost.total_s:.2f} ms a {unit} ({plan.basis}) = "
    console.out.print(text + " + ".join(parts), markup=False)


def _row(ranked: Ranked) -> list[str]:
    speedup, tokens = ranked.speedup, ranked.tokens_per_verify
    expected = "-" if speedup.expected is None else f"{speedup.expected:.2f}x"
    counted = f"{tokens.expected:.2f}" if tokens.expected else f"{tokens.low:.2f}+"
    return [
        str(ranked.choice),
        expected,
        f"{speedup.low:.2f}x",
        f"{speedup.high:.2f}x",
        f"{ranked.tokens_per_s:.0f}",
        counted,
        f"{ranked.break_even_tokens_per_verify:.2f}",
    ]


def _show_loads(plan: Plan) -> None:
    """Speedup by load: each setting's row has a block for each load."""
    loads = [ranking.num_requests for ranking in plan.rankings]
    drawn = best_series(plan)
    values = [v for series in drawn for _, v in series.middle]
    marks = dict(zip(values, blocks(values), strict=True))
    rows = []
    for series in drawn:
        at = dict(series.middle)
        cells = (f"{marks[at[n]]} {at[n]:.2f}" if n in at else "-" for n in loads)
        rows.append([str(series.settings), *cells])
    best = [str(ranking.choice) for ranking in plan.rankings]
    rows.append(["to run", *best])
    print_table(
        f"speedup by requests at a time, {plan.basis}", ["settings", *map(str, loads)], rows
    )


def _show_schedule(plan: Plan) -> None:
    rows = [
        [f"{s.first} to {s.last}", str(s.choice), *(str(speedup) for speedup in s.speedup)]
        for s in plan.schedule
    ]
    columns = ["requests", "chain", "speedup at first", "speedup at last"]
    print_table(f"chains by batch size, {plan.basis}", columns, rows)
    last = off_from(plan.schedule)
    if last is not None:
        console.out.print(f"off from {last} requests on")
    if plan.needs_schedule and plan.asked.machine.engine == "sglang":
        config = json.dumps(sglang_config(plan.schedule))
        console.out.print(f"schedule.json: {config}", markup=False)


def _show_rejected(plan: Plan) -> None:
    rejected = plan.deciding.rejected
    for limit, count in Counter(r.limit for r in rejected).items():
        first = next(r for r in rejected if r.limit == limit)
        text = f"{count} not ranked [{limit}] {first.reason} ({first.choice})"
        console.out.print(text, markup=False)


def _show_memory(plan: Plan) -> None:
    memory = plan.memory
    assert memory is not None
    gib = {
        "target": memory.target_bytes,
        "draft": memory.draft_bytes,
        "engine": memory.reserve_bytes,
        "KV cache": memory.kv_bytes,
    }
    parts = " + ".join(f"{name} {size / GIB:.1f}" for name, size in gib.items())
    console.out.print(
        f"memory (modelled): {memory.total_bytes / GIB:g} GiB a GPU = {parts}; "
        f"room for {memory.max_requests} requests of {memory.tokens_per_request} tokens",
        markup=False,
    )


def show_decisions(decisions: Decisions, regrets: Sequence[Regret]) -> None:
    """The choice of each group from its probe, and with `--evaluate` what was left on the table."""
    rows = [
        [d.key.target, d.key.benchmark, d.key.concurrency, d.choice,
         f"{d.predicted_speedup[d.choice]:.2f}x"]
        for d in decisions.decisions
    ]  # fmt: skip
    columns = ["target", "benchmark", "requests", "choice", "speedup"]
    print_table(f"chosen from {decisions.probe} alone (speedup modelled)", columns, rows)
    if decisions.skipped:
        console.out.print(f"{len(decisions.skipped)} group(s) without that row were left out")
    if regrets:
        print_table(
            "of the best measured speed, left on the table",
            ["rule", "groups", "mean", "90th percentile", "worst"],
            [[r.name, r.num_groups, *map(console.percent, (r.mean, r.percentile_90, r.worst))]
             for r in regrets],
        )  # fmt: skip
