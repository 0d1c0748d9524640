"""Round times of a running server: waves of requests that all begin and decode together."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.errors import EngineError
from eagle3_plugin.planning.profile import median_error
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.bench import METERS, PROMPT_KEYS, Prompt
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.completion import Completion

NUM_WAVES: Final = 5
"""At least; with five there is an interval for the median (planning/profile.py)."""

MOST_S: Final = 20.0
"""Seconds of waves, where they do not agree sooner; a start takes longer."""

SURE: Final = 0.01
"""The error of the median that is small enough: settings beside each other differ by more."""

SIMULATED_WITHIN: Final = 0.05
"""How near the counted tokens per verify have to be to those that the engine was told."""


@dataclass(frozen=True)
class Wave:
    """The time of a round in one wave, and what the engine counted; None without speculation."""

    round_s: float
    counts: AcceptanceCounts | None


def waves(
    client: Client,
    prompts: Sequence[Prompt],
    num_requests: int,
    max_tokens: int,
    most_s: float = MOST_S,
) -> tuple[Wave, ...]:
    """The waves of that many requests, after one that is not measured.

    NUM_WAVES, and then more until their median is sure within SURE, or most_s seconds are over.
    Each request goes on to `max_tokens`, whatever the model says. The prompts are taken in turn,
    the same for every server; further waves repeat the first ones.
    """
    sent = [
        [prompts[(number * num_requests + i) % len(prompts)] for i in range(num_requests)]
        for number in range(NUM_WAVES)
    ]
    _send(client, sent[0], max_tokens)
    measured: list[tuple[list[Completion], AcceptanceCounts | None]] = []
    begin = time.monotonic()
    while True:
        meter = METERS[client.engine](client.url)
        answers = _send(client, sent[len(measured) % NUM_WAVES], max_tokens)
        measured.append((answers, meter.counts(answers)))
        if len(measured) < NUM_WAVES:
            continue
        first_s = first_token_s([answer for answers, _ in measured for answer in answers])
        found = tuple(Wave(round_time(a, counts, first_s), counts) for a, counts in measured)
        is_sure = median_error([wave.round_s for wave in found]) <= SURE
        if is_sure or time.monotonic() - begin >= most_s:
            return found


def first_token_s(answers: Sequence[Completion]) -> float:
    """The median time to the first token of equal waves.

    That of each request is not used: a client that is kept waiting reads its first token late, and
    the rounds before that would seem to have taken no time.
    """
    firsts = [a.time_to_first_token_s for a in answers if a.time_to_first_token_s is not None]
    return statistics.median(firsts) if firsts else 0.0


def round_time(
    answers: Sequence[Completion], counts: AcceptanceCounts | None, first_s: float
) -> float:
    """Seconds of decoding of the request that ended first, by its rounds.

    All others decoded beside it in each of them; the rounds after it have fewer requests and are
    shorter. The first token is the prefill's and comes before the first round. Without speculation
    every further token is a round.
    """
    first = min(answers, key=lambda answer: answer.elapsed_s)
    decoding_s = first.elapsed_s - first_s
    rounds = first.num_tokens - 1 if counts is None else _rounds(first, answers, counts)
    if rounds < 1 or decoding_s <= 0:
        raise EngineError(
            f"the first of {len(answers)} request(s) to end took {rounds} rounds and "
            f"{decoding_s:g} s of decoding; expected at least one round",
            hint="Ask for more tokens with --max-new-tokens.",
        )
    return decoding_s / rounds


def _rounds(first: Completion, answers: Sequence[Completion], counts: AcceptanceCounts) -> int:
    """Of that one request; what the server counted is of all of them."""
    if len(answers) == 1:
        return counts.num_rounds
    if first.acceptance is None:
        raise EngineError(
            f"an answer does not say its own rounds; the server counted {counts.num_rounds} for "
            f"{len(answers)} requests",
            hint="Start vLLM with --per-request-spec-decode-metrics summary.",
        )
    return first.acceptance.num_rounds


def follows(found: Sequence[Wave], accepts: int) -> bool:
    """Whether the engine accepted as many tokens as it was told to."""
    counts = [wave.counts for wave in found if wave.counts is not None]
    total = AcceptanceCounts.total(counts, 0).tokens_per_verify
    return total is not None and abs(total / accepts - 1) <= SIMULATED_WITHIN


def _send(client: Client, prompts: Sequence[Prompt], max_tokens: int) -> list[Completion]:
    """All at once; the threads are daemons, so that a Ctrl-C does not wait for them."""
    done: queue.SimpleQueue[Completion | Exception] = queue.SimpleQueue()

    def ask(prompt: Prompt) -> None:
        given = {key: prompt[key] for key in PROMPT_KEYS if prompt.get(key) is not None}
        try:
            done.put(client.completion(**given, max_tokens=max_tokens, ignore_eos=True))
        except Exception as error:
            done.put(error)

    for prompt in prompts:
        threading.Thread(target=ask, args=(prompt,), daemon=True).start()
    answers = []
    for _ in prompts:
        answer = done.get()
        if isinstance(answer, Exception):
            raise answer
        answers.append(answer)
    return answers
