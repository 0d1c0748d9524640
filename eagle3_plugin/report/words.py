"""What the measures are called, how they are printed, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.report import numbers


@dataclass(frozen=True)
class Measure:
    """name: in a table. form: of a value. meaning: a sentence."""

    name: str
    form: Callable[[float | None], str]
    meaning: str


MEASURES: Final = {
    "speedup": Measure(
        "speedup",
        numbers.ratio,
        "tokens/s per conversation over the baseline's, of the conversations that both answered.",
    ),
    "tokens_per_s_per_conversation": Measure(
        "tokens/s per conversation",
        numbers.short,
        "the mean over conversations of a conversation's output tokens by the seconds that its "
        "requests took, the first token's included.",
    ),
    "baseline_tokens_per_s_per_conversation": Measure(
        "baseline's tokens/s per conversation",
        numbers.short,
        "the same of the server without speculation.",
    ),
    "tokens_per_s": Measure(
        "tokens/s in all",
        numbers.short,
        "output tokens of all conversations by the seconds of the loop.",
    ),
    "time_to_first_token_s": Measure(
        "time to first token",
        numbers.seconds,
        "from sending a request to its first token; in SGLang with the call that makes ids of "
        "messages.",
    ),
    "time_per_output_token_s": Measure(
        "time per output token",
        numbers.seconds,
        "the time after the first token by the number of tokens after it.",
    ),
    "request_s": Measure(
        "end-to-end latency", numbers.seconds, "from sending a request to its last byte."
    ),
    "tokens_per_verify": Measure(
        "tokens per verify",
        numbers.short,
        "what a round of the target yields, the bonus token included; never below 1.",
    ),
}

CONDITIONAL_MEANING: Final = (
    "of the rounds that accepted all positions before, the share that accepted this one too."
)

SETTINGS_MEANING: Final = (
    "Settings are written steps,top-k,draft tokens: 5,4,16 drafts five steps deep, keeps the best "
    "four at each, and has the target check 16 tokens at once; with top-k 1 the draft is a chain."
)


def measure(name: str) -> Measure:
    """The words for a measure; one without an entry is called by its key."""
    return MEASURES.get(name) or Measure(name, numbers.short, "")
