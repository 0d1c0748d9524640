"""What the planner chooses between: settings of speculation, and its absence (`OFF`)."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from eagle3_plugin.settings import Settings, chain, max_draft_tokens

CHAIN_STEPS: Final = (1, 2, 3, 4, 5, 6, 7)
TREE_STEPS: Final = (2, 3, 4, 5, 6, 7)
TREE_TOPK: Final = (2, 4, 8)
TREE_DRAFT_TOKENS: Final = (8, 12, 16, 24, 32)
"""The trees that we rank. A tree of one step is a list of alternatives; it has no second token."""


class Off(Enum):
    """No speculation."""

    OFF = "off"

    def __str__(self) -> str:
        return "off"


OFF: Final = Off.OFF


Choice = Settings | Literal[Off.OFF]


def parse(text: str) -> Choice:
    """The settings written as "num_steps,topk,num_draft_tokens", or OFF for "off"."""
    return OFF if text.strip().lower() == str(OFF) else Settings.parse(text)


def chains() -> tuple[Settings, ...]:
    """The chains that we rank; all that vLLM can run."""
    return tuple(chain(steps) for steps in CHAIN_STEPS)


def trees() -> tuple[Settings, ...]:
    """The trees that we rank: more nodes than a chain of the same depth, and no more than exist."""
    return tuple(
        Settings(steps, topk, nodes)
        for steps in TREE_STEPS
        for topk in TREE_TOPK
        for nodes in TREE_DRAFT_TOKENS
        if steps + 1 < nodes <= max_draft_tokens(steps, topk)
    )


def candidates() -> tuple[Choice, ...]:
    """Everything that we rank; speculation has to beat OFF like any other choice."""
    return (OFF, *chains(), *trees())
