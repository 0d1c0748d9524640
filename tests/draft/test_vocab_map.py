"""The vocabulary map as it is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.drafts import read
from tests.reading import problems
from tests.stored import edit_tensors, load_tensors, save_tensors, set_offsets

OFFSETS = "Save d2t as int64 offsets: target id minus draft id."


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([0] * 127, ("d2t-length", "d2t has shape [127], expected [128]", None)),
        (
            [400] * 128,
            (
                "d2t-range",
                "d2t maps 16 draft ids outside the vocabulary of 512; the first is draft id 112: "
                "400 + 112 = 512",
                "d2t must hold offsets: target id minus draft id.",
            ),
        ),
        (
            list(range(384, 512)),
            (
                "d2t-absolute",
                "d2t maps 64 draft ids outside the vocabulary of 512; the first is draft id 64: "
                "448 + 64 = 512; the values look like absolute target ids",
                "d2t must hold offsets: target id minus draft id.",
            ),
        ),
        (
            list(range(128)),
            (
                "d2t-absolute",
                "d2t rises at every step ([0, 1, 2, 3]…): absolute target ids, not offsets; read "
                "as offsets it would map to [0, 2, 4, 6]…",
                "d2t must hold offsets: target id minus draft id.",
            ),
        ),
        (
            [1] + [0] * 127,
            (
                "d2t-duplicates",
                "d2t maps 1 draft ids to a target id that another one has",
                "d2t must hold offsets: target id minus draft id, each target id once.",
            ),
        ),
    ],
)
def test_a_vocabulary_map_that_cannot_be_right_is_named(
    folder: Path, offsets: list[int], expected: tuple[str, str, str]
) -> None:
    set_offsets(folder, offsets)

    assert problems(folder) == [expected]


@pytest.mark.parametrize("dtype", ["F32", "BOOL"])
def test_a_vocabulary_map_that_is_no_integer_is_refused(folder: Path, dtype: str) -> None:
    edit_tensors(folder, d2t=(dtype, (128,)))

    assert problems(folder) == [
        ("d2t-dtype", f"d2t is stored as {dtype}; expected I64 (offsets)", OFFSETS)
    ]


@pytest.mark.parametrize("shape", [(), (1,), (64, 2), (128, 1)])
def test_a_vocabulary_map_of_another_shape_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    edit_tensors(folder, d2t=("I64", shape))

    assert problems(folder) == [
        ("d2t-length", f"d2t has shape {list(shape)}, expected [128]", None)
    ]


def test_offsets_that_rise_at_every_step_are_believed_when_t2d_says_the_same(folder: Path) -> None:
    table = load_tensors(folder)
    offsets = np.arange(128, dtype="<i8")
    mask = np.zeros(512, dtype=np.bool_)
    mask[0:256:2] = True
    table["d2t"] = ("I64", (128,), offsets.tobytes())
    table["t2d"] = ("BOOL", (512,), mask.tobytes())
    save_tensors(folder, table)

    vocab_map = read(folder).vocab_map

    assert vocab_map is not None
    assert vocab_map.tolist() == list(range(0, 256, 2))
