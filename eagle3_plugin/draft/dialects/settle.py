"""What the user says where the files alone are ambiguous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eagle3_plugin.draft.dialects.taps import Convention


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
