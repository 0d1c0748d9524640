"""As users get it: the built wheel in a vLLM environment that never saw the checkout.

Compiled (not eager), several processes, over HTTP with streaming, and with a batch-size schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.engines.vllm.command import CPU_ENVIRONMENT, Schedule, server_command
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.metrics import read_acceptance
from eagle3_plugin.serving.process import Server, free_port, running
from eagle3_plugin.tiny import tiny_pair
from tests.engines.fresh import installed_folder, with_wheel
from tests.engines.jobs import Job, run_jobs

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NUM_PROMPTS = 4
MAX_TOKENS = 48


@pytest.fixture(scope="module")
def fresh_python(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_wheel("vllm", repository, tmp_path_factory.mktemp("wheel"))


@contextmanager
def served(python: Path, variant: str, log: Path, schedule: Schedule | None) -> Iterator[Server]:
    pair = tiny_pair(variant)
    port = free_port()
    command = server_command(
        str(python), str(pair.target), port, draft=str(pair.draft), schedule=schedule
    )
    command += ["--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "4"]
    env = {**CPU_ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    with running(command, env=env, port=port, log_path=log, timeout_s=600) as server:
        yield server


def expected(variant: str, python: Path, folder: Path) -> list[list[int]]:
    """What vLLM writes without a draft."""
    pair = tiny_pair(variant)
    prompts = [list(p) for p in pair.prompts[:NUM_PROMPTS]]
    (result,) = run_jobs(
        "vllm", [Job(pair.target, None, prompts, MAX_TOKENS)], folder, python=python
    )
    outputs: list[list[int]] = result["outputs"]
    return outputs


def streamed(server: Server, variant: str) -> list[list[int]]:
    client = Client.connect(server.url)
    answers = [
        client.completion(
            prompt_token_ids=list(p), max_tokens=MAX_TOKENS, ignore_eos=True, stream=True
        )
        for p in tiny_pair(variant).prompts[:NUM_PROMPTS]
    ]
    return [list(a.token_ids or ()) for a in answers]


def test_the_wheel_registers_without_the_checkout(fresh_python: Path) -> None:
    assert fresh_python.parent.parent in installed_folder(fresh_python).parents
    assert registered("vllm", str(fresh_python))["ok"] is True


@pytest.mark.parametrize(
    ("variant", "schedule"), [("llama", None), ("qwen3", [(1, 1, 3), (2, 4, 1)])]
)
def test_the_wheel_serves_over_http_compiled(
    fresh_python: Path,
    vllm_python: Path,
    tmp_path: Path,
    variant: str,
    schedule: Schedule | None,
) -> None:
    wanted = expected(variant, vllm_python, tmp_path / "baseline")
    with served(fresh_python, variant, tmp_path / "log.txt", schedule) as server:
        assert streamed(server, variant) == wanted
        counts = read_acceptance(server.url)
    assert counts is not None
    assert (counts.tokens_per_verify or 0) > 1.4
