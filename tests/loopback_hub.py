"""A small real HTTP server that speaks enough of two hubs' interfaces: Hugging Face, ModelScope.

Data sets of Hugging Face are repositories named `datasets/org/name`.
It counts what it sends of each file, and can be told to fail. Paths, headers and error codes
are those that huggingface_hub 2.4 and modelscope_hub 0.5 ask for and understand.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    """Files by commit, commits by branch; gated or private repositories open for `token`."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "master": COMMIT})
    gated: bool = False
    private: bool = False
    token: str = ""

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class Failing:
    """How the server misbehaves: a status for everything, files cut off at a byte, no ranges."""

    status: int = 0
    cut: dict[str, int] = field(default_factory=dict)
    ignore_ranges: bool = False


class LoopbackHub:
    """`with LoopbackHub({"org/name": Repo(…)}) as hub:` serves at `hub.url`."""

    def __init__(self, repos: dict[str, Repo]) -> None:
        self.repos = repos
        self.failing = Failing()
        self.sent: Counter[str] = Counter()
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Bound(_Handler):
            pass

        Bound.hub = hub
        return Bound


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {url.path}")
        self.hub.authorizations.append(self.headers.get("Authorization", ""))
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if self.hub.failing.status:
            self._error(self.hub.failing.status, "", "out of order")
        elif parts[:3] == ["api", "v1", "models"]:
            self._modelscope("/".join(parts[3:5]), parts[5:], parse_qs(url.query))
        elif parts[:2] == ["api", "models"] and len(parts) == 6:
            self._hugging_face("/".join(parts[2:4]), parts[4], parts[5], "")
        elif parts[:2] == ["api", "datasets"]:
            revision = parts[5] if len(parts) == 6 else "main"
            self._hugging_face("datasets/" + "/".join(parts[2:4]), "revision", revision, "")
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            file = "/".join(parts[5:])
            self._hugging_face("/".join(parts[:3]), "resolve", parts[4], file)
        elif len(parts) == 5 and parts[2] == "resolve":
            self._hugging_face("/".join(parts[:2]), "resolve", parts[3], parts[4])
        else:
            self._error(404, "", "no such page")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is in `requests`."""

    def _hugging_face(self, name: str, verb: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        authorization = self.headers.get("Authorization", "")
        is_open = repo is not None and authorization == f"Bearer {repo.token}"
        if repo is None or (repo.private and not is_open):
            status = 404 if authorization else 401
            return self._error(status, "RepoNotFound", "Repository not found")
        found = repo.at(revision)
        if found is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = found
        if verb == "revision":
            siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
            return self._json({"id": name, "sha": commit, "siblings": siblings})
        if verb == "tree":
            return self._json(
                [
                    {"type": "file", "path": path, "size": len(data), "oid": _etag(data)}
                    for path, data in files.items()
                ]
            )
        if repo.gated and not is_open:
            return self._error(403 if authorization else 401, "GatedRepo", "Access is restricted")
        if file not in files:
            return self._error(404, "EntryNotFound", "Entry not found")
        return self._file(file, files[file], {"X-Repo-Commit": commit})

    def _modelscope(self, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        repo = self.hub.repos.get(name)
        found = repo.at(query.get("Revision", ["master"])[0]) if repo else None
        if found is None:
            return self._error(404, "", "record not found")
        if rest == ["repo", "files"]:
            files = [
                {"Path": path, "Name": path, "Size": len(data), "Type": "blob"}
                for path, data in found[1].items()
            ]
            return self._json({"Code": 200, "Success": True, "Data": {"Files": files}})
        file = query.get("FilePath", [""])[0]
        if file not in found[1]:
            return self._error(404, "", "file not found")
        return self._file(file, found[1][file], {})

    def _file(self, file: str, data: bytes, headers: dict[str, str]) -> None:
        asked = self.headers.get("Range", "")
        start, end = 0, len(data)
        is_part = bool(asked) and not self.hub.failing.ignore_ranges
        if is_part:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data)) + 1, len(data))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self.send_response(206 if is_part else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("ETag", f'"{_etag(data)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = min(end, max(start, self.hub.failing.cut.get(file, end)))
        try:
            for at in range(start, stop, 1 << 16):
                piece = data[at : min(at + (1 << 16), stop)]
                self.wfile.write(piece)
                self.hub.sent[file] += len(piece)
        except ConnectionError:  # the client has what it wanted
            self.close_connection = True
        if stop < end:
            self.close_connection = True

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message, "Code": status, "Message": message}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
