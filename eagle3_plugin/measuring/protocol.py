"""A card's protocol: its sets, loads and settings, and what this engine has to do otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring.record import Engine
from eagle3_plugin.planning.cards import Card
from eagle3_plugin.settings import Settings, chain


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
