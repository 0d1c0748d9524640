"""What the plugin registers in SGLang, proved in processes of SGLang's own environment."""

from __future__ import annotations

import os
import subprocess

import pytest

from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.engines.sglang.command import cpu_environment
from tests.engines.jobs import ROOT

pytestmark = [pytest.mark.engine]

PYTHON = ROOT / ".venvs" / "sglang" / "bin" / "python"
CLASS = "eagle3_plugin.engines.sglang.models.draft:Eagle3Draft"


def run(code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **cpu_environment(str(PYTHON))}
    return subprocess.run(
        [str(PYTHON), "-c", code], capture_output=True, text=True, env=env, timeout=300
    )


def test_the_class_and_all_readers_are_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SGLANG_PLUGINS", raising=False)
    report = registered("sglang", str(PYTHON))
    assert report["architectures"] == {"Eagle3Draft": CLASS}
    assert report["hooks"] == {
        "ServerArgs.resolve_once": True,
        "ModelConfig.from_server_args": True,
        "sglang.srt.configs.model_config.get_config": True,
        "sglang.srt.utils.hf_transformers_utils.get_config": True,
        "EagleDraftWorker._draft_extend_for_prefill": True,
        "ModelRunner.init_attention_backends": True,
    }
    assert report["ok"] is True


@pytest.mark.parametrize(("plugins", "ok"), [("other", False), ("eagle3", True)])
def test_sglang_plugins_decides_whether_the_plugin_is_loaded(
    monkeypatch: pytest.MonkeyPatch, plugins: str, ok: bool
) -> None:
    monkeypatch.setenv("SGLANG_PLUGINS", plugins)
    assert registered("sglang", str(PYTHON))["ok"] is ok


def test_registering_twice_changes_nothing() -> None:
    code = """
from eagle3_plugin.engines.sglang.plugin import readers, register
from eagle3_plugin.engines.wrap import MARK
register(); first = [getattr(h, n) for h, n, _ in readers()]
register(); print(first == [getattr(h, n) for h, n, _ in readers()])
print(any(hasattr(getattr(f, MARK), MARK) for f in first))
"""
    assert run(code).stdout.split()[-2:] == ["True", "False"]


def test_an_sglang_without_the_wrapped_functions_is_told_by_the_probe() -> None:
    """SGLang itself logs the error and goes on as stock."""
    code = """
from sglang.srt.configs.model_config import ModelConfig
ModelConfig.from_server_args = None
from eagle3_plugin.engines.sglang.probe import report
found = report()
print(found["ok"], found["architectures"])
"""
    done = run(code)
    assert done.stdout.split("\n")[-2] == "False {'Eagle3Draft': 'unknown'}"
    assert "has no ModelConfig.from_server_args" in done.stderr


def test_the_draft_class_refuses_a_config_that_no_reader_made() -> None:
    code = """
from eagle3_plugin.engines.sglang.models.draft import Eagle3Draft
from transformers import LlamaConfig
Eagle3Draft(LlamaConfig())
"""
    assert "did not pass through eagle3_plugin" in run(code).stderr
