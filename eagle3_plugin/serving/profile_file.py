"""A profile while it is measured: on the disk after each measurement, so that none is lost.

Until it is finished it stands beside its place, as `NAME.partial`; a file that is in its place is
whole, and stays there until a new one is.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eagle3_plugin.draft.atomic import output_errors, write_json_atomic
from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.planning.profile import Counted, Profile, Subject, Timed, read_profile

PARTIAL: Final = ".partial"
LOCK: Final = ".lock"


@dataclass
class ProfileFile:
    """The profile and its place; each change is on the disk when its call returns."""

    path: Path
    profile: Profile

    @property
    def partial(self) -> Path:
        return partial_path(self.path)

    def add(self, *found: Timed | Counted) -> None:
        """Keeps measurements."""
        timed = tuple(f for f in found if isinstance(f, Timed))
        counted = tuple(f for f in found if isinstance(f, Counted))
        self._set(timed=(*self.profile.timed, *timed), counted=(*self.profile.counted, *counted))

    def name_command(self, settings: str, shown: str) -> None:
        """Keeps the command that these settings were started with; it must hold no keys."""
        self._set(commands={**self.profile.commands, settings: shown})

    def finish(self) -> None:
        """Moves the profile to its place."""
        self._set(finished_at=now())
        with output_errors(self.path, 0):
            self.partial.replace(self.path)

    def _set(self, **changes: object) -> None:
        self.profile = self.profile.model_copy(update=changes)
        write_json_atomic(self.partial, self.profile.to_json())


@contextlib.contextmanager
def opened(path: Path, subject: Subject) -> Iterator[ProfileFile]:
    """The profile that was begun, or a new one; held against a second `eagle3 tune`.

    Raises UsageError where the one that was begun is of another subject.
    """
    with output_errors(path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(
                f"another eagle3 tune measures for {path}; expected one at a time",
                hint="Wait for it, or name another file with --profile.",
            ) from None
        yield ProfileFile(path, _begun(partial_path(path), subject))


def partial_path(path: Path) -> Path:
    """Where a profile is until it is finished."""
    return path.with_name(path.name + PARTIAL)


def now() -> str:
    """The time as profiles write it: UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _begun(partial: Path, subject: Subject) -> Profile:
    if not partial.exists():
        return Profile(subject=subject, begun_at=now(), finished_at=None)
    begun = read_profile(partial)
    differing = {
        name: (value, getattr(subject, name))
        for name, value in vars(begun.subject).items()
        if value != getattr(subject, name)
    }
    if differing:
        lines = [f"{partial} was begun for something else; expected the same"]
        lines += [f"  {name}: {was!r} there, {is_!r} now" for name, (was, is_) in differing.items()]
        raise UsageError(
            "\n".join(lines),
            hint=f"Run eagle3 tune as it was begun to go on, or remove the file: rm {partial}",
        )
    return begun
