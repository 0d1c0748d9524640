"""From a name to files: a folder, a Hugging Face repository, a ModelScope repository.

Only the files that are asked for are fetched, and of big ones only the bytes that are asked for.
Importing this loads no hub library; they are loaded when a repository is named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eagle3_plugin.errors import (
    IncompleteError,
    NotFoundError,
    OfflineError,
    SourceError,
    UsageError,
)

MODELSCOPE = "modelscope:"


class Source(Protocol):
    """Where the files of a checkpoint are.

    `name` is what the user typed, without @revision. `revision` is the resolved commit (on
    ModelScope, which names none, the branch or tag), None for a folder.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str | None: ...

    def sizes(self) -> Mapping[str, int]:
        """File name -> bytes, of the files at the top level."""
        ...

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start`, at most `length`; of a remote file only those."""
        ...

    def local(self, file: str) -> Path | None:
        """The file on this machine, None if it would have to be fetched."""
        ...

    def path(self, file: str) -> Path:
        """The file on this machine, downloaded into the hub's own cache if need be."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A local folder."""

    folder: Path
    name: str
    revision: str | None = None

    def sizes(self) -> Mapping[str, int]:
        sizes, broken = {}, []
        with _readable(self.name):
            for path in sorted(self.folder.iterdir()):
                if path.is_file():
                    sizes[path.name] = path.stat().st_size
                elif path.is_symlink() and not path.exists():
                    broken.append(path.name)
        if broken:
            raise IncompleteError(
                f"{self.name}: {', '.join(broken)} point to files that are not there",
                hint="The download was cut off or the cache was cleaned: download it again.",
            )
        return sizes

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        with _readable(f"{self.name}: {file}"), self.path(file).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if length is None else length)

    def local(self, file: str) -> Path | None:
        path = self.folder / plain_name(file)
        with _readable(f"{self.name}: {file}"):
            return path if path.is_file() else None

    def path(self, file: str) -> Path:
        path = self.local(file)
        if path is None:
            raise self._missing(file)
        return path

    def _missing(self, file: str) -> SourceError:
        found = ", ".join(sorted(self.sizes())[:8]) or "no files at all"
        return NotFoundError(f"{self.name} has no file {file!r}; it has {found}")


@dataclass(frozen=True)
class CachedSource(FolderSource):
    """What an earlier download left in the hub's cache, when the hub may not or cannot be asked."""

    def _missing(self, file: str) -> SourceError:
        return OfflineError(
            f"{file!r} of {self.name} is not in the cache, and the hub may not or cannot be asked",
            hint="Run it once with the network (unset HF_HUB_OFFLINE).",
        )


def resolve(name: str, *, revision: str | None = None) -> Source:
    """Where the files of `name` are: a folder, `org/name[@revision]`, `modelscope:org/name[@…]`.

    An existing folder wins over a repository of the same name.
    """
    folder = _existing(name)
    if folder is not None:
        return _folder(folder, name, revision)
    hub = MODELSCOPE if name.startswith(MODELSCOPE) else ""
    repository, at, in_name = name.removeprefix(hub).partition("@")
    if not hub and _looks_like_path(repository):
        raise NotFoundError(
            f"there is no folder {name!r} (read as a path, because of how it looks)",
            hint="Check the spelling; a repository is written org/name.",
        )
    if repository.count("/") != 1 or not all(repository.split("/")) or (at and not in_name):
        raise NotFoundError(
            f"{name!r} is neither a folder that exists nor written org/name or org/name@revision",
            hint="Check the spelling and the folder that you are in.",
        )
    if revision and in_name and revision != in_name:
        raise UsageError(f"two revisions are asked for: {in_name!r} in the name and {revision!r}")
    if hub:
        from eagle3_plugin.hub_modelscope import open_modelscope

        return open_modelscope(repository, revision or in_name or None)
    from eagle3_plugin.hub_huggingface import open_hub

    return open_hub(repository, revision or in_name or "main")


def is_plain_name(file: str) -> bool:
    """Whether this is the name of a file in a folder, and no way out of it."""
    return file not in ("", ".", "..") and not set(file) & set("/\\\0") and len(file) < 256


def plain_name(file: str) -> str:
    """The name itself, or a SourceError if it is not a plain file name."""
    if not is_plain_name(file):
        raise SourceError(f"{file!r} is not a plain file name; nothing outside a folder is read")
    return file


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{what} cannot be read: {error.strerror}", hint="Check who may read it."
        ) from error


def _folder(folder: Path, name: str, revision: str | None) -> FolderSource:
    if not folder.is_dir():
        raise NotFoundError(
            f"{name!r} is a file, expected a folder with config.json and weights",
            hint=f"Name the folder that it is in: {folder.parent}",
        )
    if revision:
        raise UsageError(f"{name!r} is a folder, which has no revision {revision!r}")
    return FolderSource(folder, name)


def _existing(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # too long a name, no such user, no right to look
        return None


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1
