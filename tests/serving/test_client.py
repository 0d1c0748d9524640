"""The client against literal bytes: faults that no healthy engine shows on demand."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Client, get_text
from eagle3_plugin.serving.completion import Completion
from eagle3_plugin.serving.process import free_port

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers every request with these bytes and closes; its URL."""
    servers = []

    def start(answer: bytes) -> str:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(65536)
                self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _ok(body: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body.encode()


def _complete(url: str, *, stream: bool = True) -> Completion:
    return Client(url, "m", timeout_s=2).completion(prompt="a", max_tokens=4, stream=stream)


def test_a_stream_is_joined_and_its_usage_counts_the_tokens(serve: Serve) -> None:
    url = serve(
        _ok(
            ": a comment\n\n"
            'data: {"choices": [{"text": "ab", "token_ids": [1, 2]}]}\n\n'
            'data: {"choices": [{"text": "c", "token_ids": [3], "finish_reason": "length"}]}\n\n'
            'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\n'
            "data: [DONE]\n\n"
        )
    )
    answer = _complete(url)
    assert (answer.text, answer.token_ids, answer.num_tokens) == ("abc", (1, 2, 3), 3)
    assert answer.finish_reason == "length"
    assert answer.time_to_first_token_s is not None
    assert 0 < answer.time_to_first_token_s <= answer.elapsed_s


def test_a_server_that_gives_no_token_ids_has_none(serve: Serve) -> None:
    url = serve(_ok('{"choices": [{"text": "ab"}], "usage": {"completion_tokens": 2}}'))
    answer = _complete(url, stream=False)
    assert (answer.text, answer.token_ids, answer.num_tokens) == ("ab", None, 2)
    assert answer.time_to_first_token_s is None


def test_a_stream_that_is_cut_off_is_an_error(serve: Serve) -> None:
    url = serve(_ok('data: {"choices": [{"text": "ab"}]}\n\n'))
    with pytest.raises(EngineError) as caught:
        _complete(url)
    assert caught.value.message == (
        f"the stream of {url}/v1/completions ended after 1 chunks; expected a last line [DONE]"
    )
    assert caught.value.hint == "Look into the server's log: it may have died."


def test_an_error_inside_a_stream_is_an_error(serve: Serve) -> None:
    url = serve(_ok('data: {"error": {"message": "the engine died", "code": 500}}\n\n'))
    with pytest.raises(EngineError) as caught:
        _complete(url)
    assert caught.value.message == f"{url}/v1/completions failed while streaming: the engine died"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "too long"}}', "too long"),
        ('{"detail": "Not Found"}', "Not Found"),
        ("<html>gateway</html>", "<html>gateway</html>"),
        ("", "nothing"),
    ],
)
def test_a_refusal_says_what_the_server_said(serve: Serve, body: str, said: str) -> None:
    url = serve(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + body.encode())
    with pytest.raises(EngineError) as caught:
        _complete(url)
    assert caught.value.message == f"{url}/v1/completions answered 400: {said}"


@pytest.mark.parametrize("body", ["not json", "[1]"])
def test_an_answer_that_is_no_json_object_is_an_error(serve: Serve, body: str) -> None:
    url = serve(_ok(body))
    with pytest.raises(EngineError) as caught:
        _complete(url, stream=False)
    assert caught.value.message == (
        f"{url}/v1/completions answered {body!r}; expected a JSON object"
    )


def test_an_answer_without_choices_is_an_error(serve: Serve) -> None:
    with pytest.raises(EngineError) as caught:
        _complete(serve(_ok('{"choices": []}')), stream=False)
    assert caught.value.message == "the server's answer has no choices; expected one"


def test_a_server_without_a_model_is_an_error(serve: Serve) -> None:
    url = serve(_ok('{"data": []}'))
    with pytest.raises(EngineError) as caught:
        Client.connect(url)
    assert caught.value.message == f"{url}/v1/models lists no model; expected at least one"


def test_a_server_that_is_not_there_is_an_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(EngineError) as caught:
        Client.connect(url)
    assert caught.value.message == (
        f"{url}/v1/models does not answer: [Errno 111] Connection refused"
    )
    assert caught.value.hint == "Start the server, or correct its URL."


def test_a_server_that_hangs_up_is_an_error(serve: Serve) -> None:
    url = serve(b"")
    with pytest.raises(EngineError) as caught:
        get_text(url, "/metrics")
    assert caught.value.message == (
        f"{url}/metrics does not answer: Remote end closed connection without response"
    )


