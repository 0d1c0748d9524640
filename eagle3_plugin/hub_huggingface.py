"""Repositories on Hugging Face, through its own library: cache, token and endpoint are its."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eagle3_plugin.errors import NotFoundError, OfflineError
from eagle3_plugin.hub import CachedSource, Source, is_plain_name, plain_name
from eagle3_plugin.hub_errors import translated


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


def open_hub(name: str, revision: str) -> Source:
    """The repository at that branch, tag or commit; from the cache if the hub does not answer."""
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
