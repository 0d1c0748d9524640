"""config.json and eagle3.json: a plain JSON object or a clear refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.errors import (
    CheckpointError,
)
from tests.checkpoint_files import (
    draft_folder,
    opened,
)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return draft_folder(tmp_path / "draft")


FUZZ = settings(deadline=None, max_examples=60)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.text(), child, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_config_is_an_object_or_refused_without_a_traceback(data: bytes) -> None:
    try:
        value = parse_json_object(data, "config.json", max_bytes=1000)
    except CheckpointError as error:
        str(error).encode()
    else:
        assert value == json.loads(data)


CONFIGS: list[tuple[bytes, str]] = [
    (b"", "is not JSON: Expecting value at line 1 column 1"),
    (b'{"a": 1', "is not JSON: Expecting ',' delimiter"),
    (b"[1]", r"holds a list, expected a JSON object"),
    (b"null", "holds null, expected"),
    (b"3", "holds a number, expected"),
    (b'"x"', "holds a string, expected"),
    (b"true", "holds true or false, expected"),
    (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
    ("{}".encode("utf-16"), "is not UTF-8: byte 0xff at offset 0"),
    (b'{"a": NaN}', "NaN is not a JSON number"),
    (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
    (b'{"a": 1e999}', "1e999 does not fit a float"),
    (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON that can be read: Exceeds the limit"),
    (b'{"a": 1, "a": 2}', "key 'a' is there twice"),
    (b'{"a": "\\udc00"}', "half of a surrogate pair"),
    (b'{"a":' * 70 + b"1" + b"}" * 70, "nests deeper than 64 levels"),
    (b'{"a":' + b"[" * 200_000, "nests deeper than 64 levels"),
    (b" " * (4 * 1024 * 1024) + b"{}", "has 4194306 bytes, expected at most 4194304"),
]


@pytest.mark.parametrize(("data", "message"), CONFIGS)
@pytest.mark.parametrize("file", ["config.json", "eagle3.json"])
def test_a_config_that_is_not_plain_json_is_refused(
    draft: Path, file: str, data: bytes, message: str
) -> None:
    (draft / file).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"^draft: {file} .*{message}"):
        opened(draft)


def test_json_that_grew_after_it_was_listed_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"config\.json has 11 bytes, expected at most 10"):
        parse_json_object(b'{"a": 1234}', "config.json", max_bytes=10)
