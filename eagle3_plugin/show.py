"""How each verb's result looks on a terminal, with the next command that a user would want."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from eagle3_plugin import console
from eagle3_plugin.console import print_next, print_pairs, print_table
from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm

if TYPE_CHECKING:
    from eagle3_plugin.draft.check import Report
    from eagle3_plugin.draft.convert import Conversion
    from eagle3_plugin.serving.bench import BenchResult

SERVE_LINES: Mapping[str, Callable[[str, str], str]] = {
    "vllm": vllm.serve_line,
    "sglang": sglang.serve_line,
}
"""What a user types to serve a pair, by engine."""


def show_inspection(found: dict[str, Any]) -> None:
    config = found["config"]
    size = sum(f["size_bytes"] or 0 for f in found["files"].values())
    taps = found.get("taps") or config["taps"]
    pairs = [
        ("dialect", f"{found['dialect']} ({'; '.join(found['evidence'])})"),
        ("parameters", f"{found['num_parameters']:,}"),
        ("files", f"{', '.join(found['files'])} ({size / 1e6:.1f} MB)"),
        ("taps (boundaries)", "default: 2, n // 2, n - 3" if taps == "default" else taps),
    ]
    pairs += [(k, v) for k, v in config.items() if k not in ("taps", "rope")]
    pairs.append(("rope", ", ".join(f"{k} {v}" for k, v in config["rope"].items() if v)))
    if "fits_target" in found:
        fits = found["fits_target"]
        pairs.append(("fits the target", "yes" if fits is True else "no: " + "; ".join(fits)))
    print_pairs(found["name"], pairs)
    for note in found["notes"]:
        console.out.print(f"[yellow]note[/] \\[{note['id']}] {note['message']}")


def show_report(report: Report, draft: str, target: str | None) -> None:
    with_plugin = "with the plugin" if report.plugin else "stock"
    title = f"{draft} in {report.engine} {report.engine_version}, {with_plugin}"
    console.out.print(title, style="bold")
    for finding in report.findings:
        colour = console.COLOURS[finding.severity]
        console.out.print(f"[{colour}]{finding.severity}[/] \\[{finding.id}] ", end="")
        console.out.print(finding.found, markup=False)
        does = finding.with_plugin if report.plugin else finding.stock
        explained = does if finding.severity in ("error", "warning") else ""
        for label, text in (
            (with_plugin, explained),
            ("expected", finding.expected),
            ("remedy", finding.remedy),
        ):
            if text:
                console.out.print(f"    {label}: {text}", markup=False)
    if report.ok:
        console.out.print("[green]ok[/]: nothing that would make the result wrong")
        print_next(SERVE_LINES[report.engine](target or "TARGET", draft))


def show_conversion(done: Conversion, target: str | None) -> None:
    rows = [
        ("from", f"{done.source} ({done.source_dialect})"),
        ("to", f"{done.out} ({done.dialect})"),
        ("taps (boundaries)", done.config.taps),
        ("renamed tensors", len(done.renamed)),
        ("made", ", ".join(done.made) or "-"),
        ("dropped", ", ".join(done.dropped) or "-"),
        ("written", f"{done.num_bytes / 1e6:.1f} MB, read back as the same draft"),
    ]
    print_pairs("converted", rows)
    engines = {"speculators": ["vllm"], "universal": ["vllm", "sglang"]}
    wanted = engines.get(done.dialect, [done.dialect])
    print_next(*(SERVE_LINES[engine](target or "TARGET", done.out) for engine in wanted))


def show_bench(result: BenchResult) -> None:
    rows = [_speed_row("speculative" if result.acceptance else "server", result.speed)]
    if result.baseline_speed is not None:
        rows.append(_speed_row("baseline", result.baseline_speed))
    columns = ["", "requests", "tokens", "tokens/s", "median request (s)"]
    title = f"{console.shown(result.model)}, {result.concurrency} at a time, measured"
    print_table(title, columns, rows)
    if result.speed_ratio is not None:
        console.out.print(f"speed over baseline: {result.speed_ratio:.2f}x")
    if result.acceptance is not None:
        counts = result.acceptance
        console.out.print(
            f"tokens per verify: {counts.tokens_per_verify or 0:.2f} "
            f"({counts.num_rounds} rounds); accepted by position: "
            + ", ".join(console.percent(r) for r in counts.acceptance_rate)
        )
    if result.equality is not None:
        show_equality(result.equality.num_equal, result.equality.num_compared)
        if result.equality.first_difference is not None:
            console.out.print(str(result.equality.first_difference.to_json()), markup=False)


def show_equality(num_equal: int, num_compared: int) -> None:
    colour = "green" if num_equal == num_compared else "bold red"
    console.out.print(f"output equal to no speculation: [{colour}]{num_equal} of {num_compared}[/]")


def show_plugins(report: dict[str, Any]) -> None:
    variable = f"{report['engine'].upper()}_PLUGINS"
    print_pairs(
        f"{report['engine']} {report['engine_version']}",
        [
            ("eagle3_plugin", report["plugin_version"]),
            (variable, report.get(variable) or "not set (all plugins)"),
            *((f"hook {k}", "in place" if v else "MISSING") for k, v in report["hooks"].items()),
        ],
    )
    rows = [[name, at] for name, at in report["architectures"].items()]
    print_table("architecture names, as the engine resolves them", ["name", "class"], rows)
    if report["ok"]:
        console.out.print("[green]ok[/]: every name resolves to the plugin, all hooks are in place")
        print_next(SERVE_LINES[report["engine"]]("TARGET", "DRAFT"))
    else:
        console.out.print("[bold red]not registered[/]: the engine would serve drafts as stock")
        console.print_error(
            "the plugin is installed but not in place in this environment",
            f"Leave {variable} unset or add eagle3 to it; then read the engine's own log.",
        )


def _speed_row(name: str, speed: Any) -> list[str]:
    return [
        name,
        str(speed.num_requests),
        str(speed.num_tokens),
        f"{speed.tokens_per_s:.1f}",
        f"{speed.median_request_s:.3f}",
    ]
