"""What the tiny Qwen3-VL is shown and told: pictures, and dialogues about them."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from eagle3_plugin.tiny.vl_dialogues import Dialogue, Kind, Turn, dialogues
from eagle3_plugin.tiny.vl_pictures import (
    COLOURS,
    DIGITS,
    PLACES,
    SHAPES,
    SIZES,
    Picture,
    draw,
    pictures,
)

WHITE, RED = (255, 255, 255), (225, 35, 35)


def _share(picture: Picture) -> float:
    """How much of a 40 x 40 box at the top left is red."""
    image = draw(picture)
    cells = [image.getpixel((x, y)) for x in range(4, 44) for y in range(4, 44)]
    return cells.count(RED) / len(cells)


def test_a_square_is_drawn_where_it_is_said_to_be() -> None:
    image = draw(Picture("square", "red", "small", "top left"))
    assert image.size == (96, 96)
    assert [image.getpixel(at) for at in ((3, 3), (4, 4), (28, 28), (29, 29))] == [
        WHITE,
        RED,
        RED,
        WHITE,
    ]


def test_a_picture_in_the_middle_of_a_wide_canvas_is_in_its_middle() -> None:
    image = draw(Picture("square", "red", "large", "middle", (128, 96)))
    assert image.size == (128, 96)
    reds = [(x, y) for x in range(128) for y in range(96) if image.getpixel((x, y)) == RED]
    assert (min(reds), max(reds)) == ((44, 28), (84, 68))


@pytest.mark.parametrize(
    ("kind", "share"), [("circle", 0.785), ("square", 1.0), ("triangle", 0.5), ("plus", 5 / 9)]
)
def test_a_shape_fills_its_part_of_the_box(kind: str, share: float) -> None:
    assert _share(Picture(kind, "red", "large", "top left")) == pytest.approx(share, abs=0.06)


def test_digits_are_those_of_a_seven_segment_display() -> None:
    """The middle bar is lit in 2, 3 and 4 only, the upper left one in 0 and 4."""
    images = [draw(Picture(kind, "red", "large", "top left")) for kind in DIGITS]
    assert [image.getpixel((24, 24)) == RED for image in images] == [False, False, True, True, True]
    upper_left = [image.getpixel((13, 16)) == RED for image in images]
    assert upper_left == [True, False, False, False, True]


def test_74_of_540_combinations_are_held_out_and_never_trained_on() -> None:
    every = itertools.product((*SHAPES, *DIGITS), COLOURS, SIZES, PLACES)
    held_out = [Picture(*words).is_held_out for words in every]
    assert (sum(held_out), len(held_out)) == (74, 540)
    for asked in (True, False):
        drawn = itertools.islice(pictures(random.Random(1), held_out=asked), 300)
        assert {picture.is_held_out for picture in drawn} == {asked}


def test_pictures_have_four_sizes_and_mostly_the_first() -> None:
    drawn = itertools.islice(pictures(random.Random(1), held_out=False), 1000)
    sizes = Counter(picture.canvas for picture in drawn)
    assert set(sizes) == {(96, 96), (64, 96), (96, 64), (128, 96)}
    assert sizes.most_common(1)[0][0] == (96, 96)


def _some(kind: Kind, count: int = 200) -> list[Dialogue]:
    return list(itertools.islice(dialogues("test", held_out=False, kinds={kind: 1.0}), count))


def test_a_picture_is_described_and_asked_about_in_nine_forms() -> None:
    picture = Picture("plus", "blue", "small", "middle")
    digit = Picture("digit 4", "black", "large", "top right")
    asked = {turn.question for dialogue in _some("one image") for turn in dialogue.turns}
    assert asked == {
        "Describe the picture.",
        "What does it show?",
        "Write it as code.",
        "What is where?",
        "Which colour is it?",
        "Where is it?",
        "Is it small or large?",
        "Which shape is it?",
        "Which digit is it?",
    }
    assert picture.words == " small blue plus middle"
    assert digit.words == " large black digit 4 top right"


def test_answers_name_every_picture_that_they_are_about() -> None:
    for kind in ("one image", "two images", "second turn"):
        for dialogue in _some(kind):
            for picture in dialogue.turns[-1].pictures:
                assert picture.kind.removeprefix("digit ") in dialogue.answer


def test_captions_say_all_there_is_to_say() -> None:
    captions = [d for d in _some("one image") if d.turns[0].question == "Describe the picture."]
    assert captions
    for caption in captions:
        shown = caption.pictures[0]
        where = "in the middle" if shown.place == "middle" else f"at the {shown.place}"
        assert caption.answer == f"A {shown.size} {shown.colour} {shown.kind} {where}."


def test_two_pictures_come_before_one_question() -> None:
    assert {len(d.turns) for d in _some("two images")} == {1}
    assert {len(d.pictures) for d in _some("two images")} == {2}


def test_a_second_turn_always_brings_a_picture() -> None:
    found = Counter(tuple(len(t.pictures) for t in d.turns) for d in _some("second turn"))
    assert set(found) == {(0, 1), (1, 1)}
    greeting = Turn((), "Hello!", "Hello! Show me a picture.")
    assert {d.turns[0] for d in _some("second turn") if not d.turns[0].pictures} == {greeting}


def test_messages_are_those_of_a_chat_with_pictures_before_the_text() -> None:
    picture = Picture("circle", "red", "small", "top left")
    dialogue = Dialogue("one image", (Turn((picture,), "Where is it?", "There."),))
    assert dialogue.messages(lambda p: {"type": "image", "is": p.kind}) == [
        {
            "role": "user",
            "content": [
                {"type": "image", "is": "circle"},
                {"type": "text", "text": "Where is it?"},
            ],
        },
        {"role": "assistant", "content": "There."},
    ]


def test_the_same_seed_gives_the_same_dialogues() -> None:
    first, second = (list(itertools.islice(dialogues("a", held_out=False), 5)) for _ in range(2))
    assert first == second
