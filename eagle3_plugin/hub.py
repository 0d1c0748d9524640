"""From a name to files: a folder, a Hugging Face repository, a ModelScope repository.

Only the files that are asked for are fetched, and of big ones only the bytes that are asked for.
Importing this loads no hub library; they are loaded when a repository is named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from eagle3_plugin.errors import (
    IncompleteError,
    NotFoundError,
    OfflineError,
    SourceError,
    UsageError,
)
from eagle3_plugin.hub_errors import translated

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
        for entry in sorted(os.scandir(self.folder), key=lambda entry: entry.name):
            if entry.is_file():
                sizes[entry.name] = entry.stat().st_size
            elif entry.is_symlink() and not Path(entry.path).exists():
                broken.append(entry.name)
        if broken:
            raise IncompleteError(
                f"{self.name}: {', '.join(broken)} point to files that are not there",
                hint="The download was cut off or the cache was cleaned: download it again.",
            )
        return sizes

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        with self.path(file).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if length is None else length)

    def local(self, file: str) -> Path | None:
        path = self.folder / plain_name(file)
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


@dataclass(frozen=True)
class HubSource:
    """A repository on Hugging Face (or at HF_ENDPOINT), pinned to one commit.

    `asked`: the branch, tag or commit that the user named; a branch is recorded in the cache
    under its name when a file is downloaded, so that it is found again without the network.
    """

    name: str
    revision: str
    asked: str
    _sizes: Mapping[str, int] = field(repr=False)

    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        length = max(0, self._size(file) - start) if length is None else length
        path = self.local(file)
        if path is None and length:
            data = self._read_range(file, start, length)
            if data is not None:
                return data
        with (path or self.path(file)).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    def local(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.name, plain_name(file), revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def path(self, file: str) -> Path:
        from huggingface_hub import hf_hub_download

        self._size(file)
        cached = self.local(file)
        if cached is not None:
            return cached
        with translated(self.name, file):
            path = Path(hf_hub_download(self.name, file, revision=self.asked))
            if path.parent.name != self.revision:  # the branch has moved on since we looked
                path = Path(hf_hub_download(self.name, file, revision=self.revision))
            return path

    def _size(self, file: str) -> int:
        if plain_name(file) not in self._sizes:
            found = ", ".join(sorted(self._sizes)[:8]) or "no files at all"
            raise NotFoundError(f"{self.name} has no file {file!r}; it has {found}")
        return self._sizes[file]

    def _read_range(self, file: str, start: int, length: int) -> bytes | None:
        """Bytes by range request; None if the server would rather send the whole file."""
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        end = min(start + length, self._size(file))
        headers = build_hf_headers(library_name="eagle3-plugin")
        headers |= {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with (
            translated(self.name, file),
            http_stream_backoff(
                "GET",
                hf_hub_url(self.name, file, revision=self.revision),
                headers=headers,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                follow_redirects=True,
                max_retries=2,
                retry_on_exceptions=(),
            ) as response,
        ):
            hf_raise_for_status(response)
            if response.status_code != 206 and end - start < self._size(file):
                return None
            data = b"".join(response.iter_bytes())
        if len(data) != end - start:
            raise OfflineError(
                f"{self.name}: {len(data)} bytes of {file!r} came, expected {end - start}",
                hint="The connection broke off: try again.",
            )
        return data


def resolve(name: str, *, revision: str | None = None) -> Source:
    """Where the files of `name` are: a folder, `org/name[@revision]`, `modelscope:org/name[@…]`.

    An existing folder wins over a repository of the same name.
    """
    folder = Path(name).expanduser()
    if name and folder.exists():
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
    return _open_hub(repository, revision or in_name or "main")


def is_plain_name(file: str) -> bool:
    """Whether this is the name of a file in a folder, and no way out of it."""
    return file not in ("", ".", "..") and not set(file) & set("/\\\0")


def plain_name(file: str) -> str:
    """The name itself, or a SourceError if it is not a plain file name."""
    if not is_plain_name(file):
        raise SourceError(f"{file!r} is not a plain file name; nothing outside a folder is read")
    return file


def _folder(folder: Path, name: str, revision: str | None) -> FolderSource:
    if not folder.is_dir():
        raise NotFoundError(
            f"{name!r} is a file, expected a folder with config.json and weights",
            hint=f"Name the folder that it is in: {folder.parent}",
        )
    if revision:
        raise UsageError(f"{name!r} is a folder, which has no revision {revision!r}")
    return FolderSource(folder, name)


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _open_hub(name: str, revision: str) -> Source:
    try:
        return _list_hub(name, revision)
    except OfflineError as error:
        cached = _cached(name, revision)
        if cached is None:
            raise error
        return cached


def _list_hub(name: str, revision: str) -> HubSource:
    from huggingface_hub import HfApi, constants

    with translated(name, revision):
        info = HfApi().model_info(
            name,
            revision=revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    top = {file: size for file, size in sorted(files.items()) if is_plain_name(file)}
    return HubSource(name, info.sha or revision, revision, top)


def _cached(name: str, revision: str) -> CachedSource | None:
    """The snapshot of that revision in the cache, whole or not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        if not hasattr(error, "snapshot_path"):
            return None
        folder = Path(error.snapshot_path)
    return CachedSource(folder, name, folder.name)
