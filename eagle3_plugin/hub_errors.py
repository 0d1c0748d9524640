"""The one edge where the hub libraries' errors become ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from eagle3_plugin.errors import (
    GatedError,
    IncompleteError,
    NotFoundError,
    OfflineError,
    SourceError,
)

_SPELLING = (
    "Check the spelling; if it is private, set HF_TOKEN to a token that may read it "
    "(an expired token looks the same)."
)
_LICENCE = "Accept the licence on the model's page, then set HF_TOKEN to a token of that account."
_MODELSCOPE = "Check the spelling; if it is private, set MODELSCOPE_API_TOKEN."
_NETWORK = "Check the network and HF_ENDPOINT, or download it first and name the folder."
_CACHE = "Check the space and the rights in the hub's cache folder (HF_HOME)."

Row = tuple[type[SourceError], str, str]

TRANSLATIONS: Mapping[str, Row] = {
    # huggingface_hub.errors
    "GatedRepoError": (GatedError, "{repo} is gated: its owner asks for an agreement", _LICENCE),
    "DisabledRepoError": (NotFoundError, "{repo} has been disabled on the hub", _SPELLING),
    "RepositoryNotFoundError": (
        NotFoundError,
        "{repo} is not on the hub, or it is private and no valid token was given",
        _SPELLING,
    ),
    "RevisionNotFoundError": (
        NotFoundError,
        "{repo} has no revision {what!r}",
        "Name a branch, a tag or a commit that its page lists.",
    ),
    "RemoteEntryNotFoundError": (NotFoundError, "{repo} has no file {what!r}", _SPELLING),
    "IncompleteSnapshotError": (
        IncompleteError,
        "{repo} is in the cache only in part",
        "Run it once with the network.",
    ),
    "LocalEntryNotFoundError": (
        OfflineError,
        "{what!r} of {repo} is not in the cache, and the hub cannot be reached",
        _NETWORK,
    ),
    "EntryNotFoundError": (NotFoundError, "{repo} has no file {what!r}", _SPELLING),
    "RevisionResolutionError": (
        OfflineError,
        "{repo}: revision {what!r} is not in the cache, and the hub cannot be reached",
        _NETWORK,
    ),
    "OfflineModeIsEnabled": (
        OfflineError,
        "{repo} is not in the cache, and offline mode is on",
        "Unset HF_HUB_OFFLINE, or name a folder that has it.",
    ),
    "HFValidationError": (NotFoundError, "{repo!r} cannot be a repository's name", _SPELLING),
    "HfUriError": (NotFoundError, "{repo!r} cannot be a repository's name", _SPELLING),
    "FileMetadataError": (
        OfflineError,
        "the answer for {what!r} of {repo} has no commit or ETag: this is not a hub",
        "Check HF_ENDPOINT and the proxy.",
    ),
    "XetDownloadError": (OfflineError, "the download of {what!r} of {repo} broke off", _NETWORK),
    "CacheNotFound": (OfflineError, "the hub's cache folder is not there", _CACHE),
    "CorruptedCacheException": (IncompleteError, "{repo} is damaged in the hub's cache", _CACHE),
    "CachedRepoTreeNotFoundError": (OfflineError, "{repo} is not in the cache", _NETWORK),
    "LocalTokenNotFoundError": (GatedError, "{repo} asks for a token, and there is none", _LICENCE),
    "BadRequestError": (SourceError, "{host} did not understand the question for {repo}", _NETWORK),
    "HfHubHTTPError": (OfflineError, "{host} answered {status} for {repo}", _NETWORK),
    # modelscope_hub.errors
    "AuthenticationError": (NotFoundError, "{repo} is private, or the token is bad", _MODELSCOPE),
    "PermissionDeniedError": (GatedError, "{repo} is not open to this account", _MODELSCOPE),
    "NotExistError": (NotFoundError, "{repo} ({what}) is not on ModelScope", _MODELSCOPE),
    "InvalidParameter": (NotFoundError, "{repo!r} cannot be a repository's name", _MODELSCOPE),
    "NetworkError": (OfflineError, "{host} cannot be reached for {repo}", _NETWORK),
    "HubError": (OfflineError, "{host} cannot deliver {what!r} of {repo} ({error})", _NETWORK),
    # below both: httpx, httpx2, requests and the system
    "HTTPError": (
        OfflineError,
        "{host} cannot be reached or broke off for {repo} ({error})",
        _NETWORK,
    ),
    "RequestException": (
        OfflineError,
        "{host} cannot be reached or broke off for {repo} ({error})",
        _NETWORK,
    ),
    "ConnectionError": (
        OfflineError,
        "{host} cannot be reached or broke off for {repo} ({error})",
        _NETWORK,
    ),
    "TimeoutError": (OfflineError, "{host} did not answer in time for {repo}", _NETWORK),
    "RuntimeError": (OfflineError, "the download of {what!r} of {repo} broke off", _NETWORK),
    "OSError": (SourceError, "{what!r} of {repo} cannot be put into the cache ({error})", _CACHE),
    "ValueError": (
        SourceError,
        "{host} gave an answer that cannot be read for {repo} ({error})",
        _NETWORK,
    ),
    "LookupError": (
        SourceError,
        "{host} gave an answer that cannot be read for {repo} ({error})",
        _NETWORK,
    ),
    "TypeError": (
        SourceError,
        "{host} gave an answer that cannot be read for {repo} ({error})",
        _NETWORK,
    ),
}
"""Name of an exception class -> our error, its message, its hint. An exception takes the row of
the first of its classes (in method resolution order) that has one. Names, so that no library
has to be loaded to read the table."""


@contextlib.contextmanager
def translated(repo: str, what: str) -> Iterator[None]:
    """Runs the block and turns what the hub libraries raise into a SourceError.

    `what`: the file or revision that the block is after. Messages never repeat those of the
    libraries, which may hold addresses with secrets in them.
    """
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        row = translation(type(error))
        if row is None:
            raise
        kind, message, hint = row
        text = message.format(
            repo=repo, what=what, host=_host(repo), status=_status(error), error=_reason(error)
        )
        raise kind(text, hint=hint) from error


def translation(error: type[BaseException]) -> Row | None:
    """The row of the table for this class of exception."""
    names = (base.__name__ for base in error.__mro__)
    return next((TRANSLATIONS[name] for name in names if name in TRANSLATIONS), None)


def _host(repo: str) -> str:
    """The host of the endpoint in use, without what else the address may hold."""
    if repo.startswith("modelscope:"):
        return "ModelScope"
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return urlsplit(endpoint).hostname or "the hub"


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(getattr(response, "status_code", "an error"))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
