"""A client of the loopback hub: a fresh process for each script, as a user's would be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tests.loopback_hub import LoopbackHub

ROOT = Path(__file__).resolve().parent.parent
CONFIG = b'{"hidden_size": 64}'
WEIGHTS = save({"d2t": np.arange(1000), "fc.weight": np.zeros((2500, 4096), np.float32)})
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "docs/config.json": b"{}"}
SECRET = "hf_SecretSecretSecretSecretSecretSecr"

PRELUDE = """
import json, sys
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.hub import resolve
def caught(call):
    try:
        return str(call())
    except Eagle3Error as error:
        return [type(error).__name__, error.message, error.hint]
def show(value):
    print("RESULT" + json.dumps(value))
"""


@dataclass(frozen=True)
class HubClient:
    """Runs a script in a fresh process that knows this hub; gives what the script shows."""

    hub: LoopbackHub
    home: Path

    def __call__(self, script: str, **settings: str) -> Any:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        environment = kept | {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.home / "hf"),
            "MODELSCOPE_ENDPOINT": self.hub.url,
            "MODELSCOPE_API_MAX_RETRIES": "1",
            "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
            "MODELSCOPE_CACHE": str(self.home / "modelscope"),
            "MODELSCOPE_HOME": str(self.home / "modelscope-home"),
            "PYTHONPATH": str(ROOT),
            **settings,
        }
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        return json.loads(done.stdout.rpartition("RESULT")[2])


def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
