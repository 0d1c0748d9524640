"""A server of texts that can be changed, closed and opened again."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class FakeMetrics:
    """texts: by path. posted: the JSON that was posted. statuses: of the next POSTs, else 200;
    one of the 300s leads to /page. key: asked for, but not at /metrics."""

    port: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    posted: list[Any] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    key: str | None = None
    _server: http.server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listens, on the port that it had before."""
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers["Authorization"]
                if fake.key and self.path != "/metrics" and given != f"Bearer {fake.key}":
                    self.send_response(401)
                else:
                    self.send_response(200 if self.path in fake.texts else 404)
                self.end_headers()
                self.wfile.write(fake.texts.get(self.path, "").encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = fake.statuses.pop(0) if fake.statuses else 200
                if status == 200:
                    fake.posted.append(json.loads(body))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{fake.url}/page")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def fake() -> Iterator[FakeMetrics]:
    made = FakeMetrics()
    made.open()
    yield made
    made.close()
