"""Repositories on ModelScope, through its own library (the extra `modelscope`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eagle3_plugin.errors import MissingExtraError, NotFoundError, OfflineError
from eagle3_plugin.hub import CachedSource, Source, is_plain_name, plain_name
from eagle3_plugin.hub_errors import translated

if TYPE_CHECKING:
    from modelscope_hub import HubApi

DEFAULT_BRANCH = "master"


@dataclass(frozen=True)
class ModelScopeSource:
    """A repository on ModelScope. Its interface names no commit: `revision` is branch or tag."""

    name: str
    revision: str
    _api: HubApi = field(repr=False)
    _sizes: Mapping[str, int] = field(repr=False)

    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        end = self._size(file) if length is None else min(start + length, self._size(file))
        if end <= start:
            return b""
        path = self.local(file)
        data = self._read_range(file, start, end) if path is None else None
        if data is not None:
            return data
        with (path or self.path(file)).open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)

    def local(self, file: str) -> Path | None:
        from modelscope_hub import CacheNotFound

        try:
            path = self._api.download_file(
                self._repository, "model", plain_name(file), revision=self.revision,
                local_files_only=True,
            )  # fmt: skip
        except CacheNotFound:
            return None
        return path if path.stat().st_size == self._size(file) else None

    def path(self, file: str) -> Path:
        size = self._size(file)
        with translated(self.name, file):
            return self._api.download_file(
                self._repository, "model", file, revision=self.revision, file_size=size
            )

    @property
    def _repository(self) -> str:
        return self.name.partition(":")[2]

    def _size(self, file: str) -> int:
        if plain_name(file) not in self._sizes:
            found = ", ".join(sorted(self._sizes)[:8]) or "no files at all"
            raise NotFoundError(f"{self.name} has no file {file!r}; it has {found}")
        return self._sizes[file]

    def _read_range(self, file: str, start: int, end: int) -> bytes | None:
        """Bytes by range request; None if the server would rather send the whole file."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with (
            translated(self.name, file),
            self._api.legacy.download_stream(
                self._repository, "model", file, self.revision, headers
            ) as response,
        ):
            if response.status_code != 206 and end - start < self._size(file):
                return None
            return response.content


def open_modelscope(repository: str, revision: str | None) -> Source:
    """Lists `org/name` on ModelScope; MissingExtraError if its library is not installed."""
    try:
        from modelscope_hub import HubApi
    except ImportError as error:
        raise MissingExtraError(
            f"modelscope:{repository} needs ModelScope's library, which is not installed",
            hint="pip install 'eagle3-plugin[modelscope]'",
        ) from error
    name, branch = f"modelscope:{repository}", revision or DEFAULT_BRANCH
    api = HubApi()
    try:
        with translated(name, branch):
            files = api.list_repo_files(repository, "model", revision=branch, recursive=False)
    except OfflineError as error:
        cached = _cached(api, name, repository, branch)
        if cached is None:
            raise error
        return cached
    sizes = {file.path: file.size for file in files if not file.is_dir and is_plain_name(file.path)}
    return ModelScopeSource(name, branch, api, sizes)


def _cached(api: HubApi, name: str, repository: str, branch: str) -> CachedSource | None:
    """What an earlier download left of that branch or tag."""
    from modelscope_hub import CacheNotFound

    try:
        folder = api.download_repo(repository, "model", revision=branch, local_files_only=True)
    except CacheNotFound:
        return None
    return CachedSource(Path(folder), name, branch)
