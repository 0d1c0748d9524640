"""The words of an engine's command line: ours, and the user's after `--`, which win.

The user's words are handed on untouched, after ours. A flag of ours that they set too is left out,
and that is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eagle3_plugin.serving.redact import shown_command

SPECULATIVE_CONFIG: Final = "--speculative-config"

ALIASES: Final[Mapping[str, str]] = {
    "--model": "--model-path",
    "--speculative-algo": "--speculative-algorithm",
    "--speculative-draft-model": "--speculative-draft-model-path",
    "--tensor-parallel-size": "--tp-size",
    "--tp": "--tp-size",
    "-tp": "--tp-size",
    "-sc": SPECULATIVE_CONFIG,
}
"""Other spellings of the flags that we set (SGLang 0.5.23, vLLM 0.32.0); one of each is enough."""

SPEC_KEYS: Final[Mapping[str, str]] = {
    "--spec-method": "method",
    "--spec-model": "model",
    "--spec-tokens": "num_speculative_tokens",
}
"""vLLM's short flags; it refuses one whose key is in --speculative-config too
(0.32.0, engine/arg_utils.py:2068-2080)."""

DRAFT_FLAGS: Final = (
    "--speculative-algorithm",
    "--speculative-draft-model-path",
    SPECULATIVE_CONFIG,
    "--spec-method",
    "--spec-model",
)
"""Who sets one of these has chosen another draft than ours."""

SPECULATION_FLAGS: Final = (
    *DRAFT_FLAGS,
    "--speculative-draft-model-revision",
    "--speculative-num-steps",
    "--speculative-eagle-topk",
    "--speculative-num-draft-tokens",
    "--speculative-adaptive",
    "--speculative-adaptive-config",
    "--spec-tokens",
)
"""Who sets one of these, or a key of vLLM's config, has chosen the draft or its settings."""

UNREACHABLE_FLAGS: Final = ("--ssl-keyfile", "--ssl-certfile", "--uds")
"""With which a server does not answer plain HTTP at its port (vLLM 0.32.0, SGLang 0.5.23)."""

FLAG: Final = re.compile(r"--?[A-Za-z]")


@dataclass(frozen=True)
class Flag:
    """One flag with its values; none for a bare flag."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return (self.name, *self.values)


@dataclass(frozen=True)
class Merged:
    """Our words without those that the user's replace, then the user's, as they were typed.

    notes: what was left out for which of the user's. keeps_draft: the user chose no other draft.
    """

    words: tuple[str, ...]
    notes: tuple[str, ...]
    keeps_draft: bool


def flags_of(words: Sequence[str]) -> tuple[Flag, ...]:
    """The words as flags; a value that begins with a dash and a letter would be read as a flag."""
    found: list[Flag] = []
    for word in words:
        if FLAG.match(word):
            name, equals, value = word.partition("=")
            found.append(Flag(name, (value,) if equals else ()))
        elif found:
            last = found.pop()
            found.append(Flag(last.name, (*last.values, word)))
    return tuple(found)


def merge(ours: Sequence[str], theirs: Sequence[str]) -> Merged:
    """The words of both, with the user's in force."""
    kept: list[str] = []
    notes: list[str] = []
    used = flags_of(theirs)
    for flag in flags_of(ours):
        rival = _rival(flag, used)
        if rival is not None:
            notes.append(_note(flag, rival))
        elif flag.name == SPECULATIVE_CONFIG and _keys(used):
            split, said = _split_config(flag, used)
            kept += split
            notes += said
        else:
            kept += flag.words
    chosen = {_canonical(flag.name) for flag in used} | {f"--spec-{k}" for k in _keys(used)}
    return Merged((*kept, *theirs), tuple(notes), not chosen & set(DRAFT_FLAGS))


def value_of(words: Sequence[str], *names: str) -> str | None:
    """The first value of the last flag with one of these names, however it is spelled."""
    wanted = {_canonical(name) for name in names}
    found = [f.values[0] for f in flags_of(words) if _canonical(f.name) in wanted and f.values]
    return found[-1] if found else None


def setting(words: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The flags of these words, as typed, that set one of the named flags or a key of it."""
    found = (flag.name for flag in flags_of(words) if any(_sets(flag, name) for name in names))
    return tuple(dict.fromkeys(found))


def without(words: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The words less the flags that set one of the named flags or a key of it."""
    dropped = set(setting(words, names))
    kept = (flag for flag in flags_of(words) if flag.name not in dropped)
    return tuple(word for flag in kept for word in flag.words) if dropped else tuple(words)


def _canonical(name: str) -> str:
    dashed = name.replace("_", "-")
    return ALIASES.get(dashed, dashed)


def _rival(ours: Flag, used: Iterable[Flag]) -> Flag | None:
    """The user's flag that sets the same as a whole."""
    name = _canonical(ours.name)
    return next((flag for flag in used if _is_named(_canonical(flag.name), name)), None)


def _sets(flag: Flag, name: str) -> bool:
    """Whether it is that flag, or the one of a key of its value: --name.key."""
    return _is_named(_canonical(flag.name.partition(".")[0]), name)


def _is_named(typed: str, name: str) -> bool:
    """argparse takes any unambiguous beginning of a name."""
    return typed == name or (len(typed) >= 5 and name.startswith(typed))


def _note(ours: Flag, rival: Flag) -> str:
    found, replaced = shown_command(rival.words), shown_command(ours.words)
    return f"{found} after -- replaces our {replaced}"


def _keys(used: Iterable[Flag]) -> dict[str, Flag]:
    """The keys of vLLM's speculative config that the user sets one at a time."""
    found: dict[str, Flag] = {}
    for flag in used:
        name, dot, key = flag.name.replace("_", "-").partition(".")
        if dot and _canonical(name) == SPECULATIVE_CONFIG:
            found[key.replace("-", "_")] = flag
        elif name in SPEC_KEYS:
            found[SPEC_KEYS[name]] = flag
    return found


def _split_config(ours: Flag, used: Sequence[Flag]) -> tuple[list[str], list[str]]:
    """Our config a key at a time, without the user's keys; vLLM merges those it is given so.

    It merges by the flag's name as typed, so ours are spelled as theirs (argparse_utils.py:405).
    """
    values: Mapping[str, Any] = json.loads(ours.values[0])
    keys = _keys(used)
    dotted = (f.name.partition(".")[0] for f in keys.values() if "." in f.name)
    name = next(dotted, SPECULATIVE_CONFIG)
    split, notes = [], []
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if key in keys:
            notes.append(_note(Flag(f"{SPECULATIVE_CONFIG}.{key}", (text,)), keys[key]))
        else:
            split += [f"{name}.{key}", text]
    return split, notes
