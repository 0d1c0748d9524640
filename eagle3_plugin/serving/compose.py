"""The whole command of a server: our flags for what was chosen, the user's words, a CPU's needs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm
from eagle3_plugin.errors import UsageError
from eagle3_plugin.hub import MODELSCOPE
from eagle3_plugin.serving.choice import Chosen
from eagle3_plugin.serving.redact import Secrets, shown_command
from eagle3_plugin.serving.words import (
    SPECULATIVE_CONFIG,
    UNREACHABLE_FLAGS,
    merge,
    setting,
    value_of,
)
from eagle3_plugin.settings import Settings

Engine = Literal["vllm", "sglang"]
Device = Literal["gpu", "cpu"]

PORTS: Final[Mapping[Engine, int]] = {"vllm": 8000, "sglang": 30000}
"""The engines' own defaults; ours always names the port, for we have to ask it."""

NUM_PROGRAM_WORDS: Final = 3
"""PYTHON -m MODULE."""

ANY_ADDRESS: Final = ("0.0.0.0", "::", "")
LOOPBACK: Final = "127.0.0.1"
OFFLINE: Final = "HF_HUB_OFFLINE"

PRIVATE: Final = ("--port", "--host", "--api-key", "--config", *UNREACHABLE_FLAGS)
"""Of a server that is started for a measurement, ours: a free port of this machine alone, no key,
plain HTTP, and no file whose flags nobody sees."""


@dataclass(frozen=True)
class Served:
    """What to serve: names as typed, and the port that we would listen on."""

    engine: Engine
    python: str
    target: str
    draft: str
    port: int
    device: Device


@dataclass(frozen=True, repr=False)
class Command:
    """A server's command line. The words may hold keys: print `shown`, never them.

    env: added to our own. host, port: where to ask whether it is healthy. notes: what the user's
    words replaced. keeps_draft: the draft is still ours. adaptive: a file to write before, and
    what goes into it.
    """

    words: tuple[str, ...]
    env: Mapping[str, str]
    host: str
    port: int
    notes: tuple[str, ...]
    keeps_draft: bool
    api_key: str | None
    adaptive: tuple[Path, str] | None

    @property
    def url(self) -> str:
        """Where it answers, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def shown(self) -> str:
        """As it would be typed, with its environment, a flag and its values to a line."""
        lines = [shlex.join([f"{name}={value}"]) for name, value in self.env.items()]
        lines.append(shown_command(self.words[:NUM_PROGRAM_WORDS]))
        group: list[str] = []
        for word in self.words[NUM_PROGRAM_WORDS:]:
            if word.startswith("-") and group:
                lines.append(shown_command(group))
                group = []
            group.append(word)
        return " \\\n    ".join([*lines, shown_command(group)])

    @property
    def secrets(self) -> Secrets:
        """All that must not be printed of it and of our environment."""
        return Secrets.of(self.words, os.environ)


def compose(served: Served, chosen: Chosen, theirs: Sequence[str], adaptive_path: Path) -> Command:
    """The command for what was chosen, with the user's words in force.

    adaptive_path: where SGLang's schedule would be written, if there is one.
    """
    adaptive = None
    if chosen.adaptive is not None:
        adaptive = (adaptive_path, json.dumps(chosen.adaptive, indent=2) + "\n")
    made = _MAKE[served.engine](served, chosen, adaptive_path)
    merged = merge(made[NUM_PROGRAM_WORDS:], theirs)
    words = (*made[:NUM_PROGRAM_WORDS], *merged.words)
    host = value_of(theirs, "--host")
    return Command(
        words,
        _environment(served),
        LOOPBACK if host is None or host in ANY_ADDRESS else host,
        _port(value_of(words, "--port")),
        merged.notes,
        merged.keeps_draft,
        value_of(theirs, "--api-key") or os.environ.get("VLLM_API_KEY"),
        adaptive,
    )


def require_reachable(theirs: Sequence[str]) -> None:
    """Raises UsageError for words with which a healthy server would look as if it never answered.

    Its health, the proof and the test request are asked over plain HTTP.
    """
    found = setting(theirs, UNREACHABLE_FLAGS)
    if found:
        raise UsageError(
            f"{', '.join(found)} after --; expected a server that answers plain HTTP at its port, "
            "for serve asks it there whether it is healthy",
            hint="Leave it out, and put a reverse proxy before the server; or start the command "
            "that --dry-run prints yourself.",
        )


def require_private(theirs: Sequence[str], who: str, hint: str) -> None:
    """Raises UsageError for words that servers cannot take which are started for a measurement."""
    found = setting(theirs, PRIVATE)
    if found:
        raise UsageError(
            f"{', '.join(found)} after --; expected none of them: {who} starts several servers, "
            "for itself alone",
            hint=hint,
        )


def split_name(name: str) -> tuple[str, str | None]:
    """A folder or hub id as engines take it, and the revision that was written after @."""
    folder = Path(name).expanduser()
    if folder.exists():
        return str(folder), None
    if name.startswith(MODELSCOPE):
        raise UsageError(
            f"{name!r} is on ModelScope; the engines and their plugins would look for it on "
            "Hugging Face; expected a folder or a Hugging Face id",
            hint=f"modelscope download {name.removeprefix(MODELSCOPE)} --local_dir FOLDER, "
            "then name the folder",
        )
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _vllm_words(served: Served, chosen: Chosen, adaptive_path: Path) -> list[str]:
    target, revision = split_name(served.target)
    flags = [*_flag("--revision", revision), *chosen.flags]
    words = vllm.server_command(served.python, target, served.port, flags=flags)
    if not isinstance(chosen.choice, Settings):
        return words
    draft, draft_revision = split_name(served.draft)
    config = vllm.speculative_config(draft, chosen.choice.num_steps, chosen.schedule)
    if draft_revision is not None:
        values: dict[str, Any] = json.loads(config)
        config = json.dumps({**values, "revision": draft_revision})
    return [*words, SPECULATIVE_CONFIG, config]


def _sglang_words(served: Served, chosen: Chosen, adaptive_path: Path) -> list[str]:
    target, revision = split_name(served.target)
    flags = [*_flag("--revision", revision), *chosen.flags]
    flags += sglang.CPU_FLAGS if served.device == "cpu" else ()
    if not isinstance(chosen.choice, Settings):
        return sglang.server_command(served.python, target, served.port, flags=flags)
    draft, draft_revision = split_name(served.draft)
    words = sglang.server_command(
        served.python, target, served.port, draft=draft, settings=chosen.choice, flags=flags
    )
    words += _flag("--speculative-draft-model-revision", draft_revision)
    if chosen.adaptive is not None:
        words += ["--speculative-adaptive", "--speculative-adaptive-config", str(adaptive_path)]
    return words


_MAKE = {"vllm": _vllm_words, "sglang": _sglang_words}


def _flag(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


def _environment(served: Served) -> dict[str, str]:
    """What a CPU needs; a variable that the user has set stays as it is, and the hub is allowed."""
    if served.device == "gpu":
        return {}
    if served.engine == "vllm":
        wanted = dict(vllm.CPU_ENVIRONMENT)
    else:
        wanted = sglang.cpu_environment(served.python)
    wanted.pop(OFFLINE)
    return {k: v for k, v in wanted.items() if k == "PYTHONPATH" or k not in os.environ}


def _port(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise UsageError(
            f"the port is {text!r}; expected a number from 1 to 65535",
            hint="Leave it out for the engine's own.",
        )
    return int(text)
