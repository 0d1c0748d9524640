"""Pictures that the tiny Qwen3-VL learns to describe: one shape or digit each, on white."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "plus")
DIGITS = tuple(f"digit {digit}" for digit in range(5))
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "green": (30, 160, 60),
    "blue": (40, 70, 230),
    "yellow": (245, 205, 20),
    "purple": (150, 40, 190),
    "black": (20, 20, 20),
}
SIZES: Mapping[str, int] = {"small": 24, "large": 40}
"""Width and height in pixels."""
PLACES: Mapping[str, tuple[float, float]] = {
    "top left": (0.0, 0.0),
    "top right": (1.0, 0.0),
    "middle": (0.5, 0.5),
    "bottom left": (0.0, 1.0),
    "bottom right": (1.0, 1.0),
}
CANVASES = ((96, 96), (64, 96), (96, 64), (128, 96))
"""Width and height; the first is the usual one. With patches of 16, 2 x 2 merged: 9, 6, 6, 12."""

_MARGIN, _JITTER = 4, 1
_DIGIT_SHARE, _USUAL_CANVAS_SHARE = 0.4, 0.6
_HELD_OUT_OF = 10
_SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc")
"""Which bars of a seven-segment display are lit for 0, 1, 2, 3, 4."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """What a picture shows. kind: one of SHAPES or DIGITS; shift: of the object, in pixels."""

    kind: str
    colour: str
    size: str
    place: str
    canvas: tuple[int, int] = CANVASES[0]
    shift: tuple[int, int] = (0, 0)

    @property
    def words(self) -> str:
        """What there is to say about it."""
        return f" {self.size} {self.colour} {self.kind} {self.place}"

    @property
    def is_held_out(self) -> bool:
        """Whether these four words together are never trained on: about one in ten is."""
        return zlib.crc32(self.words.encode()) % _HELD_OUT_OF == 0


def pictures(source: random.Random, *, held_out: bool) -> Iterator[Picture]:
    """Endless pictures of the training combinations, or of those held out."""
    while True:
        kinds = DIGITS if source.random() < _DIGIT_SHARE else SHAPES
        usual = source.random() < _USUAL_CANVAS_SHARE
        picture = Picture(
            source.choice(kinds),
            source.choice(tuple(COLOURS)),
            source.choice(tuple(SIZES)),
            source.choice(tuple(PLACES)),
            CANVASES[0] if usual else source.choice(CANVASES[1:]),
            (source.randint(-_JITTER, _JITTER), source.randint(-_JITTER, _JITTER)),
        )
        if picture.is_held_out == held_out:
            yield picture


def draw(picture: Picture) -> Image.Image:
    """The picture in RGB."""
    image = Image.new("RGB", picture.canvas, "white")
    pen, colour = ImageDraw.Draw(image), COLOURS[picture.colour]
    if picture.kind in DIGITS:
        for bar in _bars(DIGITS.index(picture.kind), _box(picture)):
            pen.rectangle(bar, fill=colour)
    else:
        _SHAPES[picture.kind](pen, _box(picture), colour)
    return image


def _box(picture: Picture) -> Box:
    side = SIZES[picture.size]
    corner = [
        _MARGIN + share * (length - side - 2 * _MARGIN) + shift
        for share, length, shift in zip(
            PLACES[picture.place], picture.canvas, picture.shift, strict=True
        )
    ]
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def _circle(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int]) -> None:
    pen.ellipse(box, fill=colour)


def _square(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int]) -> None:
    pen.rectangle(box, fill=colour)


def _triangle(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    pen.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=colour)


def _plus(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    third = (right - left) / 3
    pen.rectangle((left + third, top, right - third, bottom), fill=colour)
    pen.rectangle((left, top + third, right, bottom - third), fill=colour)


_SHAPES: Mapping[str, Callable[[ImageDraw.ImageDraw, Box, tuple[int, int, int]], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "plus": _plus,
}


def _bars(digit: int, box: Box) -> list[Box]:
    """The lit bars of a seven-segment display as high as the box and two thirds as wide."""
    left, top, right, bottom = box
    height = bottom - top
    left, right, thick = left + height / 6, right - height / 6, height / 6
    middle = (top + bottom) / 2
    places: dict[str, Box] = {
        "a": (left, top, right, top + thick),
        "b": (right - thick, top, right, middle),
        "c": (right - thick, middle, right, bottom),
        "d": (left, bottom - thick, right, bottom),
        "e": (left, middle, left + thick, bottom),
        "f": (left, top, left + thick, middle),
        "g": (left, middle - thick / 2, right, middle + thick / 2),
    }
    return [places[name] for name in _SEGMENTS[digit]]
