"""The flags of every engine command under launch/, read by the engines' own parsers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.engines.sglang.command import cpu_environment
from eagle3_plugin.engines.vllm.command import CPU_ENVIRONMENT
from tests.launch.commands import Words

pytestmark = [pytest.mark.engine, pytest.mark.slow]

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / ".venvs"
SEED_A = "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh"
SEED_B = "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3"
TREE = {
    "speculative_algorithm": "EAGLE3",
    "speculative_draft_model_path": SEED_A,
    "speculative_num_steps": 5,
    "speculative_eagle_topk": 4,
    "speculative_num_draft_tokens": 16,
    "port": 30000,
}
LONG_CHAIN = {"method": "eagle3", "model": SEED_A, "num_speculative_tokens": 4}
SHORT_CHAIN = {"method": "eagle3", "model": SEED_B, "num_speculative_tokens": 3}
MEANT: dict[str, dict[str, Any]] = {
    "sglang-tensor.sh 0 python3": {
        **TREE,
        **{"tp_size": 2, "nnodes": 2, "node_rank": 0, "dist_init_addr": "10.0.0.1:20000"},
    },
    "sglang-tensor.sh 1 python3": {
        **TREE,
        **{"tp_size": 2, "nnodes": 2, "node_rank": 1, "dist_init_addr": "10.0.0.1:20000"},
    },
    "sglang-data.sh 0 python3": {**TREE, "dp_size": 2, "nnodes": 1},
    "vllm-tensor.sh 0 vllm": {
        **{"speculative_config": LONG_CHAIN, "tensor_parallel_size": 2, "nnodes": 2},
        **{"node_rank": 0, "master_addr": "10.0.0.1", "headless": False},
    },
    "vllm-tensor.sh 1 vllm": {
        **{"speculative_config": LONG_CHAIN, "tensor_parallel_size": 2, "nnodes": 2},
        **{"node_rank": 1, "master_addr": "10.0.0.1", "headless": True},
    },
    "vllm-data.sh 0 vllm": {
        **{"speculative_config": SHORT_CHAIN, "data_parallel_size": 2, "headless": False},
        **{"data_parallel_size_local": 1, "data_parallel_address": "10.0.0.1"},
        **{"data_parallel_start_rank": None},
    },
    "vllm-data.sh 1 vllm": {
        **{"speculative_config": SHORT_CHAIN, "data_parallel_size": 2, "headless": True},
        **{"data_parallel_size_local": 1, "data_parallel_address": "10.0.0.1"},
        **{"data_parallel_start_rank": 1},
    },
    "vllm-ray.sh 0 vllm": {
        **{"speculative_config": LONG_CHAIN, "tensor_parallel_size": 2, "nnodes": 1},
        **{"distributed_executor_backend": "ray"},
    },
    "compose.yaml sglang": {**TREE, "host": "0.0.0.0"},
    "compose.yaml vllm": {"speculative_config": SHORT_CHAIN, "host": "0.0.0.0"},
    "kubernetes/sglang.yaml": {**TREE, "host": "0.0.0.0"},
    "kubernetes/vllm.yaml": {"speculative_config": SHORT_CHAIN, "host": "0.0.0.0"},
    "sglang.sh 0 eagle3": TREE,
    "vllm.sh 0 eagle3": {"speculative_config": SHORT_CHAIN, "port": 8000},
}
"""What each command is for, in the names of the engine's own arguments."""

REFUSED = {
    "sglang": ["--model-path", "TARGET", "--speculative-draft", "DRAFT"],
    "vllm": ["TARGET", "--speculative-config", '{"model": "DRAFT", "num_draft_tokens": 3}'],
}


def parse(engine: str, lines: list[Words]) -> list[dict[str, Any]]:
    """What the engine's parser makes of each line, in one process of the engine's environment."""
    python = str(ENVIRONMENTS / engine / "bin" / "python")
    variables = cpu_environment(python) if engine == "sglang" else CPU_ENVIRONMENT
    done = subprocess.run(
        [python, str(HERE / f"parse_{engine}.py")],
        input=json.dumps(lines),
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parsed: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return parsed


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_the_engine_reads_every_command_as_it_is_meant(
    engine: str, commands: dict[str, tuple[str, Words]]
) -> None:
    lines = {name: words for name, (whose, words) in commands.items() if whose == engine}
    *answers, refusal = parse(engine, [*lines.values(), REFUSED[engine]])
    assert "error" in refusal, "the parser takes names that the engine does not have"
    read = dict(zip(lines, answers, strict=True))
    assert {name: each["error"] for name, each in read.items() if "error" in each} == {}
    for name, answer in read.items():
        meant = MEANT[name]
        assert {key: answer["values"][key] for key in meant} == meant, name
