"""Messages with images, as they come out of a prompts file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.prompts import Prompt, read_prompts
from eagle3_plugin.draft.prompts.messages import template_messages
from eagle3_plugin.errors import Eagle3Error
from tests.draft.test_images import DOT

URI = f"data:image/png;base64,{DOT}"
IMAGE = {"type": "image_url", "image_url": {"url": URI}}
TEXT = {"type": "text", "text": "what?"}


def read(folder: Path, *contents: Any) -> tuple[Prompt, ...]:
    lines = [json.dumps({"messages": [{"role": "user", "content": one}]}) for one in contents]
    (folder / "p.jsonl").write_text("\n".join(lines))
    return read_prompts(folder / "p.jsonl")


def test_an_image_beside_the_file_becomes_a_data_uri(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "red.png").write_bytes(base64.b64decode(DOT))
    named = {"type": "image_url", "image_url": {"url": "pictures/red.png"}}

    (prompt,) = read(tmp_path, [named, TEXT])

    assert prompt.value == ({"role": "user", "content": [IMAGE, TEXT]},)
    assert (prompt.images, prompt.modality) == ((URI,), "image")


def test_the_images_of_a_prompt_are_in_their_order(tmp_path: Path) -> None:
    other = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="
    second = {"type": "image_url", "image_url": {"url": other}}

    (prompt,) = read(tmp_path, [second, TEXT, IMAGE])

    assert [uri.partition(";")[0] for uri in prompt.images] == ["data:image/gif", "data:image/png"]


def test_one_part_of_text_is_text(tmp_path: Path) -> None:
    (prompt,) = read(tmp_path, [TEXT])

    assert prompt.value == ({"role": "user", "content": "what?"},)
    assert (prompt.images, prompt.modality) == ((), "text")


def test_other_kinds_of_prompts_have_no_images() -> None:
    assert Prompt("prompt", "text").images == ()
    assert Prompt("prompt_token_ids", (1, 2)).modality == "text"


def test_chat_templates_get_an_image_without_its_bytes(tmp_path: Path) -> None:
    (prompt,) = read(tmp_path, [IMAGE, TEXT])
    turn = {"role": "assistant", "content": "red"}

    assert template_messages((*prompt.value, turn)) == [
        {"role": "user", "content": [{"type": "image"}, TEXT]},
        turn,
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'message {"role": "user", "content": []}, expected role and content, both text'),
        (["what?"], 'part "what?", expected type text or image_url'),
        ([{"type": "audio"}], 'part {"type": "audio"}, expected type text or image_url'),
        ([{"type": []}], 'part {"type": []}, expected type text or image_url'),
        ([{"type": "video_url", "video_url": {"url": "a.mp4"}}], "a video part, expected text and"),
        ([{"type": "video"}], "a video part, expected text and images only: give frames as images"),
        ([{"type": "text"}], 'part {"type": "text"}, expected type and text'),
        ([{"type": "text", "text": 3}], 'part {"type": "text", "text": 3}, expected type and text'),
        ([TEXT, TEXT], "2 parts of text and no image, expected one text"),
        ([{"type": "image_url"}], 'part {"type": "image_url"}, expected "image_url": {"url": "…"}'),
        (
            [{"type": "image_url", "image_url": URI}],
            'part {"type": "image_url", "image_url": "data',
        ),
        (
            [{"type": "image_url", "image_url": {"url": 3}}],
            'part {"type": "image_url", "image_url": {"url": 3}}, expected "image_url": {"url"',
        ),
        (
            [{"type": "image_url", "image_url": {"url": "a.png"}}],
            "cannot read the image a.png: No such file or directory",
        ),
    ],
)
def test_a_bad_content_is_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(Eagle3Error) as caught:
        read(tmp_path, "fine", content)

    assert caught.value.message.startswith(f"p.jsonl:2: {message}")
