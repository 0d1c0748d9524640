"""After the loops: each server's outputs against the baseline's.

What needs a server again is asked of one after the other, since both may not fit a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    A Ctrl-C ends what has to be asked of servers, and the run counts as stopped.
    dtype: the engines', for what a near-tie is. num_seeds: of the distribution test, which takes
    the place of the comparison at temperature > 0; 0 = leave it out.
    """
    try:
        return _equalities(run, dtype, num_seeds)
    except KeyboardInterrupt:
        run.is_stopped = True
        return _equalities(run, dtype, num_seeds)


def _equalities(run: Run, dtype: str | None, num_seeds: int) -> tuple[Equality, ...]:
    names = [host.name for host in run.plan.hosts if host.name != BASELINE]
    if len(names) == len(run.plan.hosts):
        return ()
    if run.plan.asking.temperature == 0:
        return _outputs(run, names, dtype)
    if not num_seeds or run.is_stopped:
        why = "outputs may rightly differ at temperature > 0"
        return tuple(not_compared(name, why) for name in names)
    return _distributions(run, names, num_seeds)


def _outputs(run: Run, names: Sequence[str], dtype: str | None) -> tuple[Equality, ...]:
    base = run.answers(BASELINE)
    compared = [compare(name, run.answers(name), base) for name in names]
    theirs = iter(_replayed(run, BASELINE, [apart for c in compared for apart in c.apart]))
    found = []
    for c in compared:
        ours = _replayed(run, c.server, c.apart)
        found.append(_concluded(c, list(zip(ours, theirs, strict=False)), dtype))
    return tuple(found)


def _concluded(
    compared: Compared, said: Sequence[tuple[Said, Said]], dtype: str | None
) -> Equality:
    if not compared.num_compared:
        return not_compared(compared.server, "there is no answer that both servers gave")
    return conclude(compared, said, dtype)


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
        conversation.ask(0, ())
        for asked in run.plan.sets
        for conversation in asked.conversations[:NUM_PROMPTS]
    ][:NUM_PROMPTS]

    every = [BASELINE, *names]

    def drawn(name: str) -> distribution.Outputs:
        first = every.index(name) * num_seeds
        with run.host(name).opened() as opened:
            seeds = range(first, first + num_seeds)
            return distribution.outputs(opened.client, prompts, seeds, run.plan.asking)

    def tested(name: str) -> Equality:
        try:
            return distribution.conclude(name, drawn(name), base)
        except Eagle3Error as error:
            return not_compared(name, error.message)

    try:
        base = drawn(BASELINE)
    except Eagle3Error as error:
        return tuple(not_compared(name, error.message) for name in names)
    return tuple(map(tested, names))
