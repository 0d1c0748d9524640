"""What an engine refuses, changes in silence or does worse: the rules of limit_rules.py, asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.cost import Engine
from eagle3_plugin.planning.limit_rules import DP, LIMITS, PAGE, TOKENS, Effect, Limit, Server
from eagle3_plugin.planning.settings import OFF, Choice

NUMBERS: Final = (PAGE, TOKENS, DP)
"""Flags whose value is a whole number."""


@dataclass(frozen=True)
class Rejected:
    """A choice that is not ranked, the rule that it falls under, and why."""

    choice: Choice
    limit: str
    reason: str


def limits_of(engine: Engine) -> tuple[Limit, ...]:
    """The rules of one engine, and those of none."""
    return tuple(limit for limit in LIMITS if limit.engine in (None, engine))


def found(choice: Choice, server: Server, effect: Effect) -> tuple[Limit, ...]:
    """The rules of that effect which the choice falls under; off falls under none."""
    if choice is OFF:
        return ()
    limits = limits_of(server.machine.engine)
    return tuple(x for x in limits if x.effect == effect and x.applies(choice, server))


def allowed(
    choices: Iterable[Choice], server: Server
) -> tuple[tuple[Choice, ...], tuple[Rejected, ...]]:
    """The choices that the engine runs as they are, and the others with the first rule of each."""
    kept, rejected = [], []
    for choice in choices:
        limits = found(choice, server, "rejects")
        if limits:
            rejected.append(Rejected(choice, limits[0].id, limits[0].what))
        else:
            kept.append(choice)
    return tuple(kept), tuple(rejected)


def parse_flags(texts: Iterable[str], engine: Engine) -> Mapping[str, str]:
    """Flags as "name" or "name=value", dashes or not.

    Raises UsageError for a flag that no rule of the engine asks for: a plan would not depend on it.
    """
    pairs = (text.strip().lstrip("-").partition("=") for text in texts)
    flags = {name: value for name, _, value in pairs}
    known = sorted({flag for limit in limits_of(engine) for flag in limit.flags})
    problems = [f"no limit depends on {name!r}" for name in flags if name not in known]
    problems += [
        f"{name} is {flags[name]!r}, expected a whole number above 0"
        for name in NUMBERS
        if name in flags and not _is_count(flags[name])
    ]
    if problems:
        raise UsageError(
            f"--server-flag for {engine}: {'; '.join(problems)}",
            hint=f"Flags that change a plan: {', '.join(known)}. Leave others out.",
        )
    return flags


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
