"""Asks a fresh process of an engine's environment what the plugin registered there."""

from __future__ import annotations

import json
from typing import Any

from eagle3_plugin.engines.interpreter import ask, last_words
from eagle3_plugin.errors import EngineError

PROBES = {
    "vllm": "eagle3_plugin.engines.vllm.probe",
    "sglang": "eagle3_plugin.engines.sglang.probe",
}
TIMEOUT_S = 300


def registered(engine: str, python: str) -> dict[str, Any]:
    """The engine's probe report; raises EngineError when the engine or the plugin is missing."""
    done = ask(
        python, ["-m", PROBES[engine]], what=f"what {engine} has registered", timeout_s=TIMEOUT_S
    )
    line = done.stdout.strip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise EngineError(
            f"{python} cannot load {engine} with the plugin: {last_words(done)}",
            hint=f"Install both into one environment, and name its Python with --python: "
            f"pip install {engine} eagle3-plugin",
        )
    report: dict[str, Any] = json.loads(line)
    return report
