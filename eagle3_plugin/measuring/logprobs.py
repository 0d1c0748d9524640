"""What a server makes of the next token: asked only where two outputs differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from eagle3_plugin.errors import EngineError
from eagle3_plugin.measuring.equal import TokenLogprobs
from eagle3_plugin.serving.client import NEUTRAL, Client

NUM_TOP: Final = 20
"""vLLM's own limit (--max-logprobs); SGLang is asked for the two tokens themselves."""


def next_logprobs(client: Client, ids: Sequence[int], found: int, expected: int) -> TokenLogprobs:
    """The log-probabilities of two tokens after these ids; raises EngineError without any."""
    given = _READ[client.engine](client, list(ids), (found, expected))
    return TokenLogprobs(found=given.get(found), expected=given.get(expected))


def _vllm(client: Client, ids: list[int], tokens: tuple[int, int]) -> dict[int, float]:
    """Top tokens are named "token_id:N" with return_tokens_as_token_ids (vLLM 0.32.0)."""
    body = {
        "model": client.model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0,
        **NEUTRAL,
        "logprobs": NUM_TOP,
        "return_tokens_as_token_ids": True,
    }
    try:
        top = client.post("/v1/completions", body)["choices"][0]["logprobs"]["top_logprobs"][0]
        return {int(name.removeprefix("token_id:")): value for name, value in top.items()}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _silent(client) from error


def _sglang(client: Client, ids: list[int], tokens: tuple[int, int]) -> dict[int, float]:
    """SGLang's own endpoint gives the tokens that are asked for (0.5.23, io_struct.py)."""
    body: dict[str, Any] = {
        "input_ids": ids,
        "sampling_params": {"temperature": 0, "max_new_tokens": 1, **NEUTRAL},
        "return_logprob": True,
        "token_ids_logprob": list(tokens),
    }
    try:
        rows = client.post("/generate", body)["meta_info"]["output_token_ids_logprobs"][0]
        return {int(token): float(value) for value, token, *_ in rows}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _silent(client) from error


def _silent(client: Client) -> EngineError:
    return EngineError(f"{client.url} gives no log-probabilities; expected those of the next token")


_READ: Final = {"vllm": _vllm, "sglang": _sglang}
