"""Chat messages of a prompts file, in the OpenAI form: text, or parts of text and images.

Images are read here, once, and become data URIs. A content without an image becomes plain text:
chat templates of text models drop a list of parts in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.images import image_data_uri

Message = Mapping[str, Any]


def read_messages(value: Any, folder: Path) -> tuple[Message, ...]:
    """The messages, with their images; raises ValueError for what is not one.

    folder: what the paths of images are relative to.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"messages is {short(value)}, expected a list of messages")
    return tuple(_message(one, folder) for one in value)


def image_urls(messages: Any) -> tuple[str, ...]:
    """The data URIs of the images in messages, in their order."""
    return tuple(part["image_url"]["url"] for part in _parts(messages) if _is_image(part))


def template_messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as chat templates take them: an image is a part {"type": "image"}."""
    return [{**message, "content": _template_content(message["content"])} for message in messages]


def short(value: Any) -> str:
    """A value as JSON, cut to the length of a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _message(value: Any, folder: Path) -> Message:
    keys = sorted(value) if isinstance(value, dict) else None
    if keys != ["content", "role"] or not isinstance(value["role"], str):
        raise ValueError(f"message {short(value)}, expected role and content, both text")
    content = value["content"]
    if isinstance(content, list) and content:
        return {"role": value["role"], "content": _content(content, folder)}
    if not isinstance(content, str):
        raise ValueError(f"message {short(value)}, expected role and content, both text")
    return value  # type: ignore[no-any-return]


def _content(parts: list[Any], folder: Path) -> str | list[dict[str, Any]]:
    read = [_part(part, folder) for part in parts]
    if any(map(_is_image, read)):
        return read
    if len(read) > 1:
        raise ValueError(f"{len(read)} parts of text and no image, expected one text")
    return str(read[0]["text"])


def _part(part: Any, folder: Path) -> dict[str, Any]:
    kind = str(part.get("type")) if isinstance(part, dict) else ""
    if kind in ("video", "video_url"):
        raise ValueError("a video part, expected text and images only: give frames as images")
    if kind not in _PARTS:
        raise ValueError(f"part {short(part)}, expected type text or image_url")
    return _PARTS[kind](part, folder)


def _text_part(part: Mapping[str, Any], _folder: Path) -> dict[str, Any]:
    if set(part) != {"type", "text"} or not isinstance(part["text"], str):
        raise ValueError(f"part {short(part)}, expected type and text")
    return dict(part)


def _image_part(part: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    image = part.get("image_url") if set(part) == {"type", "image_url"} else None
    if not isinstance(image, dict) or set(image) != {"url"} or not isinstance(image["url"], str):
        raise ValueError(f'part {short(part)}, expected "image_url": {{"url": "…"}}')
    return {"type": "image_url", "image_url": {"url": image_data_uri(image["url"], folder)}}


def _parts(messages: Any) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if isinstance(message["content"], list):
            yield from message["content"]


def _is_image(part: Mapping[str, Any]) -> bool:
    return bool(part["type"] == "image_url")


def _template_content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [{"type": "image"} if _is_image(part) else part for part in content]


_PARTS: Mapping[str, Callable[[Mapping[str, Any], Path], dict[str, Any]]] = {
    "text": _text_part,
    "image_url": _image_part,
}
