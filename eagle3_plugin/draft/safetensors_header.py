"""The safetensors header: read with distrust, written to the letter.

Format (README of safetensors 0.8): 8 bytes, little-endian unsigned, the length N of the header;
N bytes of UTF-8 JSON that starts with `{` and may be padded with spaces; then the data, which the
tensors cover without gaps or overlaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit (safetensors: MAX_HEADER_SIZE)."""

DTYPE_BITS: Mapping[str, int] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Every dtype of the format (safetensors 0.8) and the bits of one element."""

METADATA = "__metadata__"
FIRST_READ_BYTES = 64 * 1024
"""Enough for the whole header of a draft: one range request."""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor is. `dtype` in safetensors' names; `start` = absolute offset in `file`.

    `start` is 0 in a .bin file, whose tensors only torch can find.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]


def read_header(file: str, file_bytes: int, read: Callable[[int, int], bytes]) -> Header:
    """The checked header of a file of `file_bytes` bytes; `read(start, length)` gets at it.

    Reads nothing but the header, mostly in one go.
    """
    if file_bytes < 8:
        raise CheckpointError(
            f"{file} has {file_bytes} bytes, too few for a safetensors header",
            hint="The file is empty or was cut off: download it again.",
        )
    first = read(0, min(file_bytes, FIRST_READ_BYTES))
    length = _header_bytes(file, file_bytes, first)
    text = first[8 : 8 + length]
    if len(text) < length:
        text += read(8 + len(text), length - len(text))
    if len(text) != length:
        raise CheckpointError(f"{file}: the header has {length} bytes, only {len(text)} came")
    return parse_header(file, file_bytes, text)


def parse_header(file: str, file_bytes: int, text: bytes) -> Header:
    """The header whose JSON is `text`, checked against the size of its file."""
    if not text.startswith(b"{"):
        raise CheckpointError(f"{file}: the header starts with {text[:1]!r}, expected '{{'")
    table = parse_json_object(text, f"{file}: the header", max_bytes=MAX_HEADER_BYTES)
    metadata = _metadata(file, table.pop(METADATA, {}))
    data_start = 8 + len(text)
    tensors = [_tensor(file, name, entry, data_start) for name, entry in table.items()]
    _check_cover(file, tensors, data_start, file_bytes)
    return Header(tuple(tensors), metadata)


def build_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]], metadata: Mapping[str, str]
) -> bytes:
    """The first bytes of a safetensors file, up to the data: of (name, dtype, shape, nbytes).

    Padded with spaces so that the data starts at a multiple of 8, as safetensors itself does.
    """
    table: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, dtype, shape, nbytes in tensors:
        offsets = [end, end + nbytes]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        end += nbytes
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes of such a tensor; None if the dtype is unknown or the bits do not fill a byte."""
    bits = DTYPE_BITS.get(dtype, 1) * math.prod(shape)
    return None if dtype not in DTYPE_BITS or bits % 8 else bits // 8


def _header_bytes(file: str, file_bytes: int, first: bytes) -> int:
    if first.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{file} is a git-lfs pointer of {file_bytes} bytes, expected the weights themselves",
            hint="Run `git lfs pull` in the folder, or name the repository instead of the clone.",
        )
    if len(first) < 8:
        raise CheckpointError(f"{file}: {len(first)} bytes could be read, expected at least 8")
    length = int(struct.unpack("<Q", first[:8])[0])
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{file} says that its header has {length} bytes, the format allows {MAX_HEADER_BYTES}",
            hint="This is not a safetensors file, or it is damaged.",
        )
    if length > file_bytes - 8:
        raise CheckpointError(
            f"{file} says that its header has {length} bytes, but only {file_bytes - 8} follow",
            hint="The file was cut off: download it again.",
        )
    return length


def _metadata(file: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    raise CheckpointError(f"{file}: {METADATA} in the header must map strings to strings")


def _tensor(file: str, name: str, entry: Any, data_start: int) -> TensorInfo:
    at = f"{file}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise CheckpointError(
            f"{at} is described by {_short(found)}, expected dtype, shape and data_offsets"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(f"{at} has dtype {_short(dtype)}, expected one of {list(DTYPE_BITS)}")
    if not _are_counts(shape):
        raise CheckpointError(f"{at} has shape {_short(shape)}, expected a list of whole numbers")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(
            f"{at} has data_offsets {_short(offsets)}, expected [begin, end], whole numbers"
        )
    expected = tensor_bytes(dtype, tuple(shape))
    if expected is None or offsets[1] - offsets[0] != expected:
        raise CheckpointError(
            f"{at} has data_offsets {_short(offsets)}: {_short(offsets[1] - offsets[0])} bytes; "
            f"expected {_short(expected)} for {dtype} {_short(shape)}"
        )
    return TensorInfo(name, dtype, tuple(shape), file, data_start + offsets[0], expected)


def _check_cover(file: str, tensors: list[TensorInfo], data_start: int, file_bytes: int) -> None:
    end, before = data_start, "the header"
    for tensor in sorted(tensors, key=lambda t: (t.start, t.nbytes)):
        if tensor.start != end:
            what = "overlaps" if tensor.start < end else "leaves a gap after"
            raise CheckpointError(
                f"{file}: tensor {tensor.name!r} {what} {before}: it starts at byte "
                f"{tensor.start - data_start} of the data, expected {end - data_start}"
            )
        end, before = end + tensor.nbytes, f"tensor {tensor.name!r}"
    if end > file_bytes:
        raise CheckpointError(
            f"{file} has {file_bytes} bytes, but its header describes {end}; "
            f"{before} ends beyond the file",
            hint="The file was cut off: download it again.",
        )
    if end < file_bytes:
        raise CheckpointError(
            f"{file} has {file_bytes} bytes, but its header describes only {end}",
            hint="The file is damaged: download it again.",
        )


def _are_counts(value: Any) -> bool:
    """A short list of whole numbers that fit 63 bits (numpy and torch stop at 64 dimensions)."""
    if not isinstance(value, list) or len(value) > 64:
        return False
    return all(type(item) is int and 0 <= item < 2**63 for item in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
