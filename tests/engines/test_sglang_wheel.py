"""As users get it: the built wheel in SGLang's environment, without the checkout, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.engines.sglang.command import CPU_ENVIRONMENT, CPU_FLAGS, server_command
from eagle3_plugin.serving.bench import bench
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.process import free_port, running
from eagle3_plugin.settings import Settings
from eagle3_plugin.tiny import tiny_pair
from tests.engines.fresh import installed_folder, with_wheel
from tests.engines.jobs import Job, run_jobs

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NUM_PROMPTS = 4
MAX_TOKENS = 48


@pytest.fixture(scope="module")
def fresh_python(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_wheel("sglang", repository, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_registers_without_the_checkout(fresh_python: Path) -> None:
    assert fresh_python.parent.parent in installed_folder(fresh_python).parents
    assert registered("sglang", str(fresh_python))["ok"] is True


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("llama", Settings(3, 1, 4)),
        pytest.param("qwen3", Settings(3, 4, 8), marks=pytest.mark.matrix),
    ],
)
def test_the_wheel_serves_over_http_streaming(
    fresh_python: Path, tmp_path: Path, variant: str, settings: Settings
) -> None:
    pair = tiny_pair(variant)
    prompts = [list(p) for p in pair.prompts[:NUM_PROMPTS]]
    (wanted,) = run_jobs("sglang", [Job(pair.target, None, prompts, MAX_TOKENS)], tmp_path / "base")
    port = free_port()
    flags = (*CPU_FLAGS, "--dtype", "float32", "--max-running-requests", "4")
    command = server_command(
        str(fresh_python), str(pair.target), port,
        draft=str(pair.draft), settings=settings, flags=flags,
    )  # fmt: skip
    kernels = installed_folder(fresh_python) / "engines" / "sglang" / "cpu_kernels"
    env = {**CPU_ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.fspath(kernels)}
    log = tmp_path / "log.txt"
    with running(command, env=env, port=port, log_path=log, timeout_s=600) as server:
        client = Client.connect(server.url)
        answers = [
            client.completion(
                prompt_token_ids=p, max_tokens=MAX_TOKENS, ignore_eos=True, stream=True
            )
            for p in prompts
        ]
        assert [list(a.token_ids or ()) for a in answers] == wanted["outputs"]
        counts = bench(server.url, [{"prompt_token_ids": p} for p in prompts]).acceptance
    assert counts is not None
    assert (counts.tokens_per_verify or 0) > 1.4
