"""The files under launch/, read by a linter or parser of their kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import eagle3_plugin
from tests.launch.commands import COMPOSE, LAUNCH, MANIFESTS, SCRIPTS, pod, run_script

TOOLS = Path(sys.executable).parent
DOCKERFILES = sorted(LAUNCH.glob("*.Dockerfile"))
IMAGES = {"sglang": "lmsysorg/sglang:v{}", "vllm": "vllm/vllm-openai:v{}"}


def checked(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    done = checked(TOOLS / "shellcheck", *SCRIPTS)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_started(script: Path) -> None:
    assert script.stat().st_mode & 0o111 == 0o111


def test_hadolint_finds_nothing_in_the_dockerfiles() -> None:
    done = checked(TOOLS / "hadolint", *DOCKERFILES)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_follows_the_compose_specification() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    done = checked(sys.executable, "-m", "check_jsonschema", *schema, COMPOSE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_follows_the_kubernetes_schemas(manifest: Path) -> None:
    done = checked(sys.executable, "-m", "kubernetes_validate", "--strict", manifest)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_systemd_reads_the_unit_without_a_word(engine: str, tmp_path: Path) -> None:
    text = (LAUNCH / "systemd" / "eagle3@.service").read_text()
    unit = tmp_path / f"eagle3@{engine}.service"
    unit.write_text(text.replace("/opt/eagle3/launch", str(LAUNCH)))
    done = checked("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_an_image_is_the_tested_engine_with_this_version_on_top(
    engine: str, repository: Path
) -> None:
    makefile = (repository / "Makefile").read_text()
    [version] = re.findall(rf"^{engine.upper()} := (\S+)$", makefile, re.MULTILINE)
    first, second = (LAUNCH / f"{engine}.Dockerfile").read_text().splitlines()
    assert first == "FROM " + IMAGES[engine].format(version)
    assert second.endswith(f" eagle3-plugin=={eagle3_plugin.__version__}")
    image = f"eagle3-{engine}:{version}"
    assert compose()["services"][engine]["image"] == image
    assert pod(LAUNCH / "kubernetes" / f"{engine}.yaml")["containers"][0]["image"] == image


def test_tokens_come_by_reference() -> None:
    services = compose()["services"]
    assert [each["environment"] for each in services.values()] == [{"HF_TOKEN": None}] * 2
    for manifest in MANIFESTS:
        [token] = pod(manifest)["containers"][0]["env"]
        reference = {"name": "hugging-face", "key": "token", "optional": True}
        assert token == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}
    files = [path for path in LAUNCH.rglob("*") if path.is_file()]
    assert [path.name for path in files if re.search(r"hf_\w{10}", path.read_text())] == []


def test_a_probe_waits_longer_than_sglang_takes_to_answer() -> None:
    """SGLang 0.5.23 answers after up to 20 s (srt/entrypoints/http_server.py:218)."""
    for manifest in MANIFESTS:
        container = pod(manifest)["containers"][0]
        probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
        assert [probe["timeoutSeconds"] for probe in probes] == [30, 30, 30]
    healths = [each["healthcheck"] for each in compose()["services"].values()]
    assert [health["timeout"] for health in healths] == ["30s", "30s"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "sglang.sh",
            "serve sglang --target Qwen/Qwen3-4B-Instruct-2507 "
            "--draft Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh --port 30000",
        ),
        (
            "vllm.sh",
            "serve vllm --target Qwen/Qwen3-VL-2B-Instruct "
            "--draft taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3 --port 8000",
        ),
    ],
)
def test_a_wrapper_leaves_the_settings_to_the_planner(
    script: str, words: str, tmp_path: Path
) -> None:
    assert run_script(LAUNCH / script, tmp_path, {}) == [["eagle3", *words.split()]]


def test_a_wrapper_hands_on_variables_and_words(tmp_path: Path) -> None:
    variables = {"TARGET": "my target", "DRAFT": "d", "SETTINGS": "5,4,16", "PORT": "1"}
    expected = ["eagle3", "serve", "sglang", "--target", "my target", "--draft", "d"]
    expected += ["--port", "1", "--settings", "5,4,16", "--", "--dtype", "a b"]
    given = ["--", "--dtype", "a b"]
    assert run_script(LAUNCH / "sglang.sh", tmp_path, variables, given) == [expected]


@pytest.mark.parametrize(
    "script", [each for each in SCRIPTS if "NODE_RANK" in each.read_text()], ids=lambda p: p.name
)
def test_a_script_for_several_machines_asks_for_the_machines_number(script: Path) -> None:
    done = subprocess.run([str(script)], env={"HEAD": "a"}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "NODE_RANK: is the number of this machine: 0 or 1" in done.stderr
