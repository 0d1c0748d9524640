"""A real headless Chromium, spoken to through its DevTools pipe: one page at a time.

The pipe is two file descriptors, 3 and 4, with JSON messages that end in a zero byte
(`--remote-debugging-pipe`). Nothing but the standard library is needed.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
TIMEOUT_S = 120
TROUBLE = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
REQUEST = "Network.requestWillBeSent"


class Browser:
    """One tab. messages: what it said of itself since the page was opened."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._ids = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.messages: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer; what comes in between is kept in `messages`."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self.messages.append(answer)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, width: int, *, scheme: str = "light", media: str = "screen") -> None:
        """Loads the page as a window of this width (CSS pixels) shows it."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.messages.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(m.get("method") == "Page.loadEventFired" for m in self.messages):
            self.messages.append(self._next())

    def run(self, script: str) -> Any:
        """What the JavaScript expression is, as JSON carries it."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def trouble(self) -> list[dict[str, Any]]:
        """Errors and whatever was printed on the console."""
        return [m for m in self.messages if m.get("method") in TROUBLE]

    @property
    def requested(self) -> list[str]:
        """The addresses that the page asked for, its own the first."""
        found = (m["params"] for m in self.messages if m.get("method") == REQUEST)
        return [params["request"]["url"] for params in found]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            assert left > 0, "the browser says nothing"
            if select.select([self._back], [], [], left)[0]:
                data = os.read(self._back, 1 << 16)
                assert data, "the browser has ended"
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile, gone at the end with all its processes."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here; Debian's package is called chromium")
    (their_in, to), (back, their_out) = os.pipe(), os.pipe()
    words = [chromium, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    script = f'exec "$0" "$@" 3<&{their_in} 4>&{their_out}'
    process = subprocess.Popen(
        ["bash", "-c", script, *words],
        pass_fds=(their_in, their_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_in)
    os.close(their_out)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)
        os.close(back)
        process.wait(timeout=TIMEOUT_S)
