"""Whether each output is the baseline's, and where it is not, whether two tokens were tied.

At temperature 0 speculation must not change an output. Where it does, one of two things happened:
the two best tokens were so close that the rounding of another kernel, or of another batch, decided
(a near-tie), or something is wrong. Only the servers can tell: both are asked for the two tokens'
log-probabilities after the common beginning. A difference counts as a near-tie when both give both
tokens log-probabilities no further apart than `near_tie_nats`, and in no other case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from eagle3_plugin.errors import EngineError
from eagle3_plugin.measuring.conversations import Conversation
from eagle3_plugin.measuring.equal import ComparedBy, Difference, Equality, TokenLogprobs
from eagle3_plugin.measuring.journal import CellKey
from eagle3_plugin.measuring.logprobs import next_logprobs
from eagle3_plugin.measuring.loop import Answer, Place
from eagle3_plugin.measuring.record import BASELINE
from eagle3_plugin.serving.client import Client

NEAR_TIE_NATS: Final[Mapping[str, float]] = {"float32": 0.001, "float": 0.001}
"""By the engine's --dtype; `float` is another name of float32 in both."""

NEAR_TIE_16_BIT_NATS: Final = 0.25
"""Two steps of a bfloat16 logit between 16 and 32, where a step is 1/8. A float16 step there is
1/64; what other kernels do to a hidden state before is of the same order for both."""

ASSUMED: Final = "the limit of a near-tie is assumed, for 16 bits: the servers' dtype is not known"

NUM_IDS, NUM_CHARACTERS = 8, 40
"""How much of an output is shown from a difference on."""

Answers = Mapping[Place, Answer]


@dataclass(frozen=True)
class Apart:
    """A difference before it is explained: where, and the answers. common: token ids before it,
    None where the outputs have no ids."""

    key: CellKey
    ours: Answer
    theirs: Answer
    position: int
    common: tuple[int, ...] | None


@dataclass(frozen=True)
class Compared:
    """The outputs of one server against the baseline's. compared_by: see Equality."""

    server: str
    compared_by: ComparedBy
    num_compared: int
    num_not_compared: int
    apart: tuple[Apart, ...]


def near_tie_nats(dtype: str | None) -> float:
    """How far apart two tokens may be that a rounding decides between.

    dtype: the engine's --dtype; None = not known, taken for 16 bits. So is `auto`, whatever the
    weights are: both engines then run float32 weights in 16 bits (vLLM 0.32.0, config/model.py,
    _resolve_auto_dtype; SGLang 0.5.23, configs/model_config.py, _get_and_verify_dtype).
    """
    return NEAR_TIE_NATS.get((dtype or "").lower(), NEAR_TIE_16_BIT_NATS)


def compare(
    server: str,
    cells: Mapping[CellKey, Answers],
    baseline: Mapping[CellKey, Answers],
) -> Compared:
    """Cell by cell, answer by answer; by token ids where both answers have them.

    Not compared: a later turn whose history already differs, and an answer that one side lacks.
    """
    pairs = [
        (key, answers, baseline.get(replace(key, server=BASELINE), {}))
        for key, answers in cells.items()
    ]
    found: list[Apart] = []
    num_compared = num_not = num_by_ids = 0
    for key, ours, theirs in pairs:
        num_not += len(ours.keys() ^ theirs.keys())
        diverged: set[int] = set()
        for place in sorted(ours.keys() & theirs.keys()):
            if place[0] in diverged:
                num_not += 1
                continue
            num_compared += 1
            num_by_ids += _have_ids(ours[place], theirs[place])
            apart = _apart(key, ours[place], theirs[place])
            if apart is not None:
                diverged.add(place[0])
                found.append(apart)
    by: ComparedBy = "token_ids_or_text" if num_by_ids else "text"
    if num_by_ids == num_compared:
        by = "token_ids"
    return Compared(server, by, num_compared, num_not, tuple(found))


@dataclass(frozen=True)
class Prompt:
    """The prompt of a difference, for a replay. thinking: as it was sent."""

    asked: Mapping[str, Any]
    thinking: bool | None


def replay(client: Client, prompt: Prompt, apart: Apart) -> TokenLogprobs:
    """What one server says of the two tokens; raises EngineError where it cannot be asked."""
    if apart.common is None:
        raise EngineError("the outputs have no token ids, and a replay needs them")
    ours, theirs = apart.ours.token_ids or (), apart.theirs.token_ids or ()
    if apart.position >= min(len(ours), len(theirs)):
        raise EngineError("one output ended where the other went on, and the end has no id here")
    ids = _prompt_ids(client, prompt)
    found, expected = ours[apart.position], theirs[apart.position]
    return next_logprobs(client, [*ids, *apart.common], found, expected)


