"""A closed loop: `concurrency` clients, each taking the next conversation when its last is over.

Within a conversation each turn is asked when the one before is answered, with the answers so far
as its history. Threads and blocking sockets: 64 streams with 2,000 tokens/s in all take 14 % of a
core and 87 MB (tests/benchmarks/client_load.py), so nothing cleverer is needed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eagle3_plugin.errors import Eagle3Error, EngineError, RefusedError
from eagle3_plugin.measuring.conversations import AskedSet, Conversation
from eagle3_plugin.measuring.record import Counts
from eagle3_plugin.measuring.result import Request
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import ALL_TOKENS, Client
from eagle3_plugin.serving.completion import Completion

MAX_FAILURES: Final = 3
"""Failures with no answer between them after which a server is given up. A request that the server
refuses for what it asks is none of them."""

WARM_UP_TOKENS: Final = 8

Place = tuple[int, int]
"""Conversation and turn."""


@dataclass(frozen=True)
class Answer:
    """One answer: what a result keeps of it, and what it said."""

    request: Request
    text: str
    token_ids: tuple[int, ...] | None

    @property
    def place(self) -> Place:
        return self.request.conversation, self.request.turn


@dataclass(frozen=True)
class Asking:
    """How each request is sent: see Client.completion."""

    max_tokens: int
    temperature: float
    seed: int
    ignore_eos: bool
    thinking: bool | None
    top_p: float = 1.0
    top_k: int = ALL_TOKENS

    def send(self, client: Client, prompt: Mapping[str, Any]) -> Completion:
        return client.completion(**prompt, **vars(self))


@dataclass(frozen=True)
class Looped:
    """What a loop gave. failures, refusals: by conversation; what the server refused, it will
    refuse again. is_given_up: the server seems to be gone.
    """

    answers: tuple[Answer, ...]
    failures: Mapping[int, str]
    refusals: Mapping[int, str]
    is_given_up: bool


@dataclass
class Loop:
    """One set, asked of one server. known: answers from an earlier part of it.

    num_positions: that a round of the server may accept, 0 without speculation. begin_s: the
    seconds that earlier parts took; times go on from there. answered: called in the
    caller's thread with each new answer, in the order in which they came.
    """

    client: Client
    asked: AskedSet
    concurrency: int
    asking: Asking
    num_positions: int
    known: Mapping[Place, Answer]
    begin_s: float
    answered: Callable[[Answer], None]
    _done: queue.SimpleQueue[Answer | tuple[int, Exception] | None] = field(
        default_factory=queue.SimpleQueue, init=False
    )
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)

    def warm_up(self) -> int:
        """Asks the first conversations for a few tokens; how many requests that were.

        Raises what they failed with, unless the server only refuses some of them.
        """
        first = self.asked.conversations[: self.concurrency]
        short = Asking(**{**vars(self.asking), "max_tokens": WARM_UP_TOKENS})
        replies: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def ask(conversation: Conversation) -> None:
            try:
                short.send(self.client, conversation.ask(0, ()))
                replies.put(None)
            except Exception as error:
                replies.put(error)

        for conversation in first:
            threading.Thread(target=ask, args=(conversation,), daemon=True).start()
        errors = [error for _ in first if (error := replies.get()) is not None]
        for error in errors:
            if len(errors) == len(first) or not isinstance(error, RefusedError):
                raise error
        return len(first)

    def run(self) -> Looped:
        """All conversations; the threads are daemons, so that a Ctrl-C does not wait for them."""
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(self.asked.conversations)):
            todo.put(index)
        begin = time.monotonic() - self.begin_s
        for _ in range(self.concurrency):
            threading.Thread(target=self._work, args=(todo, begin), daemon=True).start()
        try:
            return self._gather(self.concurrency)
        finally:
            self._stopped.set()

    def _gather(self, num_running: int) -> Looped:
        answers, in_a_row = list(self.known.values()), 0
        failures, refusals = dict[int, str](), dict[int, str]()
        while num_running:
            found = self._done.get()
            if found is None:
                num_running -= 1
            elif isinstance(found, Answer):
                self.answered(found)
                answers.append(found)
                in_a_row = 0
            else:
                index, error = found
                if not isinstance(error, Eagle3Error):
                    raise error
                is_refused = isinstance(error, RefusedError)
                (refusals if is_refused else failures)[index] = error.message
                in_a_row += not is_refused
            if in_a_row >= MAX_FAILURES:
                self._stopped.set()
                return Looped(_sorted(answers), failures, refusals, True)
        return Looped(_sorted(answers), failures, refusals, False)

    def _work(self, todo: queue.SimpleQueue[int], begin: float) -> None:
        while not self._stopped.is_set():
            try:
                index = todo.get_nowait()
            except queue.Empty:
                break
            try:
                self._converse(index, begin)
            except Exception as error:
                self._done.put((index, error))
        self._done.put(None)

    def _converse(self, index: int, begin: float) -> None:
        conversation = self.asked.conversations[index]
        texts: list[str] = []
        for turn in range(conversation.num_turns):
            known = self.known.get((index, turn))
            if known is None:
                if self._stopped.is_set():
                    return
                known = self._ask(conversation, index, turn, texts, begin)
                self._done.put(known)
            texts.append(known.text)

    def _ask(
        self, conversation: Conversation, index: int, turn: int, texts: Sequence[str], begin: float
    ) -> Answer:
        sent = time.monotonic()
        found = self.asking.send(self.client, conversation.ask(turn, texts))
        if not found.num_tokens:
            raise EngineError(
                f"{self.client.url} answered with no token; expected at least one",
                hint="Look into the server's log.",
            )
        request = Request(
            conversation=index,
            turn=turn,
            modality=conversation.modality(turn),
            begin_s=sent - begin,
            time_to_first_token_s=found.time_to_first_token_s,
            request_s=found.elapsed_s,
            num_prompt_tokens=found.num_prompt_tokens,
            num_tokens=found.num_tokens,
            finish_reason=found.finish_reason,
            counts=self._counts(found),
        )
        return Answer(request, found.text, found.token_ids)

    def _counts(self, found: Completion) -> Counts | None:
        """With all positions. Of one token, which takes no round, SGLang says nothing."""
        is_short = self.client.engine == "sglang" and found.num_tokens == 1
        if found.acceptance is None and not (self.num_positions and is_short):
            return None
        listed = () if found.acceptance is None else (found.acceptance,)
        return Counts.of(AcceptanceCounts.total(listed, self.num_positions))


def _sorted(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    return tuple(sorted(answers, key=lambda answer: answer.place))
