"""Headers that lie, and random ones: refused by name, never a traceback."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eagle3_plugin.draft.safetensors_header import build_header, parse_header, read_header
from eagle3_plugin.errors import (
    CheckpointError,
)
from tests.checkpoint_files import (
    draft_folder,
    entry,
    folder_with,
    opened,
    safetensors_bytes,
)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return draft_folder(tmp_path / "draft")


LIES: list[tuple[bytes, str]] = [
    (b"", "has 0 bytes, too few for a safetensors header"),
    (b"1234567", "has 7 bytes, too few"),
    (safetensors_bytes({}, length=1000), "its header has 1000 bytes, but only 2 follow"),
    (safetensors_bytes({}, length=2**63), "header has 9223372036854775808 bytes, the format all"),
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "is a git-lfs pointer of 63 bytes, expected the weights themselves",
    ),
    (safetensors_bytes(0, text=b""), r"the header starts with b'', expected '\{'"),
    (safetensors_bytes([]), r"the header starts with b'\[', expected '\{'"),
    (safetensors_bytes(0, text=b" {}"), r"the header starts with b' '"),
    (safetensors_bytes(0, text=b"{,}"), "the header is not JSON: .* line 1 column 2"),
    (safetensors_bytes(0, text=b'{"\xff":1}'), "the header is not UTF-8: byte 0xff at offset 2"),
    (
        safetensors_bytes(0, b"a", text=b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                          b'"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'),
        "key 'x' is there twice",
    ),
    (
        safetensors_bytes({"\ud800": entry("U8", [1], 0, 1)}, b"a"),
        "has half of a surrogate pair in a string",
    ),
    (safetensors_bytes({"__metadata__": {"a": 1}}), "__metadata__ in the header must map strings"),
    (safetensors_bytes({"__metadata__": []}), "__metadata__ in the header must map strings"),
    (safetensors_bytes({"x": 1}), "tensor 'x' is described by 1, expected dtype, shape"),
    (safetensors_bytes({"x": {"dtype": "U8"}}), r"tensor 'x' is described by \['dtype'\]"),
    (safetensors_bytes({"x": entry("Q8", [1], 0, 1)}, b"a"), "tensor 'x' has dtype 'Q8', expected"),
    (safetensors_bytes({"x": entry([], [1], 0, 1)}, b"a"), r"tensor 'x' has dtype \[\], expected"),
    (safetensors_bytes({"x": entry("U8", [-1], 0, 1)}, b"a"), r"tensor 'x' has shape \[-1\]"),
    (safetensors_bytes({"x": entry("U8", [True], 0, 1)}, b"a"), r"tensor 'x' has shape \[True\]"),
    (safetensors_bytes({"x": entry("U8", [1.0], 0, 1)}, b"a"), r"tensor 'x' has shape \[1.0\]"),
    (safetensors_bytes({"x": entry("U8", 1, 0, 1)}, b"a"), "tensor 'x' has shape 1, expected"),
    (safetensors_bytes({"x": entry("U8", [1] * 65, 0, 1)}, b"a"), r"tensor 'x' has shape \[1, 1"),
    (safetensors_bytes({"x": entry("U8", [2**63, 0], 0, 0)}), "tensor 'x' has shape"),
    (
        safetensors_bytes({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"a"),
        r"tensor 'x' has data_offsets \[0\], expected \[begin, end\]",
    ),
    (
        safetensors_bytes({"x": entry("F32", [2, 2], 0, 8)}, bytes(8)),
        r"tensor 'x' has data_offsets \[0, 8\]: 8 bytes; expected 16 for F32 \[2, 2\]",
    ),
    (safetensors_bytes({"x": entry("U8", [1], 1, 0)}, b"a"), r"\[1, 0\]: -1 bytes; expected 1"),
    (safetensors_bytes({"x": entry("F4", [1], 0, 1)}, b"a"), "1 bytes; expected None for F4"),
    (
        safetensors_bytes({"x": entry("U8", [2**62] * 60, 0, 1)}, b"a"),
        "1 bytes; expected .* for U8",
    ),
    (
        safetensors_bytes({"x": entry("U8", [2], 0, 2), "y": entry("U8", [2], 1, 3)}, b"abc"),
        "tensor 'y' overlaps tensor 'x': it starts at byte 1 of the data, expected 2",
    ),
    (
        safetensors_bytes({"x": entry("U8", [2], 0, 2), "y": entry("U8", [2], 3, 5)}, b"abcde"),
        "tensor 'y' leaves a gap after tensor 'x': it starts at byte 3 of the data, expected 2",
    ),
    (
        safetensors_bytes({"x": entry("U8", [2], 1, 3)}, b"abc"),
        "tensor 'x' leaves a gap after the header",
    ),
    (
        safetensors_bytes({"x": entry("U8", [9], 0, 9)}, b"abc"),
        r"but its header describes \d+; tensor 'x' ends beyond the file",
    ),
    (safetensors_bytes({"x": entry("U8", [1], 0, 1)}, b"abc"), "its header describes only"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), LIES)
def test_a_header_that_lies_is_refused_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    folder = folder_with(tmp_path, {"model.safetensors": data})
    with pytest.raises(CheckpointError, match=rf"^model\.safetensors.*{message}"):
        opened(folder)


def test_a_header_over_the_formats_limit_is_refused_without_reading_it(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"model.safetensors": struct.pack("<Q", 100_000_001)})
    os.truncate(folder / "model.safetensors", 200_000_000)
    with pytest.raises(CheckpointError, match="header has 100000001 bytes, the format allows 100"):
        opened(folder)


def test_a_source_that_delivers_less_than_it_says_is_noticed() -> None:
    data = safetensors_bytes({}, text=b"{}" + b" " * 100_000)
    for cut, message in ((4, "4 bytes could be read"), (90_000, "only 89992 came")):
        with pytest.raises(CheckpointError, match=message):
            read_header("x", len(data), lambda at, n, cut=cut: data[at : min(at + n, cut)])  # type: ignore[misc]


def test_a_truncated_file_is_refused_at_every_length(draft: Path) -> None:
    whole = (draft / "model.safetensors").read_bytes()
    for length in range(0, len(whole), 7):
        (draft / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            opened(draft)


FUZZ = settings(deadline=None, max_examples=60)
"""No deadline: a test machine may stall for longer than any example takes."""

VALID = safetensors_bytes(
    {"__metadata__": {"a": "b"}, "x": entry("BF16", [2, 2], 0, 8), "y": entry("BOOL", [3], 8, 11)},
    bytes(11),
)


def never_a_traceback(data: bytes) -> None:
    try:
        header = read_header("x", len(data), lambda start, length: data[start : start + length])
    except CheckpointError as error:
        str(error).encode()
    else:
        assert sum(tensor.nbytes for tensor in header.tensors) <= len(data)


@FUZZ
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_without_a_traceback(data: bytes) -> None:
    never_a_traceback(data)
    never_a_traceback(struct.pack("<Q", len(data)) + data)
    never_a_traceback(struct.pack("<Q", len(data) + 1) + b"{" + data)


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6))
def test_mutated_headers_are_refused_without_a_traceback(changes: list[tuple[int, int]]) -> None:
    data = bytearray(VALID)
    for place, value in changes:
        data[place] = value
    never_a_traceback(bytes(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.text(), child, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from(["dtype", "shape", "data_offsets", "other"])
FIELDS = JSON | st.sampled_from(["BF16", "U8"]) | st.lists(st.integers(-2, 2**70), max_size=3)


@FUZZ
@given(st.dictionaries(st.text(), JSON | st.dictionaries(FIELD, FIELDS), max_size=4))
def test_any_json_as_a_header_is_refused_without_a_traceback(table: dict[str, object]) -> None:
    never_a_traceback(safetensors_bytes(table, bytes(16)))


@FUZZ
@given(
    st.dictionaries(
        st.text(max_size=10),
        st.tuples(
            st.sampled_from(["BF16", "F32", "BOOL"]), st.lists(st.integers(0, 4), max_size=3)
        ),
        max_size=5,
    )
)
def test_a_header_that_we_build_parses_to_what_it_was_built_from(
    table: dict[str, tuple[str, list[int]]],
) -> None:
    table.pop("__metadata__", None)
    width = {"BF16": 2, "F32": 4, "BOOL": 1}
    described = [
        (name, dtype, tuple(shape), int(np.prod(shape)) * width[dtype])
        for name, (dtype, shape) in table.items()
    ]
    data = build_header(described, {"format": "pt"})
    size = len(data) + sum(nbytes for *_, nbytes in described)
    header = parse_header("x", size, data[8:])
    assert len(data) % 8 == 0
    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in header.tensors] == described