def conclude(
    compared: Compared,
    said: Sequence[tuple[TokenLogprobs | str, TokenLogprobs | str]],
    dtype: str | None,
) -> Equality:
    """The equality with every difference explained as far as it can be.

    said: of each difference, what the server and the baseline say, or why they do not. dtype: see
    near_tie_nats.
    """
    limit_nats = near_tie_nats(dtype)
    differences = tuple(
        _explained(apart, *both, limit_nats)
        for apart, both in zip(compared.apart, said, strict=True)
    )
    num_near = sum(d.is_near_tie is True for d in differences)
    return Equality(
        server=compared.server,
        how="outputs",
        compared_by=compared.compared_by,
        num_compared=compared.num_compared,
        num_equal=compared.num_compared - len(differences),
        num_near_ties=num_near,
        num_different=len(differences) - num_near,
        num_not_compared=compared.num_not_compared,
        near_tie_nats=limit_nats,
        p_value=None,
        why=ASSUMED if differences and dtype is None else "",
        differences=differences,
    )


def not_compared(server: str, why: str) -> Equality:
    """Nothing was compared, and why."""
    return Equality(
        server=server,
        how="none",
        compared_by=None,
        num_compared=0,
        num_equal=0,
        num_near_ties=0,
        num_different=0,
        num_not_compared=0,
        near_tie_nats=None,
        p_value=None,
        why=why,
        differences=(),
    )


def prompt_of(
    conversation: Conversation, place: Place, answers: Answers, thinking: bool | None
) -> Prompt:
    """What was asked at a place, with the history that these answers made."""
    texts = [answers[(place[0], turn)].text for turn in range(place[1])]
    return Prompt(conversation.ask(place[1], texts), thinking)


def _have_ids(*answers: Answer) -> bool:
    return all(answer.token_ids is not None for answer in answers)


def _apart(key: CellKey, ours: Answer, theirs: Answer) -> Apart | None:
    by_ids = _have_ids(ours, theirs)
    left: Sequence[Any] = (ours.token_ids or ()) if by_ids else ours.text
    right: Sequence[Any] = (theirs.token_ids or ()) if by_ids else theirs.text
    if left == right:
        return None
    unequal = (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    position = next(unequal, min(len(left), len(right)))
    common = (ours.token_ids or ())[:position] if by_ids else None
    return Apart(key, ours, theirs, position, common)


def _explained(
    apart: Apart, ours: TokenLogprobs | str, theirs: TokenLogprobs | str, limit_nats: float
) -> Difference:
    gap, is_near, why = _verdict(ours, theirs, limit_nats)
    return Difference(
        set=apart.key.set,
        conversation=apart.ours.request.conversation,
        turn=apart.ours.request.turn,
        concurrency=apart.key.concurrency,
        repeat=apart.key.repeat,
        position=apart.position,
        found=_shown(apart, apart.ours),
        expected=_shown(apart, apart.theirs),
        logprobs=ours if isinstance(ours, TokenLogprobs) else None,
        baseline_logprobs=theirs if isinstance(theirs, TokenLogprobs) else None,
        gap_nats=gap,
        is_near_tie=is_near,
        why=why,
    )


def _verdict(
    ours: TokenLogprobs | str, theirs: TokenLogprobs | str, limit_nats: float
) -> tuple[float | None, bool | None, str]:
    if isinstance(ours, str) or isinstance(theirs, str):
        why = ours if isinstance(ours, str) else theirs
        return None, None, f"not explained: {why}"
    gaps = list(_gaps(ours, theirs))
    if len(gaps) < 2:
        return None, False, "one of the two tokens is not among the likeliest of a server"
    gap = max(gaps)
    if gap <= limit_nats:
        return gap, True, f"both servers give the two tokens at most {gap:.4g} nats apart"
    return gap, False, f"the two tokens are {gap:.4g} nats apart, expected at most {limit_nats:g}"


def _gaps(*given: TokenLogprobs) -> Iterator[float]:
    for one in given:
        if one.found is not None and one.expected is not None:
            yield abs(one.found - one.expected)


def _shown(apart: Apart, answer: Answer) -> tuple[int, ...] | str:
    begin = apart.position
    if apart.common is not None:
        return (answer.token_ids or ())[begin : begin + NUM_IDS]
    return answer.text[begin : begin + NUM_CHARACTERS]


def _prompt_ids(client: Client, prompt: Prompt) -> list[int]:
    asked = prompt.asked
    if "prompt_token_ids" in asked:
        return list(asked["prompt_token_ids"])
    if "prompt" in asked:
        return client.tokenized(str(asked["prompt"]))
    messages = asked["messages"]
    if any(not isinstance(message["content"], str) for message in messages):
        raise EngineError("the prompt has an image, and a replay by token ids would lose it")
    return client.tokenized(messages, prompt.thinking)
