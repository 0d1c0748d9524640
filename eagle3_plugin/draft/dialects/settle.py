"""What the user says where the files alone are ambiguous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eagle3_plugin.draft.dialects.taps import Convention
from eagle3_plugin.errors import UsageError


@dataclass(frozen=True)
class Settle:
    """Answers to ambiguities; None = not answered. Each is a flag of the command line.

    `taps` are boundaries; `target_num_layers` is a fact about the target, not an answer.
    """

    dialect: str | None = None
    taps: tuple[int, ...] | None = None
    ids: Convention | None = None
    residual: Literal["raw", "normed"] | None = None
    feedback: Literal["prenorm", "postnorm"] | None = None
    image_embedding: Literal["placeholder", "visual"] | None = None
    deepstack_tap: Literal["before", "after"] | None = None
    target_num_layers: int | None = None


NOTHING_SETTLED = Settle()


_WORDS = {
    "ids": ("output", "boundary"),
    "residual": ("raw", "normed"),
    "feedback": ("prenorm", "postnorm"),
    "image_embedding": ("placeholder", "visual"),
    "deepstack_tap": ("before", "after"),
}


def flag_of(answer: str) -> str:
    """How the command line spells a field of Settle."""
    return f"--{answer.replace('_', '-')}"


def parse_settle(typed: Mapping[str, str | None], target_num_layers: int | None) -> Settle:
    """The answers as they are typed, by field of Settle; raises UsageError for any other word."""
    for name, words in _WORDS.items():
        value = typed.get(name)
        if value is not None and value not in words:
            raise UsageError(f"{flag_of(name)} {value}: expected {' or '.join(words)}")
    answers: dict[str, Any] = {**typed, "taps": _parse_taps(typed.get("taps"))}
    return Settle(**answers, target_num_layers=target_num_layers)


def _parse_taps(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        taps = tuple(int(part) for part in text.split(","))
    except ValueError:
        taps = ()
    if not taps or min(taps) < 0 or len(set(taps)) != len(taps):
        raise UsageError(f"--taps {text}: expected boundaries, each once, such as 2,18,33")
    return taps
