"""Tokens and keys, kept out of everything that is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MASK: Final = "***"
LEAST_LENGTH: Final = 6
"""A shorter secret is masked where it stands as a flag's value, and not all over a log."""

SECRET_FLAG: Final = re.compile(r"--?(?:\S*[-_])?(?:api[-_]?key|token|password|secret)", re.I)
SECRET_VARIABLE: Final = re.compile(r"(?:.*_)?(?:TOKEN|KEY|PASSWORD|SECRET)", re.I)
TOKEN: Final = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
"""Hugging Face's tokens, wherever they come from."""


@dataclass(frozen=True, repr=False)
class Secrets:
    """The values that must not be seen."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str], environment: Mapping[str, str]) -> Secrets:
        """Those in a command line and in an environment."""
        variables = [v for name, v in environment.items() if SECRET_VARIABLE.fullmatch(name)]
        found = {v for v in (*_spoken(words), *variables) if len(v) >= LEAST_LENGTH}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def hide(self, text: str) -> str:
        """The text with each of them masked."""
        for value in self.values:
            text = text.replace(value, MASK)
        return TOKEN.sub(MASK, text)


def shown_command(words: Sequence[str]) -> str:
    """A command line as it would be typed, with its secrets masked."""
    return " ".join(_shown(word, secret) for word, secret in _marked(words))


def _shown(word: str, secret: str) -> str:
    if not secret:
        return shlex.quote(TOKEN.sub(MASK, word))
    return word.removesuffix(secret) + MASK


def _spoken(words: Sequence[str]) -> list[str]:
    return [secret for _, secret in _marked(words) if secret]


def _marked(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each word with the secret that it ends with, "" for none (vLLM takes several keys)."""
    in_secret = False
    for word in words:
        name, _, value = word.partition("=")
        is_flag = word.startswith("-")
        if is_flag:
            in_secret = bool(SECRET_FLAG.fullmatch(name))
        yield word, (value if is_flag else word) if in_secret else ""
