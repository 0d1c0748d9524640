"""The plugin in fresh processes of vLLM's environment: what is registered, and what V2 reads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.errors import EngineError
from tests.drafts import draft_config, write_random
from tests.engines.random_target import write_random_target

pytestmark = [pytest.mark.engine, pytest.mark.slow]

LLAMA = "eagle3_plugin.engines.vllm.models:Eagle3LlamaDraft"
QWEN3 = "eagle3_plugin.engines.vllm.models:Eagle3Qwen3Draft"


def run(python: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", **env}
    return subprocess.run(
        [str(python), "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )


def test_every_name_in_the_wild_resolves_to_the_plugin(vllm_python: Path) -> None:
    report = registered("vllm", str(vllm_python))
    assert report["architectures"] == {
        "LlamaForCausalLMEagle3": LLAMA,
        "Eagle3LlamaForCausalLM": LLAMA,
        "Eagle3Speculator": LLAMA,
        "Eagle3DraftModel": LLAMA,
        "Qwen3ForCausalLMEagle3": QWEN3,
        "Eagle3Qwen3ForCausalLM": QWEN3,
        "Eagle3Qwen3vlForCausalLM": LLAMA,
        "Qwen3VLForConditionalGenerationEagle3": LLAMA,
        "Eagle3LlamaDraft": LLAMA,
        "Eagle3Qwen3Draft": QWEN3,
    }
    assert report["hooks"] == {
        "SpeculativeConfig.__post_init__": True,
        "get_config": True,
        "VllmConfig._get_v2_model_runner_unsupported_features": True,
        "SpecDecodeBaseProposer.set_inputs_first_pass": True,
        "SpecDecodeBaseProposer._update_positions_dependent_metadata": True,
        "GPUModelRunner._setup_eagle3_aux_hidden_state_outputs": True,
    }
    assert report["engine_version"] == "0.32.0"
    assert report["ok"] is True


@pytest.mark.parametrize(("plugins", "ok"), [("", False), ("other", False), ("eagle3", True)])
def test_vllm_plugins_decides_whether_the_plugin_is_loaded(
    vllm_python: Path, monkeypatch: pytest.MonkeyPatch, plugins: str, ok: bool
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", plugins)
    assert registered("vllm", str(vllm_python))["ok"] is ok


def test_registering_twice_changes_nothing(vllm_python: Path) -> None:
    code = """
from eagle3_plugin.engines.vllm.plugin import register
from eagle3_plugin.engines.wrap import MARK
from vllm.config import SpeculativeConfig
import vllm.config.model as model
register(); first = (SpeculativeConfig.__post_init__, model.get_config)
register(); print((SpeculativeConfig.__post_init__, model.get_config) == first)
print(hasattr(getattr(first[1], MARK), MARK))
"""
    assert run(vllm_python, code).stdout.split() == ["True", "False"]


def test_a_vllm_without_the_hooked_functions_is_an_error_and_not_a_stock_server(
    vllm_python: Path,
) -> None:
    code = """
import vllm.config.model as model
model.get_config = None
from vllm.plugins import load_general_plugins
load_general_plugins()
"""
    done = run(vllm_python, code)
    assert done.returncode == 1
    assert "has no vllm.config.model.get_config, which the plugin needs" in done.stderr


def test_no_engine_in_the_environment_is_a_clear_error(repository: Path) -> None:
    python = repository / ".venvs" / "dev" / "bin" / "python"
    with pytest.raises(EngineError, match=r"cannot load vllm with the plugin: .*No module named"):
        registered("vllm", str(python))
    with pytest.raises(EngineError, match="there is no Python at nowhere/python"):
        registered("vllm", "nowhere/python")


RESOLVE = """
import json, sys
from vllm.engine.arg_utils import EngineArgs
target, *drafts = sys.argv[1:]
for draft in drafts:
    config = EngineArgs(
        model=target, skip_tokenizer_init=True, max_model_len=256, dtype="float32",
        speculative_config={"method": "eagle3", "model": draft, "num_speculative_tokens": 3},
    ).create_engine_config()
    from vllm.v1.worker.gpu.spec_decode.eagle.eagle3_utils import get_eagle3_aux_layers_from_config
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner
    class Runner:
        speculative_config = config.speculative_config
    print(json.dumps({
        "v1": GPUModelRunner._get_eagle3_aux_layers_from_config(Runner),
        "v2": get_eagle3_aux_layers_from_config(config.speculative_config),
        "hash": config.speculative_config.compute_hash(),
        "architecture": config.speculative_config.draft_model_config.architecture,
    }))
"""


def resolved(python: Path, target: Path, drafts: list[Path], plugins: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_PLUGINS": plugins}
    done = subprocess.run(
        [str(python), "-c", RESOLVE, str(target), *map(str, drafts)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_both_runners_read_the_boundaries_from_every_spelling(
    vllm_python: Path, tmp_path: Path
) -> None:
    """Stock reads output ids as boundaries in V1 and not at all in V2 (vLLM 0.32)."""
    target = write_random_target(tmp_path / "target")
    late = draft_config(taps=(3, 5, 7))
    drafts = [
        write_random(tmp_path / dialect, late, dialect)
        for dialect in ("sglang", "vllm", "speculators", "universal")
    ]
    drafts.append(write_random(tmp_path / "default", draft_config()))
    ours = resolved(vllm_python, target, drafts, "eagle3")
    assert [r["v1"] for r in ours] == [[3, 5, 7]] * 4 + [[2, 4, 5]]
    assert [r["v2"] for r in ours] == [[3, 5, 7]] * 4 + [[2, 4, 5]]
    assert {r["architecture"] for r in ours} == {"Eagle3LlamaDraft"}
    assert ours[0]["hash"] != ours[4]["hash"]
    stock = resolved(vllm_python, target, drafts, "")
    assert [r["v1"] for r in stock] == [[2, 4, 6], [3, 5, 7], [3, 5, 7], [3, 5, 7], None]
    assert [r["v2"] for r in stock] == [None, [3, 5, 7], [3, 5, 7], [3, 5, 7], None]
