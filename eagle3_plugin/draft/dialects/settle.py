"""What the user says where the files alone are ambiguous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    target_num_layers: int | None = None


NOTHING_SETTLED = Settle()


def parse_settle(
    dialect: str | None,
    taps: str | None,
    ids: str | None,
    residual: str | None,
    feedback: str | None,
    target_num_layers: int | None,
) -> Settle:
    """The answers as they are typed; raises UsageError for a word that is none of the answers."""
    for flag, value, words in (
        ("--ids", ids, ("output", "boundary")),
        ("--residual", residual, ("raw", "normed")),
        ("--feedback", feedback, ("prenorm", "postnorm")),
    ):
        if value is not None and value not in words:
            raise UsageError(f"{flag} {value}: expected {' or '.join(words)}")
    return Settle(dialect, _parse_taps(taps), ids, residual, feedback, target_num_layers)  # type: ignore[arg-type]


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
