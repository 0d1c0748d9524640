"""Strict reading of JSON objects from files that nobody vouches for."""

from __future__ import annotations

import json
import math
from typing import Any

from eagle3_plugin.errors import CheckpointError

MAX_NESTING = 64
"""Levels of a real config stay under ten; deeper text is an attack on the reader's stack."""


def parse_json_object(data: bytes, where: str, *, max_bytes: int) -> dict[str, Any]:
    """The JSON object that `data` holds, or a CheckpointError that says what it holds instead.

    Stricter than `json.loads`: UTF-8 only, no byte order mark, no NaN or Infinity (also not as
    1e999), no key twice, no lone surrogates, at most MAX_NESTING levels.
    """
    if len(data) > max_bytes:
        raise CheckpointError(
            f"{where} has {len(data)} bytes, expected at most {max_bytes}",
            hint="This is not the kind of file that its name says.",
        )
    value = _parse(_decode(data, where), where)
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} holds {_kind(value)}, expected a JSON object {{…}}")
    if _is_deeper_than(value, MAX_NESTING):
        raise CheckpointError(f"{where} nests deeper than {MAX_NESTING} levels")
    return value


def _decode(data: bytes, where: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise CheckpointError(
            f"{where} starts with a byte order mark, expected plain UTF-8",
            hint="Save the file again as UTF-8 without BOM.",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{where} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}"
        ) from error


def _parse(text: str, where: str) -> Any:
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise CheckpointError(f"{where} nests deeper than {MAX_NESTING} levels") from error
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{where} has half of a surrogate pair in a string") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{where} is not JSON: {error.msg} at line {error.lineno} column {error.colno}",
            hint="The file is damaged or was cut off: download it again.",
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{where} is not JSON that can be read: {error}") from error
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} does not fit a float")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} is there twice")
    return table


def _is_deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [child for node in layer for child in _children(node)]
        if not layer:
            return False
    return True


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
