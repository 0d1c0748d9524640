"""Real vLLM on the CPU: one server that speculates (n-grams need no draft) and one that does not.

Float32 and temperature 0: the outputs of the two have to be equal, token by token.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.measuring.logprobs import next_logprobs
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.bench import bench
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.metrics import read_acceptance
from eagle3_plugin.serving.process import Server, free_port, running, start, wait_until_healthy

pytestmark = pytest.mark.engine

TIMEOUT_S = 400
ENV = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_max": 2,
    "prompt_lookup_min": 1,
}
PROMPTS: list[dict[str, Any]] = [
    {"prompt": "def main("},
    {"prompt_token_ids": [5, 6, 7, 8, 5, 6]},
    {"messages": [{"role": "user", "content": "hello"}]},
    {"prompt": "from pathlib import Path\n"},
]


def _command(python: Path, model: Path, port: int, *flags: str) -> list[str]:
    return [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--enforce-eager", "--dtype", "float32", "--max-model-len", "512", *flags),
    ]


def _group(pid: int) -> list[str]:
    """The command lines of all processes of the group that `pid` leads."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [args for group, state, args in rows if int(group) == pid and state[0] != "Z"]


@dataclass(frozen=True)
class Engines:
    speculating: Server
    plain: Server
    progress: list[str]


@pytest.fixture(scope="module")
def engines(
    random_target: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engines]:
    """Both servers, started at the same time."""
    logs = tmp_path_factory.mktemp("logs")
    lines: list[str] = []

    def run(name: str, port: int, *flags: str) -> Server:
        command = _command(vllm_python, random_target, port, *flags)
        return stack.enter_context(
            running(
                command,
                env=ENV,
                port=port,
                log_path=logs / name,
                timeout_s=TIMEOUT_S,
                progress=lambda _, line: lines.append(line),
            )
        )

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        ports = free_port(), free_port()  # not in the threads: their probes meet on one port
        config = json.dumps(NGRAM)
        speculating = pool.submit(run, "ngram", ports[0], "--speculative-config", config)
        plain = pool.submit(run, "plain", ports[1])
        yield Engines(speculating.result(), plain.result(), lines)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("prompt", PROMPTS[:3], ids=["text", "token ids", "chat"])
def test_vllm_gives_the_ids_of_all_its_tokens(
    engines: Engines, prompt: dict[str, Any], stream: bool
) -> None:
    answer = Client.connect(engines.speculating.url).completion(
        **prompt, max_tokens=20, stream=stream
    )
    assert answer.token_ids is not None
    assert len(answer.token_ids) == answer.num_tokens == 20
    assert all(0 <= token < 512 for token in answer.token_ids)
    assert answer.text != ""
    assert answer.finish_reason == "length"
    assert (answer.time_to_first_token_s is not None) == stream


def test_both_servers_say_how_likely_the_next_token_is(engines: Engines) -> None:
    """Float32, and a prefill in both: equal to a thousandth; the chosen token is the likeliest."""
    clients = [Client.connect(server.url) for server in (engines.speculating, engines.plain)]
    ids = clients[0].tokenized([{"role": "user", "content": "hello"}])
    assert ids == clients[1].tokenized([{"role": "user", "content": "hello"}])
    chosen = clients[1].completion(prompt_token_ids=ids, max_tokens=1).token_ids
    assert chosen is not None
    said = [next_logprobs(client, ids, chosen[0], chosen[0]) for client in clients]
    assert said[0].found == pytest.approx(said[1].found, abs=1e-3)
    assert said[1].found is not None
    assert said[1].found <= 0


def test_streamed_and_whole_answers_are_the_same(engines: Engines) -> None:
    client = Client.connect(engines.plain.url)
    answers = [client.completion(prompt="a = ", max_tokens=20, stream=s) for s in (True, False)]
    assert answers[0].token_ids == answers[1].token_ids
    assert answers[0].text == answers[1].text


def test_the_first_token_of_a_stream_comes_before_the_last(engines: Engines) -> None:
    answer = Client.connect(engines.plain.url).completion(prompt="b = ", max_tokens=100)
    assert answer.time_to_first_token_s is not None
    assert answer.time_to_first_token_s < 0.5 * answer.elapsed_s


