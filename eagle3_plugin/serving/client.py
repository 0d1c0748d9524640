"""A small client of OpenAI-compatible servers: completions, with token ids and times.

vLLM and SGLang take the same requests but for two things. SGLang says with each answer how often
its draft was right, when it is asked to. And it gives no token ids with a streamed chat, so chat
messages are first turned into ids by its own `/v1/tokenize`; only messages with more than text,
which that would drop, go to its chat endpoint, and come back as text.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from eagle3_plugin.errors import EngineError, RefusedError, UsageError
from eagle3_plugin.serving.completion import Completion, completion_of, has_token

TIMEOUT_S = 600.0
Json = dict[str, Any]
Engine = Literal["vllm", "sglang"]

REFUSALS = frozenset({400, 413, 422})
"""Answers that are about one request: the server is well."""

EMPTY_CACHE = {"vllm": "/reset_prefix_cache", "sglang": "/flush_cache"}

ALL_TOKENS: Final = -1
"""The top_k that leaves none out; both engines take it (vLLM 0.32.0, sampling_params.py:678;
SGLang 0.5.23, sampling/sampling_params.py:249)."""

NEUTRAL: Final[Mapping[str, float]] = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Sent with every request, as top_p and top_k are. What a request leaves out, vLLM and SGLang's
chat take from the target's generation_config.json, and SGLang's completions do not (vLLM 0.32.0,
config/model.py:1869; SGLang 0.5.23, entrypoints/openai/protocol.py:1197 and :387). At these values
both leave the logits alone, and vLLM speculates (sampling_params.py:1190)."""


@dataclass(frozen=True)
class Client:
    """One served model. `timeout_s` is the longest silence, not the longest answer.

    engine: sglang, or vllm for every other server.
    """

    url: str
    model: str
    timeout_s: float = TIMEOUT_S
    engine: Engine = "vllm"

    @classmethod
    def connect(cls, url: str, *, timeout_s: float = TIMEOUT_S) -> Client:
        """A client of the first model that the server lists; `owned_by` there names the engine."""
        models = get_json(url, "/v1/models", timeout_s=timeout_s).get("data")
        if not models:
            raise EngineError(f"{url}/v1/models lists no model; expected at least one")
        engine: Engine = "sglang" if models[0].get("owned_by") == "sglang" else "vllm"
        return cls(url.rstrip("/"), str(models[0]["id"]), timeout_s, engine)

    def completion(
        self,
        *,
        prompt: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        prompt_token_ids: Sequence[int] | None = None,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = ALL_TOKENS,
        seed: int = 0,
        ignore_eos: bool = False,
        stream: bool = True,
        thinking: bool | None = None,
    ) -> Completion:
        """Completes exactly one of the three kinds of prompt; messages get the chat template.

        Times count from here on, so that they hold what SGLang takes to turn messages into ids.
        ignore_eos: go on past the end token up to `max_tokens` (vLLM and SGLang understand it).
        thinking: what the chat template is told as `enable_thinking`; None = nothing.
        """
        begin = time.monotonic()
        given = [p for p in (prompt, messages, prompt_token_ids) if p is not None]
        if len(given) != 1:
            raise UsageError(
                f"{len(given)} prompts; expected exactly one of prompt, messages, prompt_token_ids"
            )
        if messages is not None and self.engine == "sglang" and _is_text(messages):
            given = [self.tokenized(messages, thinking)]
            messages = None
        key, path = ("prompt", "/v1/completions")
        if messages is not None:
            key, path = ("messages", "/v1/chat/completions")
        body: Json = {
            "model": self.model,
            key: given[0] if isinstance(given[0], str) else list(given[0]),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            **NEUTRAL,
            "seed": seed,
            "ignore_eos": ignore_eos,
            "stream": stream,
            "return_token_ids": True,
        }
        if messages is not None:
            body |= _template_kwargs(thinking)
        if self.engine == "sglang":
            body["return_spec_tokens_details"] = True
            body["return_token_ids"] = messages is None
        if stream:
            body["stream_options"] = {"include_usage": True}
            return self._streamed(path, body, begin)
        return self._whole(path, body, begin)

    def tokenized(
        self, prompt: str | Sequence[Mapping[str, Any]], thinking: bool | None = None
    ) -> list[int]:
        """The ids that the server makes of a text, or of messages with its chat template."""
        key, value = ("prompt", prompt) if isinstance(prompt, str) else ("messages", list(prompt))
        body = {"model": self.model, key: value, **_template_kwargs(thinking)}
        path = "/v1/tokenize" if self.engine == "sglang" else "/tokenize"
        tokens: list[int] = self.post(path, body)["tokens"]
        return tokens

    def _whole(self, path: str, body: Json, begin: float) -> Completion:
        answer = self.post(path, body)
        return completion_of([answer], None, time.monotonic() - begin)

    def post(self, path: str, body: Json) -> Json:
        """The JSON object that a POST of JSON answers."""
        with _response(self.url, path, body, self.timeout_s) as response:
            return _json(response.read().decode("utf-8", errors="replace"), self.url + path)

    def empty_cache(self) -> None:
        """Has the engine forget all prompts; EngineError while it still holds some of a request.

        vLLM 0.32 then answers 200 all the same, with `success` false (entrypoints/serve/dev/cache).
        """
        path = EMPTY_CACHE[self.engine]
        with _response(self.url, path, {}, self.timeout_s) as response:
            text = response.read().decode("utf-8", errors="replace")
        if self.engine == "vllm" and _json(text, self.url + path).get("success") is not True:
            raise EngineError(f"{self.url}{path} answered {text[:80]}; expected success")

    def _streamed(self, path: str, body: Json, begin: float) -> Completion:
        first_s: float | None = None
        chunks: list[Json] = []
        with _response(self.url, path, body, self.timeout_s) as response:
            for chunk in _events(response, self.url + path):
                if first_s is None and has_token(chunk):
                    first_s = time.monotonic() - begin
                chunks.append(chunk)
        return completion_of(chunks, first_s, time.monotonic() - begin)


