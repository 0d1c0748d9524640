"""Seed A's own command in SGLang: its flags, a folder of its shape, a target of the 4B's width.

Three of the card's flags are abbreviations that SGLang 0.5.23 finds ambiguous. The target is cut to
seven layers, the fewest that have the default taps [2, n // 2, n - 3] apart and in order.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path

import pytest

from eagle3_plugin.engines.sglang.command import CPU_FLAGS, cpu_environment, require_served
from eagle3_plugin.serving.process import free_port, running
from tests.engines.jobs import ROOT
from tests.seeds import write_seed_a
from tests.targets import QWEN3_4B

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PYTHON = str(ROOT / ".venvs" / "sglang" / "bin" / "python")
NUM_LAYERS = 7
AMBIGUOUS = ("--speculative-draft", "--cuda-graph-max-bs", "--cuda-graph-bs")
MENDED = {
    "--speculative-draft": "--speculative-draft-model-path",
    "--cuda-graph-max-bs": "--cuda-graph-max-bs-decode",
    "--cuda-graph-bs": "--cuda-graph-bs-decode",
}


def card(target: str, draft: str, port: int) -> list[str]:
    """The command on the card of Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh."""
    return [
        *(PYTHON, "-m", "sglang.launch_server", "--model-path", target),
        *("--speculative-algo", "EAGLE3", "--speculative-draft", draft),
        *("--speculative-num-steps", "5", "--speculative-eagle-topk", "4"),
        *("--speculative-num-draft-tokens", "16", "--dtype", "float16", "--port", str(port)),
        *("--mem-fraction", "0.7", "--cuda-graph-max-bs", "16"),
        *("--cuda-graph-bs", "1", "2", "3", "4"),
    ]


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seed_a(tmp_path_factory.mktemp("seed") / "draft")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-4B-Instruct-2507's widths, seven layers, random, in float16."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("seed") / "target"
    values = {**QWEN3_4B, "num_hidden_layers": NUM_LAYERS}
    config = Qwen3Config(**{k: v for k, v in values.items() if k not in ("model_type", "dtype")})
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        Qwen3ForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(default)
    return folder


def generated(port: int) -> list[int]:
    """Four tokens from SGLang's own endpoint: the target has no tokenizer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    sampling = {"temperature": 0, "max_new_tokens": 4, "ignore_eos": True}
    body = json.dumps({"input_ids": [1, 2, 3], "sampling_params": sampling})
    connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
    ids: list[int] = json.loads(connection.getresponse().read())["output_ids"]
    return ids


def test_three_flags_of_the_card_no_longer_parse() -> None:
    done = subprocess.run(
        card("TARGET", "DRAFT", 1), env=cpu_environment(PYTHON), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "ambiguous option: --speculative-draft" in done.stderr


def test_the_cards_command_serves_in_the_spelling_that_parses(
    target: Path, draft: Path, tmp_path: Path
) -> None:
    port = free_port()
    words = [MENDED.get(word, word) for word in card(str(target), str(draft), port)]
    on_cpu = (*CPU_FLAGS, "--skip-tokenizer-init", "--max-total-tokens", "256")
    command = [*words[:3], *on_cpu, *words[3:]]
    env = {**cpu_environment(PYTHON), "OMP_NUM_THREADS": "2"}
    log = tmp_path / "log.txt"
    with running(command, env=env, port=port, log_path=log, timeout_s=600):
        require_served(log.read_text())
        found = generated(port)
    assert len(found) == 4
    assert f"taps [2, 3, {NUM_LAYERS - 3}]" in log.read_text()
    assert json.loads((draft / "config.json").read_text()).get("eagle_config") is None