def test_a_seed_repeats_what_a_temperature_made(engines: Engines) -> None:
    client = Client.connect(engines.plain.url)
    first, again, other = (
        client.completion(prompt="c", max_tokens=20, temperature=1.0, seed=seed).token_ids
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_an_end_token_ends_an_answer_unless_it_is_to_be_ignored(engines: Engines) -> None:
    """A temperature of 2 makes all 512 tokens about as likely, the end token among them."""
    client = Client.connect(engines.plain.url)
    for seed in range(20):
        ended = client.completion(prompt="d", max_tokens=400, temperature=2.0, seed=seed)
        if ended.finish_reason == "stop":
            break
    assert ended.num_tokens < 400
    whole = client.completion(
        prompt="d", max_tokens=400, temperature=2.0, seed=seed, ignore_eos=True
    )
    assert (whole.num_tokens, whole.finish_reason) == (400, "length")


def test_a_prompt_that_is_too_long_is_refused_with_the_servers_reason(engines: Engines) -> None:
    client = Client.connect(engines.plain.url)
    with pytest.raises(EngineError, match=r"answered 400: .*maximum context length is 512"):
        client.completion(prompt_token_ids=[5] * 600, max_tokens=1)


def test_a_server_without_speculation_has_no_counters(engines: Engines) -> None:
    assert read_acceptance(engines.plain.url) is None


def test_the_counters_of_one_answer_account_for_its_tokens(engines: Engines) -> None:
    """Every token but the first comes from a verify round or from a step without a draft."""
    url = engines.speculating.url
    counts = bench(url, [{"prompt": "def f(x):\n    return "}], max_tokens=64).acceptance
    assert counts is not None
    assert counts.num_rounds > 0
    assert len(counts.accepted_by_position) == 3
    assert sum(counts.accepted_by_position) == counts.accepted_draft_tokens > 0
    assert counts.num_rounds + counts.accepted_draft_tokens <= 64 + 3
    assert counts.num_draft_tokens <= 3 * counts.num_rounds


def test_bench_finds_greedy_outputs_equal_with_and_without_speculation(engines: Engines) -> None:
    result = bench(
        engines.speculating.url,
        PROMPTS,
        baseline_url=engines.plain.url,
        concurrency=2,
        max_tokens=48,
    )
    assert result.equality is not None
    assert (result.equality.num_compared, result.equality.compared_by) == (4, "token_ids")
    assert result.equality.first_difference is None
    assert result.baseline_speed is not None
    assert result.speed.num_tokens == result.baseline_speed.num_tokens == 4 * 48
    assert result.speed_ratio is not None
    assert result.acceptance is not None
    assert isinstance(result.acceptance, AcceptanceCounts)
    assert result.acceptance.tokens_per_verify is not None
    assert result.acceptance.tokens_per_verify > 1
    assert json.loads(json.dumps(result.to_json()))["schema"] == 1


def test_while_it_loads_the_last_line_of_its_log_is_told(engines: Engines) -> None:
    assert any("vLLM" in line or "Loading" in line for line in engines.progress)


def test_a_second_engine_on_the_port_of_the_first_is_refused(
    engines: Engines, vllm_python: Path, random_target: Path, tmp_path: Path
) -> None:
    port = engines.plain.port
    with pytest.raises(EngineError, match=f"port {port} of 127.0.0.1 cannot be used"):
        start(
            _command(vllm_python, random_target, port), env=ENV, port=port, log_path=tmp_path / "l"
        )


def test_a_wrong_flag_is_an_error_with_the_words_of_the_engine(
    vllm_python: Path, random_target: Path, tmp_path: Path
) -> None:
    port = free_port()
    command = _command(vllm_python, random_target, port, "--no-such-flag")
    server = start(command, env=ENV, port=port, log_path=tmp_path / "log")
    with pytest.raises(EngineError) as caught:
        wait_until_healthy(server, TIMEOUT_S)
    assert "the engine ended with exit code 2 after" in caught.value.message
    assert "unrecognized arguments: --no-such-flag" in caught.value.message
    assert "Traceback" not in caught.value.message


WRAPPER = """
import sys, time
from pathlib import Path
from eagle3_plugin.serving.process import start
port, log, *command = sys.argv[1:]
print(start(command, env={}, port=int(port), log_path=Path(log)).pid, flush=True)
time.sleep(600)
"""


def test_an_engine_whose_wrapper_is_killed_while_it_loads_leaves_no_process(
    vllm_python: Path, random_target: Path, tmp_path: Path
) -> None:
    """The engine core is a second process by then, and the first has not begun to serve."""
    port = free_port()
    command = _command(vllm_python, random_target, port)
    wrapper = subprocess.Popen(
        [sys.executable, "-c", WRAPPER, str(port), str(tmp_path / "log"), *command],
        env={**os.environ, **ENV},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with wrapper:
        assert wrapper.stdout is not None
        pid = int(wrapper.stdout.readline())
        _wait(lambda: any("EngineCore" in args for args in _group(pid)), TIMEOUT_S)
        os.kill(wrapper.pid, signal.SIGKILL)
    _wait(lambda: not _group(pid), 60)


def test_stopping_an_engine_leaves_no_process_of_it(engines: Engines) -> None:
    """Last in this file: the two servers are gone afterwards."""
    for server in (engines.speculating, engines.plain):
        assert any("EngineCore" in args for args in _group(server.pid))
        server.stop()
        assert _group(server.pid) == []
        assert server.exit_code == 0


def _wait(until: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
