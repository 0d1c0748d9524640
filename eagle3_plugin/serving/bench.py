"""Speed, acceptance and equality of outputs of a running server, alone or beside a baseline.

A closed loop: `concurrency` clients, each sending its next prompt when its last one is answered.
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eagle3_plugin.errors import UsageError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.completion import Completion
from eagle3_plugin.serving.metrics import VllmMeter
from eagle3_plugin.serving.metrics_sglang import SglangMeter

Prompt = Mapping[str, Any]
"""One of `prompt`, `messages` and `prompt_token_ids`; other keys (`set`) are not sent."""

Progress = Callable[[str, int, int], None]
"""Called after each answer with "warm-up", "baseline" or "bench", answers so far, and of how many.
"""

PROMPT_KEYS = ("prompt", "messages", "prompt_token_ids")
WARM_UP_TOKENS = 8


class Meter(Protocol):
    """A server's acceptance, from when the measurement began."""

    def counts(self, answers: Sequence[Completion]) -> AcceptanceCounts | None:
        """What these answers took; None when the server runs without speculation."""


METERS: Mapping[str, Callable[[str], Meter]] = {
    "vllm": VllmMeter.start,
    "sglang": SglangMeter.start,
}
"""How the acceptance of an engine is read, given its URL."""


@dataclass(frozen=True)
class Speed:
    """How fast one server answered all prompts. `elapsed_s` is of the whole loop.

    median_time_to_first_token_s: None when no answer had a token.
    """

    num_requests: int
    num_tokens: int
    elapsed_s: float
    median_time_to_first_token_s: float | None
    median_request_s: float

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all clients together, per second of the loop."""
        return self.num_tokens / self.elapsed_s

    def to_json(self) -> dict[str, Any]:
        """All fields and the rate."""
        return {**vars(self), "tokens_per_s": self.tokens_per_s}


@dataclass(frozen=True)
class Difference:
    """The first place where an output is not the baseline's.

    position: in tokens where both servers give token ids, else in characters. `found` and
    `expected` (the baseline's) are the token ids, or the text, from there on, cut short.
    """

    prompt_index: int
    position: int
    found: tuple[int, ...] | str
    expected: tuple[int, ...] | str

    def to_json(self) -> dict[str, Any]:
        """All fields, as lists where they are token ids."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self).items()}


@dataclass(frozen=True)
class Equality:
    """How many outputs equal the baseline's. compared_by: `token_ids`, or `text` without ids."""

    num_compared: int
    num_equal: int
    compared_by: str
    first_difference: Difference | None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        first = self.first_difference
        return {**vars(self), "first_difference": first and first.to_json()}


@dataclass(frozen=True)
class BenchResult:
    """One measurement. `acceptance` is None when the server runs without speculation.

    equality: None without a baseline, and at temperature > 0, where outputs may differ rightly.
    """

    url: str
    baseline_url: str | None
    model: str
    concurrency: int
    max_tokens: int
    temperature: float
    speed: Speed
    baseline_speed: Speed | None
    acceptance: AcceptanceCounts | None
    equality: Equality | None

    @property
    def speed_ratio(self) -> float | None:
        """Tokens per second over the baseline's."""
        base = self.baseline_speed
        return self.speed.tokens_per_s / base.tokens_per_s if base else None

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1."""
        nested = {
            key: value.to_json() if hasattr(value, "to_json") else value
            for key, value in vars(self).items()
        }
        return {"schema": 1, **nested, "speed_ratio": self.speed_ratio}


def bench(
    url: str,
    prompts: Sequence[Prompt],
    *,
    baseline_url: str | None = None,
    concurrency: int = 1,
    max_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    ignore_eos: bool = False,
    progress: Progress | None = None,
) -> BenchResult:
    """Sends all prompts to the server, and before that to the baseline, and compares the two.

    Each server first answers its first prompts with a few tokens, which is not measured. Which
    engine it is, it says itself.
    ignore_eos: every answer has `max_tokens` tokens, whatever the model says.
    """
    if not prompts:
        raise UsageError("no prompts; expected at least one")
    if concurrency < 1 or max_tokens < 1:
        raise UsageError(
            f"concurrency {concurrency} and max_tokens {max_tokens}; expected at least 1 of each"
        )
    client = Client.connect(url)
    baseline = None if baseline_url is None else Client.connect(baseline_url)
    sampling = {"temperature": temperature, "seed": seed, "ignore_eos": ignore_eos}
    loop = _Loop(prompts, concurrency, max_tokens, sampling, progress)
    base = None if baseline is None else loop.run(baseline, "baseline")
    loop.warm_up(client)
    meter = METERS[client.engine](url)
    answers, elapsed_s = loop.measure(client, "bench")
    compared = base is not None and temperature == 0
    return BenchResult(
        url=url,
        baseline_url=baseline_url,
        model=client.model,
        concurrency=concurrency,
        max_tokens=max_tokens,
        temperature=temperature,
        speed=_speed(answers, elapsed_s),
        baseline_speed=_speed(*base) if base else None,
        acceptance=meter.counts(answers),
        equality=compare(answers, base[0]) if base and compared else None,
    )


def compare(found: Sequence[Completion], expected: Sequence[Completion]) -> Equality:
    """Output by output; by token ids where both sides have them everywhere."""
    by_ids = all(c.token_ids is not None for c in (*found, *expected))
    differences = [
        difference
        for index, (ours, theirs) in enumerate(zip(found, expected, strict=True))
        if (difference := _difference(index, ours, theirs, by_ids))
    ]
    return Equality(
        num_compared=len(found),
        num_equal=len(found) - len(differences),
        compared_by="token_ids" if by_ids else "text",
        first_difference=differences[0] if differences else None,
    )


def _difference(
    index: int, found: Completion, expected: Completion, by_ids: bool
) -> Difference | None:
    ours = (found.token_ids or ()) if by_ids else found.text
    theirs = (expected.token_ids or ()) if by_ids else expected.text
    if ours == theirs:
        return None
    pairs = zip(ours, theirs, strict=False)
    unequal = (i for i, (a, b) in enumerate(pairs) if a != b)
    position = next(unequal, min(len(ours), len(theirs)))
    end = position + (8 if by_ids else 40)
    return Difference(index, position, ours[position:end], theirs[position:end])


def _speed(answers: Sequence[Completion], elapsed_s: float) -> Speed:
    firsts = [a.time_to_first_token_s for a in answers if a.time_to_first_token_s is not None]
    return Speed(
        num_requests=len(answers),
        num_tokens=sum(a.num_tokens for a in answers),
        elapsed_s=elapsed_s,
        median_time_to_first_token_s=statistics.median(firsts) if firsts else None,
        median_request_s=statistics.median(a.elapsed_s for a in answers),
    )


@dataclass(frozen=True)
class _Loop:
    prompts: Sequence[Prompt]
    concurrency: int
    max_tokens: int
    sampling: Mapping[str, Any]
    progress: Progress | None

    def run(self, client: Client, phase: str) -> tuple[list[Completion], float]:
        self.warm_up(client)
        return self.measure(client, phase)

    def warm_up(self, client: Client) -> None:
        prompts = self.prompts[: self.concurrency]
        self._send(client, prompts, min(WARM_UP_TOKENS, self.max_tokens), "warm-up")

    def measure(self, client: Client, phase: str) -> tuple[list[Completion], float]:
        begin = time.monotonic()
        answers = self._send(client, self.prompts, self.max_tokens, phase)
        return answers, time.monotonic() - begin

    def _send(
        self, client: Client, prompts: Sequence[Prompt], max_tokens: int, phase: str
    ) -> list[Completion]:
        """The answers in the order of the prompts.

        The threads are daemons, so that a Ctrl-C does not wait for the running requests.
        """
        todo: queue.SimpleQueue[tuple[int, Prompt]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Completion | Exception]] = queue.SimpleQueue()
        stopped = threading.Event()
        for item in enumerate(prompts):
            todo.put(item)

        def work() -> None:
            while not stopped.is_set() and not todo.empty():
                try:
                    index, prompt = todo.get_nowait()
                except queue.Empty:
                    return
                done.put((index, self._ask(client, prompt, max_tokens)))

        answers: dict[int, Completion] = {}
        try:
            for _ in range(min(self.concurrency, len(prompts))):
                threading.Thread(target=work, daemon=True).start()
            while len(answers) < len(prompts):
                index, answer = done.get()
                if isinstance(answer, Exception):
                    raise answer
                answers[index] = answer
                if self.progress is not None:
                    self.progress(phase, len(answers), len(prompts))
        finally:
            stopped.set()
        return [answers[index] for index in range(len(prompts))]

    def _ask(self, client: Client, prompt: Prompt, max_tokens: int) -> Completion | Exception:
        given = {key: prompt[key] for key in PROMPT_KEYS if prompt.get(key) is not None}
        try:
            return client.completion(**given, max_tokens=max_tokens, **self.sampling)
        except Exception as error:
            return error
