"""What is asked: conversations of one or more turns, in named sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.draft.prompts.messages import image_urls
from eagle3_plugin.measuring.result import SetUsed

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Turns, each the messages that are added before the server is asked.

    given: in place of turns, one prompt that is no chat: {"prompt": text} or
    {"prompt_token_ids": ids}.
    """

    turns: tuple[tuple[Message, ...], ...] = ()
    given: Mapping[str, Any] | None = None

    @property
    def num_turns(self) -> int:
        return len(self.turns) if self.given is None else 1

    def ask(self, turn: int, answers: Sequence[str]) -> dict[str, Any]:
        """The prompt of a turn: what the client's `completion` takes.

        answers: the server's texts to the turns before, which become the assistant's.
        """
        if self.given is not None:
            return dict(self.given)
        history: list[Message] = list(self.turns[0])
        for answer, messages in zip(answers[:turn], self.turns[1 : turn + 1], strict=True):
            history += [{"role": "assistant", "content": answer}, *messages]
        return {"messages": history}

    def modality(self, turn: int) -> str:
        """`image` once an image is in the history."""
        seen = [message for messages in self.turns[: turn + 1] for message in messages]
        return "image" if image_urls(seen) else "text"

    def to_json(self) -> Any:
        return dict(self.given) if self.given is not None else [list(turn) for turn in self.turns]


@dataclass(frozen=True)
class AskedSet:
    """The conversations of one set. source: a hub id or a file; revision: None for a file."""

    name: str
    source: str
    revision: str | None
    conversations: tuple[Conversation, ...]

    @property
    def used(self) -> SetUsed:
        """What a result says of it."""
        return SetUsed(
            name=self.name,
            source=self.source,
            revision=self.revision,
            num_conversations=len(self.conversations),
            num_turns=sum(c.num_turns for c in self.conversations),
            sha256=sha256_of([c.to_json() for c in self.conversations]),
        )

    def limited(self, limit: int | None) -> AskedSet:
        """The first conversations of it."""
        return AskedSet(self.name, self.source, self.revision, self.conversations[:limit])


def sha256_of(value: Any) -> str:
    """Of the value's JSON, with sorted keys and without spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
