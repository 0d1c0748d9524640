"""Dialogues about pictures: several forms of caption, questions, two pictures, a second turn."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eagle3_plugin.tiny.vl_pictures import Picture, pictures

Kind = Literal["one image", "two images", "second turn"]
KINDS: Mapping[Kind, float] = {"one image": 0.3, "two images": 0.4, "second turn": 0.3}
"""Each with its share in training."""


@dataclass(frozen=True)
class Turn:
    """A question after some pictures, and its right answer."""

    pictures: tuple[Picture, ...]
    question: str
    answer: str

    def messages(self, picture_part: Callable[[Picture], dict[str, Any]]) -> list[dict[str, Any]]:
        """The user's message and the assistant's."""
        parts: list[dict[str, Any]] = [picture_part(picture) for picture in self.pictures]
        asked = {"role": "user", "content": [*parts, {"type": "text", "text": self.question}]}
        return [asked, {"role": "assistant", "content": self.answer}]


@dataclass(frozen=True)
class Dialogue:
    """One or two turns; the last answer is the one that is judged."""

    kind: Kind
    turns: tuple[Turn, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(picture for turn in self.turns for picture in turn.pictures)

    @property
    def answer(self) -> str:
        return self.turns[-1].answer

    def messages(self, picture_part: Callable[[Picture], dict[str, Any]]) -> list[dict[str, Any]]:
        """All messages, in the form that chat templates take.

        picture_part: a picture as a content part.
        """
        return [message for turn in self.turns for message in turn.messages(picture_part)]


def dialogues(
    seed: str, *, held_out: bool, kinds: Mapping[Kind, float] = KINDS
) -> Iterator[Dialogue]:
    """Endless dialogues; those held out show only pictures that are never trained on."""
    source = random.Random(seed)
    shown = pictures(source, held_out=held_out)
    while True:
        kind = source.choices(tuple(kinds), tuple(kinds.values()))[0]
        yield Dialogue(kind, _TURNS[kind](source, shown))


def _with_article(picture: Picture) -> str:
    return f"a {picture.size} {picture.colour} {picture.kind}"


def _where(picture: Picture) -> str:
    return f"in the {picture.place}" if picture.place == "middle" else f"at the {picture.place}"


def _caption(picture: Picture) -> str:
    return f"{_with_article(picture)} {_where(picture)}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _shape_or_digit(picture: Picture) -> tuple[str, str]:
    if picture.kind.startswith("digit"):
        return "Which digit is it?", f"It is a {picture.colour} {picture.kind[-1]}."
    return "Which shape is it?", f"It is a {picture.colour} {picture.kind}."


def _code(picture: Picture) -> str:
    values = f'"{picture.colour}", "{picture.size}", "{picture.place}"'
    return f'draw("{picture.kind}", {values})'


_ABOUT_ONE: tuple[Callable[[Picture], tuple[str, str]], ...] = (
    lambda p: ("Describe the picture.", _capital(f"{_caption(p)}.")),
    lambda p: ("What does it show?", f"The picture shows {_with_article(p)}. It is {_where(p)}."),
    lambda p: ("Write it as code.", _code(p)),
    lambda p: ("What is where?", _capital(f"{_where(p)} there is {_with_article(p)}.")),
    lambda p: ("Which colour is it?", f"The {p.kind} is {p.colour}."),
    lambda p: ("Where is it?", f"The {p.kind} is {_where(p)}."),
    lambda p: ("Is it small or large?", f"The {p.kind} is {p.size}."),
    _shape_or_digit,
)
_ABOUT_TWO: tuple[Callable[[Picture, Picture], tuple[str, str]], ...] = (
    lambda p, q: (
        "Describe both pictures.",
        f"The first shows {_caption(p)}. The second shows {_caption(q)}.",
    ),
    lambda p, q: (
        "Which colours are they?",
        f"The first {p.kind} is {p.colour} and the second {q.kind} is {q.colour}.",
    ),
)
_GREETING = Turn((), "Hello!", "Hello! Show me a picture.")


def _one_image(source: random.Random, shown: Iterator[Picture]) -> tuple[Turn, ...]:
    picture = next(shown)
    return (Turn((picture,), *source.choice(_ABOUT_ONE)(picture)),)


def _two_images(source: random.Random, shown: Iterator[Picture]) -> tuple[Turn, ...]:
    both = (next(shown), next(shown))
    return (Turn(both, *source.choice(_ABOUT_TWO)(*both)),)


def _second_turn(source: random.Random, shown: Iterator[Picture]) -> tuple[Turn, ...]:
    first = (_GREETING,) if source.random() < 0.5 else _one_image(source, shown)
    return (*first, *_one_image(source, shown))


_TURNS: Mapping[Kind, Callable[[random.Random, Iterator[Picture]], tuple[Turn, ...]]] = {
    "one image": _one_image,
    "two images": _two_images,
    "second turn": _second_turn,
}
