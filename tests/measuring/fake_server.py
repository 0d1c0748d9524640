"""A small real HTTP server of an engine's interface, for what no real engine does on command.

It answers as vLLM: each prompt with token ids that follow from it, in a stream, with the counts of
rounds of the request and in /metrics. Faults begin after a number of requests.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

COUNTERS = """\
vllm:spec_decode_num_drafts_total{{engine="0"}} {0}
vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {1}
vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {0}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} {0}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="1"}} 0
"""
THIRD = 'vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="2"} 0\n'
HEALTHY = 10**9


@dataclass
class Behaviour:
    """How it answers. Each request of a speculative one takes two rounds, of two draft tokens each,
    of which one is accepted.

    fault: "500", "hang", "cut" (the stream ends without its end) or "die" (nothing listens any
    more), from the request after `healthy` on. changes: (prompt's first id, position) -> the token
    there. extra_rounds: that only the counters know of. busy_s: how long an answer takes.
    refused: first ids of prompts that are answered with 400. resets: what it says, in turn, when it
    is to empty its cache. gives_ids: with the text. num_positions: 2 or 3, that a round drafts.
    says: of itself, over its name and release.
    """

    speculates: bool = False
    says_rounds: bool = True
    fault: str = ""
    healthy: int = HEALTHY
    changes: dict[tuple[int, int], int] = field(default_factory=dict)
    extra_rounds: int = 0
    busy_s: float = 0.0
    logprobs: dict[int, float] = field(default_factory=dict)
    refused: tuple[int, ...] = ()
    resets: list[bool] = field(default_factory=list)
    gives_ids: bool = True
    says: dict[str, Any] = field(default_factory=dict)
    num_positions: int = 2


class FakeServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.num_running = self.most_running = 0

    @property
    def long_bodies(self) -> list[dict[str, Any]]:
        """Without those of warm-ups and replays."""
        return [body for body in self.bodies if body["max_tokens"] not in (1, 8)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients go away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        if self.path == "/metrics":
            rounds = 2 * len(self.server.bodies) + behaviour.extra_rounds
            if behaviour.extra_rounds:
                behaviour.extra_rounds += 1
            text = COUNTERS.format(rounds, 2 * rounds) + THIRD * (behaviour.num_positions - 2)
            self._send(200, text if behaviour.speculates else "")
        else:
            said = {"data": [{"id": "fake"}], "version": "0.32.0"} | behaviour.says
            self._send(200, json.dumps(said))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            self._send(200, json.dumps({"tokens": _ids(body)}))
            return
        if self.path == "/reset_prefix_cache":
            self._send(200, json.dumps({"success": self.server.behaviour.resets.pop(0)}))
            return
        if _ids(body)[0] in self.server.behaviour.refused:
            self._send(400, '{"error": {"message": "too long"}}')
            return
        with self.server.lock:
            if self._is_faulty(body):
                return
            self.server.bodies.append(body)
            self.server.num_running += 1
            self.server.most_running = max(self.server.most_running, self.server.num_running)
        time.sleep(self.server.behaviour.busy_s)
        with self.server.lock:
            self.server.num_running -= 1
        if body.get("logprobs"):
            top = {f"token_id:{k}": v for k, v in self.server.behaviour.logprobs.items()}
            self._send(200, json.dumps({"choices": [{"logprobs": {"top_logprobs": [top]}}]}))
            return
        self._stream(body)

    def _is_faulty(self, body: dict[str, Any]) -> bool:
        behaviour, served = self.server.behaviour, len(self.server.long_bodies)
        if not behaviour.fault or served < behaviour.healthy or body["max_tokens"] in (1, 8):
            return False
        if behaviour.fault == "500":
            self._send(500, '{"error": {"message": "out of memory"}}')
        elif behaviour.fault == "cut":
            self._send(200, 'data: {"choices": [{"text": "a", "token_ids": [1]}]}\n\n')
        elif behaviour.fault == "hang":
            threading.Thread(target=self.server.lock.release).start()
            time.sleep(30)
            self.server.lock.acquire()
        else:
            threading.Thread(target=self.server.server_close).start()
        return True

    def _stream(self, body: dict[str, Any]) -> None:
        behaviour, prompt = self.server.behaviour, _ids(body)
        ids = [(prompt[0] + position) % 1000 for position in range(body["max_tokens"])]
        for (first, position), token in behaviour.changes.items():
            if prompt[0] == first and position < len(ids):
                ids[position] = token
        chunks: list[dict[str, Any]] = [
            {"choices": [{"text": f" {token}", "token_ids": [token]}]} for token in ids
        ]
        if not behaviour.gives_ids:
            chunks = [{"choices": [{"text": f" {token}"}]} for token in ids]
        chunks = chunks or [{"choices": [{"text": "", "token_ids": []}]}]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        last: dict[str, Any] = {"choices": [], "usage": usage}
        if behaviour.speculates and behaviour.says_rounds:
            last["metrics"] = {"speculative_decoding": ROUNDS}
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (*chunks, last))
        self._send(200, text + "data: [DONE]\n\n")

    def _send(self, status: int, body: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


ROUNDS = {
    "acceptance_histogram": [0, 2, 0],
    "num_spec_steps": 2,
    "num_accepted_draft_tokens": 2,
    "num_draft_tokens": 4,
}


@contextmanager
def serving(behaviour: Behaviour | None = None) -> Iterator[FakeServer]:
    with FakeServer(behaviour or Behaviour()) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def _ids(body: dict[str, Any]) -> list[int]:
    """Texts and messages as the lengths of their words."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return prompt
    texts = [prompt] if prompt else [message["content"] for message in body["messages"]]
    return [len(word) for text in texts for word in text.split()]
