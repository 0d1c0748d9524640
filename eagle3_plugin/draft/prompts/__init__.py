"""Prompts to score with: one JSON object a line, checked before anything runs.

Each line has exactly one of
    {"prompt": "text, tokenised as it is"}
    {"messages": [{"role": "user", "content": "..."}]}    the target's chat template
    {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "a path, an address or a data URI"}},
        {"type": "text", "text": "..."}]}]}                 images, for a target that sees them
    {"prompt_token_ids": [151644, 872]}
and may have "set": a name under which the results are also counted apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eagle3_plugin.draft.prompts.messages import Message, image_urls, read_messages, short
from eagle3_plugin.errors import Eagle3Error, NotFoundError

BUNDLED = Path(__file__).with_name("default.jsonl")
"""A small set of our own writing: code, maths, chat, Chinese."""

UNNAMED_SET = "unnamed"

Kind = Literal["prompt", "messages", "prompt_token_ids"]
Modality = Literal["text", "image"]

_HINT = (
    'Each line is a JSON object with one of "prompt" (text), "messages" (a list of {"role", '
    '"content"}) or "prompt_token_ids" (a list of ids), and perhaps "set" (a name).'
)


@dataclass(frozen=True)
class Prompt:
    """One prompt: `value` is text, chat messages or token ids, as `kind` says.

    Images in messages are data URIs. where: file:line, for messages about it.
    """

    kind: Kind
    value: str | tuple[Message, ...] | tuple[int, ...]
    set: str = UNNAMED_SET
    where: str = "prompt"

    @property
    def images(self) -> tuple[str, ...]:
        """The data URIs of its images, in their order."""
        return image_urls(self.value) if self.kind == "messages" else ()

    @property
    def modality(self) -> Modality:
        return "image" if self.images else "text"


def read_prompts(path: Path = BUNDLED) -> tuple[Prompt, ...]:
    """The prompts of a jsonl file; blank lines are skipped. Names every bad line in one error."""
    lines = [(n, line) for n, line in enumerate(_read(path).split("\n"), 1) if line.strip()]
    prompts, problems = [], []
    for number, line in lines:
        where = f"{path.name}:{number}"
        try:
            prompts.append(_parse(line, where, path.parent))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise Eagle3Error("\n".join(problems), hint=_HINT)
    if not prompts:
        raise Eagle3Error(f"{path.name} has no prompts, expected at least one line", hint=_HINT)
    return tuple(prompts)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Eagle3Error(
            f"{path.name} is not UTF-8 text (byte {error.start})", hint=_HINT
        ) from error
    except OSError as error:
        raise NotFoundError(
            f"cannot read the prompts {path}: {error.strerror}", hint="Give a jsonl file."
        ) from error


def _parse(line: str, where: str, folder: Path) -> Prompt:
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{short(entry)}, expected an object")
    if re.search("[\ud800-\udfff]", json.dumps(entry, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair, expected whole characters")
    unknown = sorted(set(entry) - set(_READERS) - {"set"})
    if unknown:
        raise ValueError(f"unknown keys {unknown}")
    kinds = [kind for kind in _READERS if kind in entry]
    if len(kinds) != 1:
        raise ValueError(f"has {kinds or 'none'} of {list(_READERS)}, expected exactly one")
    name = entry.get("set", UNNAMED_SET)
    if not isinstance(name, str) or not name:
        raise ValueError(f"set is {name!r}, expected a name")
    return Prompt(kinds[0], _READERS[kinds[0]](entry[kinds[0]], folder), name, where)


def _text(value: Any, _folder: Path) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"prompt is {short(value)}, expected text")
    return value


def _token_ids(value: Any, _folder: Path) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"prompt_token_ids is {short(value)}, expected a list of ids")
    bad = [v for v in value if type(v) is not int or v < 0]
    if bad:
        raise ValueError(f"prompt_token_ids has {short(bad[0])}, expected ids of 0 or more")
    return tuple(value)


_READERS: Mapping[Kind, Callable[[Any, Path], Any]] = {
    "prompt": _text,
    "messages": read_messages,
    "prompt_token_ids": _token_ids,
}
