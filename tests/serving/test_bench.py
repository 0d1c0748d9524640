"""The comparison, the closed loop and the JSON; figures of real engines: test_vllm_server.py."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.bench import (
    BenchResult,
    Difference,
    Equality,
    Speed,
    bench,
    compare,
)
from eagle3_plugin.serving.completion import Completion

COUNTERS = """\
vllm:spec_decode_num_drafts_total{{engine="0"}} {0}
vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {0}
vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {0}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} {0}
"""


class Echo(http.server.ThreadingHTTPServer):
    """Answers each prompt with itself; counts the requests, and how many it had at once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.num_requests = self.num_running = self.most_running = 0
        self.has_counters = True


class _EchoHandler(http.server.BaseHTTPRequestHandler):
    server: Echo

    def do_GET(self) -> None:
        models = '{"data": [{"id": "echo"}]}'
        counters = COUNTERS.format(self.server.num_requests) if self.server.has_counters else ""
        self._send(200, counters if self.path == "/metrics" else models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.num_requests += 1
            self.server.num_running += 1
            self.server.most_running = max(self.server.most_running, self.server.num_running)
        time.sleep(body["prompt"][0] / 1000)
        with self.server.lock:
            self.server.num_running -= 1
        if body["prompt"] == [13]:
            self._send(400, '{"error": {"message": "13 is refused"}}')
            return
        choice = {"choices": [{"text": "", "token_ids": body["prompt"]}]}
        self._send(200, f"data: {json.dumps(choice)}\n\ndata: [DONE]\n\n")

    def _send(self, status: int, body: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _completion(text: str, token_ids: tuple[int, ...] | None) -> Completion:
    return Completion(text, token_ids, len(token_ids or ()), 0.1, 0.2, "length")


def _prompts(*first_tokens: int) -> list[dict[str, Any]]:
    """Each is answered after that many milliseconds, with itself."""
    return [{"prompt_token_ids": [token], "set": "x"} for token in first_tokens]


def test_equal_outputs_are_equal() -> None:
    outputs = [_completion("a", (1,)), _completion("b", (2, 3))]
    assert compare(outputs, outputs) == Equality(2, 2, "token_ids", None)


def test_the_first_difference_is_shown_with_what_follows_it() -> None:
    found = [_completion("", (1, 2)), _completion("", (1, 2, 9, 4)), _completion("", (7,))]
    expected = [_completion("", (1, 2)), _completion("", (1, 2, 3, 4)), _completion("", (8,))]
    first = Difference(prompt_index=1, position=2, found=(9, 4), expected=(3, 4))
    assert compare(found, expected) == Equality(3, 1, "token_ids", first)


def test_an_output_that_stops_early_differs_where_it_stops() -> None:
    first = Difference(0, 2, (), (3,))
    found, expected = [_completion("", (1, 2))], [_completion("", (1, 2, 3))]
    assert compare(found, expected) == Equality(1, 0, "token_ids", first)


def test_text_is_compared_where_one_side_has_no_token_ids() -> None:
    found, expected = [_completion("abX", None)], [_completion("abY", (1, 2))]
    assert compare(found, expected) == Equality(1, 0, "text", Difference(0, 2, "X", "Y"))


def test_the_json_has_a_schema_and_units() -> None:
    result = BenchResult(
        url="http://a",
        baseline_url="http://b",
        model="m",
        concurrency=2,
        max_tokens=8,
        temperature=0.0,
        speed=Speed(4, 32, 2.0, 0.1, 0.5),
        baseline_speed=Speed(4, 32, 4.0, None, 1.0),
        acceptance=AcceptanceCounts(4, 4, 2, (2,)),
        equality=Equality(4, 3, "token_ids", Difference(1, 2, (9,), (3, 4))),
    )
    assert json.loads(json.dumps(result.to_json())) == {
        "schema": 1,
        "url": "http://a",
        "baseline_url": "http://b",
        "model": "m",
        "concurrency": 2,
        "max_tokens": 8,
        "temperature": 0.0,
        "speed": {
            "num_requests": 4,
            "num_tokens": 32,
            "elapsed_s": 2.0,
            "median_time_to_first_token_s": 0.1,
            "median_request_s": 0.5,
            "tokens_per_s": 16.0,
        },
        "baseline_speed": {
            "num_requests": 4,
            "num_tokens": 32,
            "elapsed_s": 4.0,
            "median_time_to_first_token_s": None,
            "median_request_s": 1.0,
            "tokens_per_s": 8.0,
        },
        "acceptance": {
            "num_rounds": 4,
            "num_draft_tokens": 4,
            "accepted_draft_tokens": 2,
            "accepted_by_position": [2],
            "tokens_per_verify": 1.5,
            "acceptance_rate": [0.5],
            "acceptance_rate_conditional": [0.5],
        },
        "equality": {
            "num_compared": 4,
            "num_equal": 3,
            "compared_by": "token_ids",
            "first_difference": {
                "prompt_index": 1,
                "position": 2,
                "found": [9],
                "expected": [3, 4],
            },
        },
        "speed_ratio": 2.0,
    }


@pytest.mark.parametrize("concurrency", [1, 3])
def test_that_many_requests_run_at_once_and_never_more(echo: Echo, concurrency: int) -> None:
    result = bench(echo.url, _prompts(*[30] * 9), concurrency=concurrency)
    assert echo.most_running == concurrency
    assert result.speed.num_requests == 9


def test_answers_keep_the_order_of_the_prompts_however_long_each_takes(echo: Echo) -> None:
    prompts = _prompts(90, 1, 60, 2)
    result = bench(echo.url, prompts, baseline_url=echo.url, concurrency=4)
    assert result.equality == Equality(4, 4, "token_ids", None)


def test_the_warm_up_is_in_neither_the_tokens_nor_the_counters(echo: Echo) -> None:
    result = bench(echo.url, _prompts(1, 1, 1, 1, 1), concurrency=2)
    assert echo.num_requests == 7
    assert result.speed.num_tokens == 5
    assert result.acceptance == AcceptanceCounts(5, 5, 5, (5,))


def test_a_server_without_speculation_has_no_acceptance(echo: Echo) -> None:
    echo.has_counters = False
    assert bench(echo.url, _prompts(1)).acceptance is None


def test_outputs_are_not_compared_at_a_temperature(echo: Echo) -> None:
    result = bench(echo.url, _prompts(1), baseline_url=echo.url, temperature=0.7)
    assert result.equality is None
    assert result.speed_ratio is not None


def test_progress_is_told_of_each_answer_of_each_phase(echo: Echo) -> None:
    told: list[tuple[str, int, int]] = []
    bench(
        echo.url,
        _prompts(1, 1),
        baseline_url=echo.url,
        progress=lambda phase, done, total: told.append((phase, done, total)),
    )
    assert told == [
        ("warm-up", 1, 1),
        ("baseline", 1, 2),
        ("baseline", 2, 2),
        ("warm-up", 1, 1),
        ("bench", 1, 2),
        ("bench", 2, 2),
    ]


def test_a_refused_prompt_ends_the_measurement(echo: Echo) -> None:
    with pytest.raises(EngineError) as caught:
        bench(echo.url, _prompts(1, 13, *[20] * 50))
    assert caught.value.message == f"{echo.url}/v1/completions answered 400: 13 is refused"
    assert echo.num_requests < 6


def test_counters_that_vanish_are_an_error(echo: Echo) -> None:
    def lose_counters(phase: str, done: int, total: int) -> None:
        echo.has_counters = phase != "bench"

    with pytest.raises(EngineError) as caught:
        bench(echo.url, _prompts(1), progress=lose_counters)
    assert caught.value.message == (
        f"{echo.url} had counters of speculation before the measurement and has none after it"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda url: bench(url, []), "no prompts; expected at least one"),
        (
            lambda url: bench(url, _prompts(1), concurrency=0),
            "concurrency 0 and max_tokens 128; expected at least 1 of each",
        ),
        (
            lambda url: bench(url, _prompts(1), max_tokens=0),
            "concurrency 1 and max_tokens 0; expected at least 1 of each",
        ),
    ],
    ids=["no prompts", "no concurrency", "no tokens"],
)
def test_nothing_to_measure_is_wrong_use(
    echo: Echo, call: Callable[[str], BenchResult], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(echo.url)
    assert caught.value.message == message


def test_ctrl_c_does_not_wait_for_the_running_requests(echo: Echo) -> None:
    code = (
        "import sys; from eagle3_plugin.serving.bench import bench\n"
        "bench(sys.argv[1], [{'prompt_token_ids': [60_000]}] * 4, concurrency=2)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, echo.url], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while echo.num_running < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGINT)
    _, stderr = run.communicate(timeout=10)
    assert stderr.strip().endswith(b"KeyboardInterrupt")
