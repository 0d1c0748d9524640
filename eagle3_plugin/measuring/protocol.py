"""A card's protocol: its sets, loads and settings, and what this engine has to do otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring.bench import Work
from eagle3_plugin.measuring.record import Engine
from eagle3_plugin.planning.cards import Card
from eagle3_plugin.settings import Settings, chain

TEMPERATURE: Final = 0.0
"""Of a card's run. Assumed, for cards do not say it."""


@dataclass(frozen=True)
class Protocol:
    """What to run for a card. settings: by the card's own. notes: where it is not the card's run.

    flags: of the engine, the card's, which the user's words replace.
    """

    settings: Mapping[str, Settings]
    sets: tuple[str, ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]


def protocol(
    card: Card, engine: Engine, device: str, given_sets: Sequence[str], max_new_tokens: int
) -> Protocol:
    """The card's protocol on an engine; a tree becomes the chain of as many steps in vLLM.

    given_sets: NAME=FILE, in place of the public sets of those names.
    """
    settings = {str(s): _possible(s, engine) for s in card.tokens_per_verify}
    notes = [
        f"{engine} drafts chains only: {run} in place of the card's tree {asked}, so neither "
        "tokens per verify nor speed is of the same shape"
        for asked, run in settings.items()
        if asked != str(run)
    ]
    notes.append(f"the card does not say how long answers were: up to {max_new_tokens} tokens here")
    flags: tuple[str, ...] = ()
    if card.engine_words and device == "gpu" and engine == "sglang":
        flags = card.engine_words
    elif card.engine_words:
        said = " ".join(card.engine_words)
        notes.append(f"without the card's {said}, which is for SGLang on a GPU")
    return Protocol(settings, _sets(card, given_sets), flags, tuple(notes))


def differences(card: Card, target: str, draft: str, work: Work) -> tuple[str, ...]:
    """Where a run of the protocol was told to be another than the card's, for people."""
    asking = work.asking
    pair = (("target", target, card.target), ("draft", draft, card.draft))
    notes = [
        f"the {what} is {ours}; the card's is {its}"
        for what, ours, its in pair
        if ours.partition("@")[0] != its
    ]
    notes += [
        f"the questions of {asked.name} are those of the file {asked.source}, maybe not the card's"
        for asked in work.sets
        if asked.revision is None
    ]
    if work.limit != card.limit:
        notes.append(
            f"{_most(work.limit)} conversations of each set; the card does not say how many, and "
            f"is taken for {_most(card.limit)}"
        )
    if set(work.concurrency) != set(card.concurrency):
        ours, its = _listed(work.concurrency), _listed(card.concurrency)
        notes.append(f"conversations at a time: {ours}; the card's run had {its}")
    if asking.temperature != TEMPERATURE:
        notes.append(
            f"temperature {asking.temperature:g}; the card does not say its own, and is taken for "
            f"{TEMPERATURE:g}"
        )
    if asking.ignore_eos:
        notes.append(
            "every answer has all its tokens (--ignore-eos); the card says nothing of that"
        )
    if asking.thinking is not None:
        notes.append(
            f"the chat template is told enable_thinking={asking.thinking}; the card says "
            "nothing of that"
        )
    return tuple(notes)


def parse_loads(text: str | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers of parallel conversations that `--concurrency` names."""
    if text is None:
        return default
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise UsageError(
            f"--concurrency is {text!r}, expected numbers of at least 1 with commas between them",
            hint="For example --concurrency 1,4",
        )
    return tuple(dict.fromkeys(map(int, parts)))


def _possible(settings: Settings, engine: Engine) -> Settings:
    return settings if engine == "sglang" or settings.is_chain else chain(settings.num_steps)


def _most(limit: int | None) -> str:
    return "all" if limit is None else f"the first {limit}"


def _listed(loads: Sequence[int]) -> str:
    return " and ".join(map(str, loads))


def _sets(card: Card, given: Sequence[str]) -> tuple[str, ...]:
    files = {text.partition("=")[0]: text for text in given}
    foreign = sorted(files.keys() - set(card.sets.values()))
    if foreign:
        raise UsageError(
            f"--sets {', '.join(foreign)} with the card of {card.draft}; expected files for "
            f"{', '.join(card.sets.values())}",
            hint="Write NAME=FILE, or leave --sets out for the public sets.",
        )
    return tuple(files.get(name, name) for name in card.sets.values())
