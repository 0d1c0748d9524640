from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.prompts import Prompt, read_prompts
from eagle3_plugin.errors import Eagle3Error, NotFoundError


def write(folder: Path, *lines: str | dict[str, Any]) -> Path:
    path = folder / "prompts.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_each_kind_of_prompt_is_read_with_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"prompt": "def f(x):", "set": "code"},
        "",
        {"messages": [{"role": "user", "content": "你好"}]},
        {"prompt_token_ids": [0, 151644], "set": "ids"},
    )

    assert read_prompts(path) == (
        Prompt("prompt", "def f(x):", "code", "prompts.jsonl:1"),
        Prompt("messages", ({"role": "user", "content": "你好"},), "unnamed", "prompts.jsonl:3"),
        Prompt("prompt_token_ids", (0, 151644), "ids", "prompts.jsonl:4"),
    )


def test_the_bundled_prompts_are_24_in_four_sets() -> None:
    prompts = read_prompts()

    assert len(prompts) == 24
    assert list(dict.fromkeys(p.set for p in prompts)) == ["code", "maths", "chat", "chinese"]
    assert {p.kind for p in prompts} == {"prompt", "messages"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes"),
        ("[" * 100_000, "not JSON (maximum recursion depth exceeded"),
        ("7", "7, expected an object"),
        ('["prompt"]', '["prompt"], expected an object'),
        ({"set": "code"}, "has none of ['prompt', 'messages', 'prompt_token_ids'], expected"),
        ({"prompt": "a", "messages": []}, "has ['prompt', 'messages'] of"),
        ({"prompt": "a", "max_tokens": 3}, "unknown keys ['max_tokens']"),
        ({"prompt": ""}, 'prompt is "", expected text'),
        ({"prompt": 3}, "prompt is 3, expected text"),
        ({"prompt": ["a"]}, 'prompt is ["a"], expected text'),
        ('{"prompt": "\\ud800"}', "half of a surrogate pair, expected whole characters"),
        ({"prompt": "a", "set": ""}, "set is '', expected a name"),
        ({"prompt": "a", "set": None}, "set is None, expected a name"),
        ({"messages": []}, "messages is [], expected a list of messages"),
        ({"messages": "hello"}, 'messages is "hello", expected a list of messages'),
        ({"messages": ["hello"]}, 'message "hello", expected role and content, both text'),
        ({"messages": [{"role": "user"}]}, 'message {"role": "user"}, expected role and content'),
        (
            {"messages": [{"role": "user", "content": 5}]},
            'message {"role": "user", "content": 5}, expected role and content, both text',
        ),
        ({"prompt_token_ids": []}, "prompt_token_ids is [], expected a list of ids"),
        ({"prompt_token_ids": "12"}, 'prompt_token_ids is "12", expected a list of ids'),
        ({"prompt_token_ids": [1, -2]}, "prompt_token_ids has -2, expected ids of 0 or more"),
        ({"prompt_token_ids": [True]}, "prompt_token_ids has true, expected ids of 0 or more"),
        ({"prompt_token_ids": [1.0]}, "prompt_token_ids has 1.0, expected ids of 0 or more"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str | dict[str, Any], message: str) -> None:
    path = write(tmp_path, {"prompt": "fine"}, line)

    with pytest.raises(Eagle3Error) as caught:
        read_prompts(path)

    assert caught.value.message.startswith(f"prompts.jsonl:2: {message}")
    assert caught.value.hint is not None
    assert caught.value.exit_code == 1


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "{}", {"prompt": "fine"}, "x", {"prompt": ""})

    with pytest.raises(Eagle3Error) as caught:
        read_prompts(path)

    places = [line.split(": ")[0] for line in caught.value.message.split("\n")]
    assert places == ["prompts.jsonl:1", "prompts.jsonl:3", "prompts.jsonl:4"]


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(Eagle3Error) as caught:
        read_prompts(write(tmp_path, {"prompt": ["a" * 500]}))

    assert len(caught.value.message) < 120


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, '{"prompt": "one\u2028two"}')

    assert [p.value for p in read_prompts(path)] == ["one\u2028two"]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeff{"prompt": "a"}')

    assert [p.value for p in read_prompts(path)] == ["a"]


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Eagle3Error, match="has no prompts, expected at least one line"):
        read_prompts(write(tmp_path, "", "  "))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"cannot read the prompts .*none.jsonl: No such file"):
        read_prompts(tmp_path / "none.jsonl")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}')

    with pytest.raises(Eagle3Error, match=r"prompts.jsonl is not UTF-8 text \(byte 12\)"):
        read_prompts(path)
