"""What a server meets besides single prompts: same output with and without speculation.

Both engines, over HTTP, float32, temperature 0, the tiny pair. The draft says that it knows 64
positions, and every long prompt is longer. The prefill comes in chunks, prefixes are cached, and
four requests run at a time.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm
from eagle3_plugin.serving.process import Server, free_port, running
from eagle3_plugin.tiny import tiny_pair
from tests.drafts import edit_config
from tests.engines.jobs import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NUM_POSITIONS = 64
CHUNK = 64
FLAGS = {
    "vllm": ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--max-num-seqs",
             "4", "--max-num-batched-tokens", str(CHUNK), "--enable-prefix-caching",
             "--served-model-name", "tiny", "--structured-outputs-config",
             '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    "sglang": ("--dtype", "float32", "--max-running-requests", "4", "--chunked-prefill-size",
               str(CHUNK), "--max-total-tokens", "4096", "--context-length", "512",
               "--served-model-name", "tiny", "--constrained-json-disable-any-whitespace"),
}  # fmt: skip
TEXT = "def read(path):\n    with open(path) as file:\n        return file.read()\n\n\n"
LONG = TEXT * 6 + "def write(path, text):\n"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "size": {"enum": [1, 20, 300]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Pair:
    """One engine twice: without a draft, and with one."""

    baseline: Server
    speculative: Server

    def both(self, path: str, body: dict[str, Any]) -> tuple[Any, Any]:
        return ask(self.baseline, path, body), ask(self.speculative, path, body)


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    engine = request.param
    folder = tmp_path_factory.mktemp(engine)
    tiny = tiny_pair("llama")
    draft = folder / "draft"
    draft.mkdir()
    for file in tiny.draft.iterdir():
        (draft / file.name).write_bytes(file.read_bytes())
    edit_config(draft, max_position_embeddings=NUM_POSITIONS)
    with ExitStack() as stack:
        serving = (_serving(engine, tiny.target, one, folder) for one in (None, draft))
        yield Pair(*map(stack.enter_context, serving))


def ask(server: Server, path: str, body: dict[str, Any]) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    payload = json.dumps({"model": "tiny", "temperature": 0, **body})
    connection.request("POST", path, payload, {"Content-Type": "application/json"})
    response = connection.getresponse()
    found = response.read()
    assert response.status == 200, found
    return json.loads(found)["choices"][0]


def text_of(server: Server, prompt: str, max_tokens: int = 48, **more: Any) -> str:
    body = {"prompt": prompt, "max_tokens": max_tokens, **more}
    text: str = ask(server, "/v1/completions", body)["text"]
    return text


def test_a_prompt_in_chunks_and_past_the_drafts_positions(pair: Pair) -> None:
    assert text_of(pair.speculative, LONG) == text_of(pair.baseline, LONG)
    assert len(text_of(pair.speculative, LONG)) > 40


def test_a_cached_prefix(pair: Pair) -> None:
    for prompt in (LONG, LONG, LONG + "    with", TEXT * 3 + "class"):
        assert text_of(pair.speculative, prompt) == text_of(pair.baseline, prompt)


def test_a_batch_of_unequal_lengths(pair: Pair) -> None:
    prompts = ["import", TEXT, LONG, "class Reader:\n", TEXT * 2 + "for", "x = [", LONG * 2, "if"]
    budgets = [8, 64, 24, 40, 16, 56, 32, 48]

    def all_at_once(server: Server) -> list[str]:
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(lambda p, n: text_of(server, p, n), prompts, budgets))

    alone = [text_of(pair.baseline, p, n) for p, n in zip(prompts, budgets, strict=True)]
    assert all_at_once(pair.speculative) == alone


def test_an_abort_in_mid_stream_leaves_the_others_as_they_are(pair: Pair) -> None:
    wanted = text_of(pair.baseline, TEXT, 96)

    def aborted() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", pair.speculative.port, timeout=300)
        body = {"model": "tiny", "prompt": LONG, "max_tokens": 150, "temperature": 0}
        payload = json.dumps({**body, "stream": True, "ignore_eos": True})
        connection.request("POST", "/v1/completions", payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        for _ in range(3):
            response.readline()
        connection.close()

    with ThreadPoolExecutor(2) as pool:
        running_one = pool.submit(text_of, pair.speculative, TEXT, 96)
        pool.submit(aborted).result()
        assert running_one.result() == wanted
    assert text_of(pair.speculative, TEXT, 96) == wanted


@pytest.mark.parametrize("stop", ["\n", ":", "return", ")\n"])
def test_stop_strings(pair: Pair, stop: str) -> None:
    body = {"prompt": TEXT, "max_tokens": 96, "stop": [stop]}
    base, ours = pair.both("/v1/completions", body)
    assert (ours["text"], ours["finish_reason"]) == (base["text"], base["finish_reason"])
    assert stop not in ours["text"]


def test_output_held_to_a_json_schema(pair: Pair) -> None:
    body = {
        "messages": [{"role": "user", "content": "a file"}],
        "max_tokens": 64,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "file", "schema": SCHEMA, "strict": True},
        },
    }
    base, ours = pair.both("/v1/chat/completions", body)
    assert ours["message"]["content"] == base["message"]["content"]
    assert set(json.loads(ours["message"]["content"])) == {"name", "size"}


@contextmanager
def _serving(engine: str, target: Path, draft: Path | None, folder: Path) -> Iterator[Server]:
    python = str(ROOT / ".venvs" / engine / "bin" / "python")
    port = free_port()
    name = None if draft is None else str(draft)
    if engine == "vllm":
        command = vllm.server_command(python, str(target), port, draft=name, flags=FLAGS[engine])
        env = vllm.CPU_ENVIRONMENT
    else:
        flags = (*sglang.CPU_FLAGS, *FLAGS[engine])
        command = sglang.server_command(python, str(target), port, draft=name, flags=flags)
        env = sglang.cpu_environment(python)
    log = folder / f"{'baseline' if draft is None else 'speculative'}.log"
    env = {**env, "OMP_NUM_THREADS": "1"}
    with running(command, env=env, port=port, log_path=log, timeout_s=600) as server:
        yield server
