"""Real engines with drafts in three wrong states, watched until the alarm.

The expectation is the oracle's: `eagle3 score --save` of the right draft on the very prompts that
the servers then get in turn. One server at a time answers, so that the two do not starve.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from eagle3_plugin.demo_engines import CHAIN, COMMANDS
from eagle3_plugin.draft.prompts import read_prompts
from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm
from eagle3_plugin.serving.process import Server, free_port, running
from eagle3_plugin.settings import chain
from eagle3_plugin.tiny import VlPair, tiny_pair, tiny_vl_pair
from eagle3_plugin.watching.expected import expectation, expected_of_draft
from eagle3_plugin.watching.reading import connect
from eagle3_plugin.watching.rule import Rule
from eagle3_plugin.watching.watch import Sight, Watch, sights
from eagle3_plugin.watching.window import Window
from tests.watching.wrong import (
    NUM_TOKENS,
    Request,
    not_a_number,
    shifted,
    to_the_limit,
    traffic,
)

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TIMEOUT_S = 600
MOST_REQUESTS = {"shifted": 800, "nan": 40, "blind": 300}
"""Stated. 242 are predicted for the tap sets one layer too early, which cost 6 % of the accepted
draft tokens; on another machine the pair is trained anew, and its loss is another."""

STOCK = {"VLLM_PLUGINS": "none", "SGLANG_PLUGINS": "none"}
BLIND = {"vllm": "image_visual", "sglang": "image_placeholder"}
"""A draft that the stock engine feeds at images what it was not trained on."""


@dataclass(frozen=True)
class Wrong:
    shifted: Server
    nan: Server


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The right draft with its oracle's score on the pair's prompts."""
    pair = tiny_pair("llama")
    folder = tmp_path_factory.mktemp("right")
    draft, prompts = folder / "draft", folder / "prompts.jsonl"
    shutil.copytree(pair.draft, draft)
    lines = [json.dumps({"prompt_token_ids": list(ids)}) for ids in pair.prompts]
    prompts.write_text("\n".join(lines))
    save_score(draft, pair.target, prompts)
    return draft


def save_score(draft: Path, target: Path, prompts: Path) -> None:
    """Completes the draft's eagle3.json, as a user does."""
    words = ["score", draft, "--target", target, "--prompts", prompts, "--save"]
    words += ["--chain", CHAIN, "--max-new-tokens", NUM_TOKENS]
    command = [sys.executable, "-m", "eagle3_plugin.cli", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def wrong(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wrong]:
    """Both wrong drafts, served at the same time; NaN by the engine as it comes from stock."""
    pair, folder = tiny_pair("llama"), tmp_path_factory.mktemp(request.param)
    python = str(repository / ".venvs" / request.param / "bin" / "python")
    drafts = {
        "shifted": shifted(pair.draft, pair.target, folder / "shifted", -1),
        "nan": not_a_number(pair.draft, folder / "nan"),
    }

    ports = {name: free_port() for name in drafts}  # not in two threads, which meet on one

    def run(name: str) -> Server:
        port = ports[name]
        env = _environment(request.param, python) | (STOCK if name == "nan" else {})
        command = COMMANDS[request.param](python, str(pair.target), port, str(drafts[name]))
        log = folder / f"{name}.log"
        started = running(command, env=env, port=port, log_path=log, timeout_s=TIMEOUT_S)
        return stack.enter_context(started)

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        yield Wrong(*pool.map(run, ("shifted", "nan")))


def _environment(engine: str, python: str) -> dict[str, str]:
    found = vllm.CPU_ENVIRONMENT if engine == "vllm" else sglang.cpu_environment(python)
    return {**found, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", ["nan", "shifted"])
def test_a_wrong_draft_is_an_alarm_within_the_stated_requests(
    wrong: Wrong, right: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    requests = to_the_limit(tiny_pair("llama").prompts)
    found, sent = watched(getattr(wrong, name), right, requests, MOST_REQUESTS[name])
    assert found.is_alarm
    assert found.verdict is not None
    tokens = found.verdict.tokens_per_verify
    if name == "nan":
        assert found.watched.engine != "vllm" or tokens == 1.0
    figure = f"{found.watched.engine}, {name}: alarm after {sent} requests, {tokens:.2f} a verify"
    record_property("figure", figure)


@pytest.mark.parametrize("engine", ["vllm", pytest.param("sglang", marks=pytest.mark.matrix)])
def test_a_draft_that_is_blind_to_images_is_an_alarm_within_the_stated_requests(
    engine: str, repository: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A third of the requests has images; stock feeds the draft what it was not trained on."""
    pair = tiny_vl_pair(BLIND[engine])
    draft, prompts = tmp_path / "draft", tmp_path / "prompts.jsonl"
    shutil.copytree(pair.draft, draft)
    mixed = _mixed(pair)
    prompts.write_text("\n".join(json.dumps(line) for line in mixed))
    save_score(draft, pair.target, prompts)
    python, port = str(repository / ".venvs" / engine / "bin" / "python"), free_port()
    command = COMMANDS[engine](python, str(pair.target), port, str(pair.draft))
    env = _environment(engine, python) | STOCK
    log = tmp_path / "server.log"
    requests = [{**line, "max_tokens": NUM_TOKENS} for line in mixed]
    with running(command, env=env, port=port, log_path=log, timeout_s=TIMEOUT_S) as server:
        found, sent = watched(server, draft, requests, MOST_REQUESTS["blind"])
    assert found.is_alarm
    assert found.verdict is not None
    tokens = found.verdict.tokens_per_verify
    expected = expectation(expected_of_draft(str(draft)), chain(CHAIN), "replay", where="score")
    figure = f"{engine}, blind to images: alarm after {sent} requests, {tokens:.2f} a verify"
    record_property("figure", f"{figure}, expected {expected.tokens_per_verify:.2f}")


def _mixed(pair: VlPair) -> list[Request]:
    """Two of text, then one with images, as long as there are both."""
    images = [{"messages": list(one.value)} for one in read_prompts(pair.image_prompts)]
    text = [{"prompt_token_ids": list(one.value)} for one in read_prompts(pair.text_prompts)]
    rows = zip(text[0::2], text[1::2], images, strict=False)
    return [request for row in rows for request in row]


def watched(
    server: Server, right: Path, requests: Sequence[Request], most: int
) -> tuple[Sight, int]:
    """The sight of the alarm, or of the most requests that are allowed, and their number."""
    given = expected_of_draft(str(right))
    expected = expectation(given, chain(CHAIN), "replay", where=str(right))
    seen = connect(server.url)
    watch = Watch(seen, Window(60), lambda _: Rule(expected, misses_end=seen.engine == "sglang"))
    with traffic(server.url, requests) as answered:
        for sight in sights(watch, 0.5):
            assert sight.trouble is None
            if sight.is_alarm or len(answered) > most:
                return sight, len(answered)
    raise AssertionError("sights do not end")
