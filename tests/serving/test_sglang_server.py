"""Real SGLang on the CPU: a chain and a tree beside a server that does not speculate.

Float32 and temperature 0: the outputs have to be equal, token by token.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.engines.sglang.command import (
    CPU_FLAGS,
    cpu_environment,
    require_served,
    server_command,
)
from eagle3_plugin.errors import EngineError
from eagle3_plugin.measuring.logprobs import next_logprobs
from eagle3_plugin.serving.bench import bench
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.metrics_sglang import read_rounds
from eagle3_plugin.serving.process import Server, free_port, running
from eagle3_plugin.settings import Settings
from eagle3_plugin.tiny import tiny_pair

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TIMEOUT_S = 400
NUM_PROMPTS = 4
MAX_TOKENS = 48
FLAGS = (*CPU_FLAGS, "--dtype", "float32", "--max-total-tokens", "4096",
         "--max-running-requests", "4", "--disable-radix-cache")  # fmt: skip
SETTINGS = {"chain": Settings(3, 1, 4), "tree": Settings(3, 4, 8)}
KINDS: list[dict[str, Any]] = [
    {"prompt": "def main("},
    {"prompt_token_ids": [5, 6, 7, 8, 5, 6]},
    {"messages": [{"role": "user", "content": "hello"}]},
]


@dataclass(frozen=True)
class Engines:
    plain: Server
    chain: Server
    tree: Server


def _environment(python: Path) -> dict[str, str]:
    return {**cpu_environment(str(python)), "OMP_NUM_THREADS": "1"}


def _command(python: Path, port: int, settings: Settings | None) -> list[str]:
    pair = tiny_pair("llama")
    if settings is None:
        return server_command(str(python), str(pair.target), port, flags=FLAGS)
    return server_command(
        str(python), str(pair.target), port, draft=str(pair.draft), settings=settings, flags=FLAGS
    )


@pytest.fixture(scope="module")
def engines(sglang_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """All three servers, two started at a time; those with a draft hold it in our class."""
    logs = tmp_path_factory.mktemp("logs")
    env = _environment(sglang_python)

    def run(name: str, port: int) -> Server:
        settings = SETTINGS.get(name)
        return stack.enter_context(
            running(
                _command(sglang_python, port, settings),
                env=env,
                port=port,
                log_path=logs / name,
                timeout_s=TIMEOUT_S,
                proof=require_served if settings else None,
            )
        )

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        ports = [free_port() for _ in range(3)]
        yield Engines(*pool.map(run, ("plain", "chain", "tree"), ports))


def _prompts() -> list[list[int]]:
    return [list(prompt) for prompt in tiny_pair("llama").prompts[:NUM_PROMPTS]]


def _generate(url: str, ids: list[int]) -> dict[str, Any]:
    """SGLang's own endpoint, which answers with `meta_info`."""
    sampling = {"temperature": 0, "max_new_tokens": MAX_TOKENS, "ignore_eos": True}
    body = json.dumps({"input_ids": ids, "sampling_params": sampling}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/generate", body, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.mark.parametrize("name", SETTINGS)
def test_bench_equals_the_baseline_and_counts_as_meta_info_does(
    engines: Engines, name: str, record_property: Callable[[str, object], None]
) -> None:
    url = getattr(engines, name).url
    before = read_rounds(url)
    result = bench(
        url,
        [{"prompt_token_ids": ids} for ids in _prompts()],
        baseline_url=engines.plain.url,
        max_tokens=MAX_TOKENS,
        ignore_eos=True,
    )
    equality, counts = result.equality, result.acceptance
    assert equality is not None
    assert (equality.num_equal, equality.num_compared, equality.compared_by) == (4, 4, "token_ids")
    metas = [_generate(url, ids)["meta_info"] for ids in _prompts()]
    assert counts is not None
    assert counts.num_rounds == sum(meta["spec_verify_ct"] for meta in metas)
    assert counts.accepted_draft_tokens == sum(meta["spec_num_correct_drafts"] for meta in metas)
    assert counts.num_draft_tokens == counts.num_rounds * (3 if name == "chain" else 7)
    assert len(counts.accepted_by_position) == 3
    assert sum(counts.accepted_by_position) == counts.accepted_draft_tokens
    assert counts.tokens_per_verify is not None
    assert counts.tokens_per_verify > 1.4
    assert read_rounds(url) - before > 2 * counts.num_rounds
    figure = f"SGLang, {name}: {counts.tokens_per_verify:.3f} tokens per verify"
    record_property("figure", f"{figure}, {counts.num_rounds} rounds")


def test_a_server_without_speculation_has_no_acceptance(engines: Engines) -> None:
    result = bench(engines.plain.url, KINDS, max_tokens=8, concurrency=2)
    assert result.acceptance is None
    assert result.speed.median_time_to_first_token_s is not None


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("prompt", KINDS, ids=["text", "token ids", "chat"])
def test_sglang_gives_the_ids_of_all_its_tokens(
    engines: Engines, prompt: dict[str, Any], stream: bool
) -> None:
    answers = [
        Client.connect(server.url).completion(
            **prompt, max_tokens=20, ignore_eos=True, stream=stream
        )
        for server in (engines.chain, engines.plain)
    ]
    assert answers[0].token_ids == answers[1].token_ids
    assert len(answers[0].token_ids or ()) == answers[0].num_tokens == 20
    assert answers[0].text == answers[1].text != ""
    assert answers[0].finish_reason == "length"
    assert (answers[0].time_to_first_token_s is not None) == stream
    assert answers[0].acceptance is not None
    assert answers[1].acceptance is None


def test_a_chat_that_becomes_ids_is_what_sglangs_chat_endpoint_answers(engines: Engines) -> None:
    client = Client.connect(engines.plain.url)
    body = {"model": client.model, **KINDS[2], "max_tokens": 20, "temperature": 0, "seed": 0}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{client.url}/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        theirs = json.load(response)["choices"][0]["message"]["content"]
    assert client.completion(**KINDS[2], max_tokens=20).text == theirs


def test_both_servers_say_how_likely_the_next_token_is(engines: Engines) -> None:
    """Float32, and a prefill in both: equal to a thousandth. The token that they chose is likely,
    another is not."""
    ids = _prompts()[0]
    clients = [Client.connect(server.url) for server in (engines.tree, engines.plain)]
    chosen = clients[1].completion(prompt_token_ids=ids, max_tokens=1).token_ids
    assert chosen is not None
    other = (chosen[0] + 1) % 2000
    said = [next_logprobs(client, ids, chosen[0], other) for client in clients]
    assert said[0].found == pytest.approx(said[1].found, abs=1e-3)
    assert said[0].expected == pytest.approx(said[1].expected, abs=1e-3)
    assert said[1].found is not None
    assert said[1].expected is not None
    assert said[1].expected < said[1].found <= 0


def test_a_prompt_that_is_too_long_is_refused_with_the_servers_reason(engines: Engines) -> None:
    client = Client.connect(engines.plain.url)
    with pytest.raises(EngineError, match=r"answered 400: .*longer than the model's context"):
        client.completion(prompt_token_ids=[5] * 2100, max_tokens=1)


def test_the_log_of_a_server_that_holds_no_draft_of_ours_is_no_proof(engines: Engines) -> None:
    """Beside those of chain and tree, which the fixture took as proof."""
    log = engines.plain.log_path.read_text()
    assert "The server is fired up and ready to roll!" in log
    with pytest.raises(EngineError, match="SGLang serves this draft as stock: its log does not"):
        require_served(log)


def test_stopping_an_engine_leaves_no_process_of_it(engines: Engines) -> None:
    """Last in this file: the servers are gone afterwards."""
    for server in (engines.plain, engines.chain, engines.tree):
        assert len(_group(server.pid)) > 1
        server.stop()
        assert _group(server.pid) == []


def _group(pid: int) -> list[str]:
    """The command lines of all processes of the group that `pid` leads."""
    command = ["ps", "-e", "-o", "pgid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [args for group, state, args in rows if int(group) == pid and state[0] != "Z"]
