"""Asks a fresh process of an engine's environment what the plugin registered there."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from eagle3_plugin.errors import EngineError

PROBES = {
    "vllm": "eagle3_plugin.engines.vllm.probe",
    "sglang": "eagle3_plugin.engines.sglang.probe",
}
TIMEOUT_S = 300


def registered(engine: str, python: str) -> dict[str, Any]:
    """The engine's probe report; raises EngineError when the engine or the plugin is missing."""
    command = [python, "-m", PROBES[engine]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise EngineError(
            f"there is no Python at {python}",
            hint="Give the Python of the engine's environment with --python.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{engine} took more than {TIMEOUT_S} s to load its plugins") from error
    line = done.stdout.strip().rpartition("\n")[2]
    if not line.startswith("{"):
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise EngineError(
            f"{python} cannot load {engine} with the plugin: {reason}",
            hint=f"Install both into one environment, and name its Python with --python: "
            f"pip install {engine} eagle3-plugin",
        )
    report: dict[str, Any] = json.loads(line)
    return report
