"""After the loops: each server's outputs against the baseline's.

What needs a server again is asked of one after the other, since both may not fit a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.measuring import distribution, equality
from eagle3_plugin.measuring.equal import Equality, TokenLogprobs
from eagle3_plugin.measuring.equality import Apart, Compared, compare, conclude, not_compared
from eagle3_plugin.measuring.record import BASELINE
from eagle3_plugin.measuring.run import Run
from eagle3_plugin.serving.client import Client

NUM_PROMPTS = 4
"""Of the distribution test, each asked under every seed."""

Said = TokenLogprobs | str
T = TypeVar("T")


def equalities(run: Run, *, dtype: str | None, num_seeds: int) -> tuple[Equality, ...]:
    """One for each server beside the baseline; none without one.

    dtype: the target's, for what a near-tie is. num_seeds: of the distribution test, which takes
    the place of the comparison at temperature > 0; 0 = leave it out.
    """
    names = [host.name for host in run.plan.hosts if host.name != BASELINE]
    if len(names) == len(run.plan.hosts):
        return ()
    if run.plan.asking.temperature == 0:
        return _outputs(run, names, equality.near_tie_nats(dtype))
    if not num_seeds or run.is_stopped:
        why = "outputs may rightly differ at temperature > 0"
        return tuple(not_compared(name, why) for name in names)
    return _distributions(run, names, num_seeds)


def _outputs(run: Run, names: Sequence[str], limit_nats: float) -> tuple[Equality, ...]:
    base = run.answers(BASELINE)
    compared = [compare(name, run.answers(name), base) for name in names]
    asked = [
        (c, index) for c in compared for index in range(min(len(c.apart), equality.MAX_EXPLAINED))
    ]
    theirs = _replayed(run, BASELINE, [c.apart[index] for c, index in asked])
    said: dict[str, dict[int, tuple[Said, Said]]] = {name: {} for name in names}
    for c in compared:
        mine = [(index, their) for (of, index), their in zip(asked, theirs, strict=True) if of is c]
        ours = _replayed(run, c.server, [c.apart[index] for index, _ in mine])
        said[c.server] = {i: (our, their) for (i, their), our in zip(mine, ours, strict=True)}
    return tuple(_concluded(c, said[c.server], limit_nats) for c in compared)


def _concluded(
    compared: Compared, said: Mapping[int, tuple[Said, Said]], limit_nats: float
) -> Equality:
    if not compared.num_compared:
        return not_compared(compared.server, "there is no answer that both servers gave")
    return conclude(compared, said, limit_nats)


def _replayed(run: Run, server: str, apart: Sequence[Apart]) -> list[Said]:
    """What a server says of each difference; why not, where it cannot be asked."""
    if run.is_stopped:
        return ["the run was stopped"] * len(apart)
    return _asked(run, server, apart, lambda client, one: _replay(run, client, one))


def _replay(run: Run, client: Client, apart: Apart) -> Said:
    asked = next(s for s in run.plan.sets if s.name == apart.key.set)
    place = apart.ours.place
    answers = run.journal.kept(apart.key).answers
    conversation = asked.conversations[place[0]]
    prompt = equality.prompt_of(conversation, place, answers, run.plan.asking.thinking)
    try:
        return equality.replay(client, prompt, apart)
    except Eagle3Error as error:
        return error.message


def _asked(
    run: Run, server: str, items: Sequence[T], ask: Callable[[Client, T], Said]
) -> list[Said]:
    if not items:
        return []
    try:
        with run.host(server).opened() as opened:
            return [ask(opened.client, item) for item in items]
    except Eagle3Error as error:
        return [error.message] * len(items)


def _distributions(run: Run, names: Sequence[str], num_seeds: int) -> tuple[Equality, ...]:
    prompts = [
        {**conversation.ask(0, ()), "thinking": run.plan.asking.thinking}
        for asked in run.plan.sets
        for conversation in asked.conversations[:NUM_PROMPTS]
    ][:NUM_PROMPTS]

    def drawn(name: str) -> distribution.Outputs:
        with run.host(name).opened() as opened:
            temperature = run.plan.asking.temperature
            return distribution.outputs(opened.client, prompts, num_seeds, temperature)

    base = drawn(BASELINE)
    return tuple(distribution.conclude(name, drawn(name), base) for name in names)
