"""Every command line that the files under launch/ start, as words, without starting any of them.

A shell script runs with stand-ins on its PATH that write down what they were called with.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("multi-node/*.sh")])
MANIFESTS = sorted(LAUNCH.glob("kubernetes/*.yaml"))
COMPOSE = LAUNCH / "compose.yaml"
STARTED = ("eagle3", "python3", "ray", "vllm")
RANKS = ("0", "1")
HEAD = "10.0.0.1"
PLAN_FOR = ("--gpu", "RTX 4090", "--concurrency", "1..4")
"""What the wrappers are told here, where there is no GPU to ask."""

Words = list[str]

STAND_IN = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


def run_script(
    script: Path, folder: Path, variables: Mapping[str, str], arguments: Sequence[str] = ()
) -> list[Words]:
    """What a script starts, in order. `folder` holds the stand-ins and their notes."""
    for name in STARTED:
        (folder / name).write_text(STAND_IN.format(python=sys.executable))
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    path = os.pathsep.join([str(folder), "/usr/bin", "/bin"])
    environment = {"PATH": path, "CALLS": str(calls), **variables}
    subprocess.run([str(script), *arguments], env=environment, check=True, timeout=60)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def all_commands(folder: Path) -> dict[str, Words]:
    """A name (file, the machine's number, what is started) -> the words of each command."""
    commands = dict(containers())
    for script in SCRIPTS:
        arguments = PLAN_FOR if script.parent == LAUNCH else ()
        for rank in RANKS if "NODE_RANK" in script.read_text() else RANKS[:1]:
            for words in run_script(script, folder, {"NODE_RANK": rank, "HEAD": HEAD}, arguments):
                commands[f"{script.name} {rank} {words[0]}"] = words
    return commands


def engine_commands(folder: Path) -> dict[str, tuple[str, Words]]:
    """As `all_commands`, but (engine, the words that its parser reads), without Ray's own."""
    read = {name: engine_words(words, folder) for name, words in all_commands(folder).items()}
    return {name: found for name, found in read.items() if found is not None}


def containers() -> Iterator[tuple[str, Words]]:
    """The commands of the compose file and of the Kubernetes manifests."""
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        yield f"compose.yaml {name}", [*service["entrypoint"], *service["command"]]
    for manifest in MANIFESTS:
        for container in pod(manifest)["containers"]:
            yield f"kubernetes/{manifest.name}", [*container["command"], *container["args"]]


def pod(manifest: Path) -> dict[str, Any]:
    """The Pod's part of a manifest's Deployment."""
    documents = yaml.safe_load_all(manifest.read_text())
    [deployment] = [each for each in documents if each["kind"] == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def engine_words(words: Words, folder: Path) -> tuple[str, Words] | None:
    """(engine, the words that its parser reads); None for Ray's own commands."""
    match words:
        case ["eagle3", "serve", *rest]:
            return engine_words(dry_run(rest, folder), folder)
        case [_, "-m", "sglang.launch_server", *rest]:
            return "sglang", rest
        case [_, "-m", "vllm.entrypoints.openai.api_server", *rest] | ["vllm", "serve", *rest]:
            return "vllm", rest
        case ["ray", *_]:
            return None
    raise AssertionError(f"launch/ starts something that no test reads: {words}")


def dry_run(words: Words, folder: Path) -> Words:
    """The engine's command that `eagle3 serve` makes of its words, without a hub."""
    at = words.index("--") if "--" in words else len(words)
    command = [sys.executable, "-m", "eagle3_plugin.cli", "serve", *words[:at]]
    command += ["--python", "python3", "--dry-run", *words[at:]]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "COLUMNS": "1000"}
    done = subprocess.run(
        command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return shlex.split(done.stdout.strip().split("\n\n")[-1].replace("\\\n", ""))
