"""Every error that this package raises on purpose, in one tree.

A message says what was found and what was expected; `hint` says what to do.
The command line prints both on stderr and leaves with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Eagle3Error(Exception):
    """The root: something is wrong with what was given, and the message says what."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint: an engine's log shows nothing else of an exception."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(Eagle3Error):
    """The command line itself is wrong (exit code 2)."""

    exit_code = 2


class SourceError(Eagle3Error):
    """A name could not be turned into files."""


class NotFoundError(SourceError):
    """No such folder, repository, revision or file."""


class GatedError(SourceError):
    """The repository asks for a licence or a token that we do not have."""


class OfflineError(SourceError):
    """The files are not in the cache and the network may not or cannot be used."""


class IncompleteError(SourceError):
    """Some of the files are there and others are not (a download that was cut off)."""


class CheckpointError(Eagle3Error):
    """A file of the checkpoint is broken, lies, or must not be read."""


class OutputError(Eagle3Error):
    """The output could not be written; nothing was changed."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a draft; `id` is stable and is a rule of `eagle3 check`."""

    id: str
    message: str
    hint: str | None = None


class DraftError(Eagle3Error):
    """The files are sound, but they do not make a draft. Lists all problems, not the first."""

    def __init__(self, problems: Sequence[Problem], *, where: str = "draft") -> None:
        self.problems = tuple(problems)
        lines = [f"{where}: {len(self.problems)} problem(s)"]
        lines += [f"  [{p.id}] {p.message}" for p in self.problems]
        hints = list(dict.fromkeys(p.hint for p in self.problems if p.hint))
        super().__init__("\n".join(lines), hint="\n".join(hints) or None)


class AmbiguousError(DraftError):
    """The files can be read in two ways; the hint names the flag that settles it."""


class CannotExpressError(DraftError):
    """The asked dialect has no way to say this, or its stock engine would ignore it."""


class TargetError(Eagle3Error):
    """The target model's config cannot be used."""


class EngineError(Eagle3Error):
    """An engine is missing, did not start, or answered wrongly."""


class RefusedError(EngineError):
    """An engine that takes other requests did not take this one."""


class MissingExtraError(Eagle3Error):
    """A verb needs an optional dependency that is not installed."""
