"""Whether a server that we started answers: its health, and one test request."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.compose import Command

HEALTH_S: Final = 2.0
REQUEST_S: Final = 600.0
"""The first request may compile kernels."""

PROMPT: Final = "Hello"
NUM_TOKENS: Final = 8


@dataclass(frozen=True)
class Tried:
    """The answer to the test request."""

    model: str
    num_tokens: int
    elapsed_s: float


def is_healthy(command: Command) -> bool:
    """Whether `/health` answers 200."""
    connection = http.client.HTTPConnection(command.host, command.port, timeout=HEALTH_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def answer_to_test(command: Command) -> Tried | EngineError:
    """What the server says to a short completion; an error that is returned, not raised."""
    begin = time.monotonic()
    try:
        model = str(_answer(command, "GET", "/v1/models")["data"][0]["id"])
        body = {"model": model, "prompt": PROMPT, "max_tokens": NUM_TOKENS}
        usage = _answer(command, "POST", "/v1/completions", body)["usage"]
        num_tokens = int(usage["completion_tokens"])
    except EngineError as error:
        return error
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
        return EngineError(f"the test request to {command.url} failed: {said}; expected an answer")
    if num_tokens < 1:
        return EngineError(
            f"the server answered the test request with {num_tokens} tokens; expected at least 1"
        )
    return Tried(model, num_tokens, time.monotonic() - begin)


def _answer(command: Command, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One exchange of JSON, with the key that the server asks for."""
    connection = http.client.HTTPConnection(command.host, command.port, timeout=REQUEST_S)
    headers = {"Content-Type": "application/json"}
    if command.api_key:
        headers["Authorization"] = f"Bearer {command.api_key}"
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", errors="replace")
    finally:
        connection.close()
    if response.status != 200:
        raise EngineError(
            f"the test request: {command.url}{path} answered {response.status}, expected 200: "
            f"{text[:300]}"
        )
    answer: dict[str, Any] = json.loads(text)
    return answer
