"""A server that gives no log-probabilities; what real ones give is tested in tests/serving."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.measuring.equal import TokenLogprobs
from eagle3_plugin.measuring.logprobs import next_logprobs
from eagle3_plugin.serving.client import Client
from tests.measuring.fake_server import Behaviour, serving


def test_a_token_that_is_not_among_the_likeliest_has_none() -> None:
    with serving(Behaviour(logprobs={7: -0.5})) as server:
        found = next_logprobs(Client(server.url, "fake"), [1, 2], 7, 8)
        (body,) = server.bodies
    assert found == TokenLogprobs(found=-0.5, expected=None)
    assert (body["prompt"], body["max_tokens"], body["logprobs"]) == ([1, 2], 1, 20)
    assert (body["temperature"], body["repetition_penalty"]) == (0, 1.0)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_server_that_gives_none_is_an_error(engine: str) -> None:
    answer = "gives no log-probabilities; expected those of the next token"
    client = _Silent("http://127.0.0.1:9", "fake", 1.0, engine)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=answer):
        next_logprobs(client, [1, 2], 7, 8)


class _Silent(Client):
    """Answers nothing of use."""

    def post(self, path: str, body: dict[str, object]) -> dict[str, object]:
        return {"choices": [{"logprobs": None}], "meta_info": {}}