def get_text(
    url: str, path: str, *, timeout_s: float = TIMEOUT_S, headers: Mapping[str, str] | None = None
) -> str:
    """The body of a GET."""
    with _response(url, path, None, timeout_s, headers) as response:
        return response.read().decode("utf-8", errors="replace")


def get_json(
    url: str, path: str, *, timeout_s: float = TIMEOUT_S, headers: Mapping[str, str] | None = None
) -> Json:
    """The JSON object that a GET answers."""
    return _json(get_text(url, path, timeout_s=timeout_s, headers=headers), url + path)


@contextlib.contextmanager
def _response(
    url: str,
    path: str,
    body: Json | None,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """The answer with status 200; everything else, and every fault while reading, is an error."""
    connection, prefix = _connection(url, timeout_s)
    try:
        connection.request(
            "GET" if body is None else "POST",
            prefix + path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json", **(headers or {})},
        )
        response = connection.getresponse()
        if response.status != 200:
            text = response.read().decode("utf-8", errors="replace")
            kind = RefusedError if response.status in REFUSALS else EngineError
            raise kind(f"{url}{path} answered {response.status}: {_error_message(text)}")
        yield response
    except TimeoutError as error:
        raise EngineError(
            f"{url}{path} was silent for {timeout_s:g} s",
            hint="Look into the server's log; ask for fewer tokens or requests at a time.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"{url}{path} does not answer: {str(error) or type(error).__name__}",
            hint="Start the server, or correct its URL.",
        ) from error
    finally:
        connection.close()


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection, and the path that the URL starts with (a last `/v1` is understood)."""
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    try:
        parts = urlsplit(url)
        kind, host, port = kinds[parts.scheme], parts.hostname, parts.port
    except (KeyError, ValueError):
        host = None
    if not host:
        raise UsageError(
            f"{url!r} is not the URL of a server; expected for example http://127.0.0.1:8000"
        )
    return kind(host, port, timeout=timeout_s), parts.path.rstrip("/").removesuffix("/v1")


def _events(response: http.client.HTTPResponse, where: str) -> Iterator[Json]:
    """The JSON of each server-sent event up to [DONE]."""
    num_chunks = 0
    for line in response:
        if not line.startswith(b"data:"):
            continue
        data = line[len(b"data:") :].strip().decode("utf-8", errors="replace")
        if data == "[DONE]":
            return
        chunk = _json(data, where)
        if "error" in chunk:
            raise EngineError(f"{where} failed while streaming: {_error_message(data)}")
        num_chunks += 1
        yield chunk
    raise EngineError(
        f"the stream of {where} ended after {num_chunks} chunks; expected a last line [DONE]",
        hint="Look into the server's log: it may have died.",
    )


def _template_kwargs(thinking: bool | None) -> Json:
    return {} if thinking is None else {"chat_template_kwargs": {"enable_thinking": thinking}}


def _is_text(messages: Sequence[Mapping[str, Any]]) -> bool:
    return all(isinstance(message.get("content"), str) for message in messages)


def _json(text: str, where: str) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise EngineError(f"{where} answered {text[:80]!r}; expected a JSON object")
    return value


def _error_message(text: str) -> str:
    """What the server says is wrong: OpenAI's form, FastAPI's, or the text as it is."""
    try:
        value = json.loads(text)
        error = value.get("error") or value.get("detail") or value
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        return text[:500] or "nothing"