def test_silence_is_an_error() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent:
        url = f"http://127.0.0.1:{silent.server_address[1]}"
        with pytest.raises(EngineError) as caught:
            get_text(url, "/metrics", timeout_s=0.2)
    assert caught.value.message == f"{url}/metrics was silent for 0.2 s"
    assert caught.value.hint == (
        "Look into the server's log; ask for fewer tokens or requests at a time."
    )


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[", ""]
)
def test_what_is_no_url_of_a_server_is_wrong_use(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Client.connect(url)
    assert caught.value.message == (
        f"{url!r} is not the URL of a server; expected for example http://127.0.0.1:8000"
    )


def test_a_url_that_ends_in_v1_is_understood(serve: Serve) -> None:
    url = serve(_ok('{"data": [{"id": "m"}]}'))
    assert Client.connect(url + "/v1/").model == "m"


def test_no_prompt_and_two_prompts_are_wrong_use() -> None:
    client = Client("http://127.0.0.1:1", "m")
    expected = "expected exactly one of prompt, messages, prompt_token_ids"
    with pytest.raises(UsageError, match=f"0 prompts; {expected}"):
        client.completion(max_tokens=1)
    with pytest.raises(UsageError, match=f"2 prompts; {expected}"):
        client.completion(prompt="a", prompt_token_ids=[1], max_tokens=1)


DETAILS = {
    "spec_num_correct_drafts": 5,
    "spec_num_proposed_drafts": 42,
    "spec_verify_ct": 6,
    "spec_correct_drafts_histogram": [3, 2, 0, 1],
}


class Recorder(http.server.ThreadingHTTPServer):
    """Answers as SGLang 0.5.23 does, and keeps the path and the body of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _RecorderHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.tokenize_s = 0.0


class _RecorderHandler(http.server.BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self._send({"data": [{"id": "m", "owned_by": "sglang"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        answer = {"choices": [{"text": "ab", "token_ids": [1]}], "usage": {"completion_tokens": 1}}
        extra = {"sglext": {"spec_tokens_details": DETAILS}}
        if self.path == "/v1/tokenize":
            time.sleep(self.server.tokenize_s)
            self._send({"tokens": [7, 8]})
        elif body["stream"]:
            self._write(f"data: {json.dumps(answer)}\n\ndata: [DONE]\n\n")
        else:
            self._send({**answer, **extra})

    def _send(self, value: Any) -> None:
        self._write(json.dumps(value))

    def _write(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def sglang() -> Iterator[Recorder]:
    with Recorder() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_models_owner_names_the_engine(serve: Serve, sglang: Recorder) -> None:
    assert Client.connect(sglang.url).engine == "sglang"
    vllm = serve(_ok('{"data": [{"id": "m", "owned_by": "vllm"}]}'))
    assert Client.connect(vllm).engine == "vllm"


def test_sglang_is_asked_for_the_rounds_of_each_request(sglang: Recorder) -> None:
    client = Client.connect(sglang.url)
    answer = client.completion(prompt_token_ids=[5, 6], max_tokens=4, stream=False)
    assert answer.token_ids == (1,)
    assert answer.acceptance == AcceptanceCounts(6, 42, 5, (3, 1, 1))
    assert sglang.requests == [
        (
            "/v1/completions",
            {
                "model": "m",
                "prompt": [5, 6],
                "max_tokens": 4,
                "temperature": 0.0,
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "seed": 0,
                "ignore_eos": False,
                "stream": False,
                "return_token_ids": True,
                "return_spec_tokens_details": True,
            },
        )
    ]


def test_messages_of_text_become_token_ids_in_sglang(sglang: Recorder) -> None:
    """SGLang 0.5.23 refuses `return_token_ids` with a streamed chat."""
    messages = [{"role": "user", "content": "hello"}]
    Client.connect(sglang.url).completion(messages=messages, max_tokens=4, stream=False)
    paths = [path for path, _ in sglang.requests]
    assert paths == ["/v1/tokenize", "/v1/completions"]
    assert sglang.requests[0][1] == {"model": "m", "messages": messages}
    assert sglang.requests[1][1]["prompt"] == [7, 8]


@pytest.mark.parametrize("stream", [True, False])
def test_times_hold_what_sglang_takes_to_make_ids_of_messages(
    sglang: Recorder, stream: bool
) -> None:
    """As vLLM's do, which makes them within the request."""
    sglang.tokenize_s = 0.2
    messages = [{"role": "user", "content": "hello"}]
    found = Client.connect(sglang.url).completion(messages=messages, max_tokens=4, stream=stream)
    assert found.elapsed_s >= 0.2
    if stream:
        assert found.time_to_first_token_s is not None
        assert found.time_to_first_token_s >= 0.2


SAMPLING = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


@pytest.mark.parametrize("content", ["hello", [{"type": "image_url", "image_url": {"url": "d"}}]])
def test_sglangs_completions_and_its_chat_are_told_the_same_sampling(
    sglang: Recorder, content: Any
) -> None:
    """Its chat would take what is left out from the target, its completions would not."""
    messages = [{"role": "user", "content": content}]
    Client.connect(sglang.url).completion(
        messages=messages, max_tokens=4, stream=False, temperature=0.7, top_p=0.9, top_k=20
    )
    body = sglang.requests[-1][1]
    assert {name: body[name] for name in SAMPLING} == SAMPLING


def test_messages_with_an_image_keep_it_and_go_to_sglangs_chat(sglang: Recorder) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [image]}]
    Client.connect(sglang.url).completion(messages=messages, max_tokens=4, stream=False)
    ((path, body),) = sglang.requests
    assert (path, body["messages"]) == ("/v1/chat/completions", messages)
    assert body["return_token_ids"] is False


def test_a_server_that_says_nothing_of_its_rounds_has_no_acceptance(serve: Serve) -> None:
    url = serve(_ok('{"choices": [{"text": "a"}], "sglext": {"spec_tokens_details": null}}'))
    assert _complete(url, stream=False).acceptance is None
