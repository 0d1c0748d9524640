"""What a server answered, joined from the chunks of its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.acceptance import (
    AcceptanceCounts,
    counts_of_request,
    counts_of_vllm_request,
)

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Completion:
    """What a server answered.

    token_ids: None where the server does not give them (`return_token_ids` asks for them).
    time_to_first_token_s: None without streaming. elapsed_s: from sending to the last byte.
    acceptance: of this request alone; None where the server does not say (vLLM says it when it was
    started with --per-request-spec-decode-metrics), or no draft was verified.
    num_prompt_tokens: as the server counts them; None where it does not.
    """

    text: str
    token_ids: tuple[int, ...] | None
    num_tokens: int
    time_to_first_token_s: float | None
    elapsed_s: float
    finish_reason: str | None
    acceptance: AcceptanceCounts | None = None
    num_prompt_tokens: int | None = None


def completion_of(
    chunks: Sequence[Json], time_to_first_token_s: float | None, elapsed_s: float
) -> Completion:
    """Joins the chunks of a stream; a whole answer is a stream of one."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or []]
    if not choices:
        raise EngineError("the server's answer has no choices; expected one")
    ids = [choice["token_ids"] for choice in choices if choice.get("token_ids") is not None]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    token_ids = tuple(token for part in ids for token in part) if ids else None
    num_tokens = usages[-1]["completion_tokens"] if usages else len(token_ids or ())
    return Completion(
        text="".join(_text(choice) for choice in choices),
        token_ids=token_ids,
        num_tokens=num_tokens,
        time_to_first_token_s=time_to_first_token_s,
        elapsed_s=elapsed_s,
        finish_reason=reasons[-1] if reasons else None,
        acceptance=_acceptance(chunks),
        num_prompt_tokens=usages[-1].get("prompt_tokens") if usages else None,
    )


def _text(choice: Json) -> str:
    """A completion has `text`, a chat has `message`, and a streamed chat has `delta`."""
    spoken = choice.get("delta") or choice.get("message") or {}
    return choice.get("text") or spoken.get("content") or ""


def has_token(chunk: Json) -> bool:
    choices = chunk.get("choices") or []
    return any(choice.get("token_ids") or _text(choice) for choice in choices)


def _acceptance(chunks: Sequence[Json]) -> AcceptanceCounts | None:
    """SGLang gives `sglext.spec_tokens_details`, vLLM `metrics.speculative_decoding`."""
    for chunk in reversed(chunks):
        theirs = (chunk.get("sglext") or {}).get("spec_tokens_details")
        if theirs is not None:
            return counts_of_request(theirs)
        ours = (chunk.get("metrics") or {}).get("speculative_decoding")
        if ours is not None:
            return counts_of_vllm_request(ours)
    return None
