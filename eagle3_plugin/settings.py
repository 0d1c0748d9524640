"""The three numbers of speculation, in SGLang's terms.

vLLM drafts chains only: its `num_speculative_tokens` K is the chain of K steps, "K,1,K+1".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eagle3_plugin.errors import UsageError


@dataclass(frozen=True, order=True)
class Settings:
    """How far and how wide a draft looks ahead in one round.

    num_steps: draft passes, the depth of the tree.
    topk: candidates that each node is expanded by; 1 makes it a chain.
    num_draft_tokens: tokens that the target verifies at once, the root included.

    Raises UsageError for numbers that no engine can run: SGLang 0.5.23 would put a chain's third
    number right with a warning, and would fail at run time beyond the number of nodes that the
    tree has (sglang/srt/speculative/eagle_utils.py, organize_draft_results).
    """

    num_steps: int
    topk: int
    num_draft_tokens: int

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise UsageError(
                f"settings {self}: {'; '.join(problems)}",
                hint="Settings are num_steps,topk,num_draft_tokens; a chain of s steps is s,1,s+1.",
            )

    def __str__(self) -> str:
        return f"{self.num_steps},{self.topk},{self.num_draft_tokens}"

    @property
    def is_chain(self) -> bool:
        return self.topk == 1

    @classmethod
    def parse(cls, text: str) -> Settings:
        """The settings written as "num_steps,topk,num_draft_tokens"."""
        numbers = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
        if numbers is None:
            raise UsageError(
                f"settings {text!r} are not three whole numbers with commas between them",
                hint='Write num_steps,topk,num_draft_tokens, for example "5,4,16"; a chain is '
                '"3,1,4".',
            )
        num_steps, topk, num_draft_tokens = map(int, numbers.groups())
        return cls(num_steps, topk, num_draft_tokens)


def chain(num_steps: int) -> Settings:
    """The chain of that many draft tokens (vLLM: `num_speculative_tokens`)."""
    return Settings(num_steps, 1, num_steps + 1)


def max_draft_tokens(num_steps: int, topk: int) -> int:
    """The root, its topk children, and topk * topk nodes for each further step."""
    return 1 + topk + (num_steps - 1) * topk**2


def _problems(s: Settings) -> list[str]:
    found = [
        f"{name} is {value}, expected at least {least}"
        for name, value, least in (
            ("num_steps", s.num_steps, 1),
            ("topk", s.topk, 1),
            ("num_draft_tokens", s.num_draft_tokens, 2),
        )
        if value < least
    ]
    if found:
        return found
    if s.topk == 1 and s.num_draft_tokens != s.num_steps + 1:
        found.append(
            f"num_draft_tokens is {s.num_draft_tokens}, "
            f"expected {s.num_steps + 1}: topk 1 is a chain of num_steps + 1 tokens"
        )
    most = max_draft_tokens(s.num_steps, s.topk)
    if s.topk > 1 and s.num_draft_tokens > most:
        found.append(
            f"num_draft_tokens is {s.num_draft_tokens}, expected at most {most}: "
            f"a tree of {s.num_steps} steps and topk {s.topk} has no more nodes"
        )
    return found
