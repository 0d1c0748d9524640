"""An engine's server as a process: start it, wait until it answers, stop it, leave nothing behind.

Every engine runs under a small parent of its own (`warden.py`) that ends it and all its children
when it is told to, and also when this process dies without a word.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eagle3_plugin.errors import EngineError, OutputError
from eagle3_plugin.serving import warden

HOST = "127.0.0.1"
GRACE_S = 10.0
POLL_S = 0.25
NUM_LAST_LINES = 20
TAIL_BYTES = 256 * 1024
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
CAUSE = re.compile(r"(?:^|\s)(?:\w+\.)*\w*(?:Error|Exception)\b: \S|(?:^|\s)error: \S")
SPEAKER = re.compile(
    r"^(?:\([\w.:/ -]+ pid=\d+\)\s*)?(?:[A-Z]+ [\d-]+ [\d:]+ (?:\.\.\.)?\[[^\]]*\]\s*)?"
)
"""What vLLM puts before a line: the process, the level, the time and the place in its source."""

Progress = Callable[[float, str], None]
"""Called while waiting with the seconds so far and the last line of the log."""

Proof = Callable[[str], None]
"""Called with the whole log of a healthy server; raises when the server must not be used."""


@dataclass(frozen=True)
class Server:
    """A started engine. `pid` leads the process group of the engine and its children."""

    command: tuple[str, ...]
    port: int
    pid: int
    log_path: Path
    _warden: subprocess.Popen[str] = field(repr=False)

    @property
    def url(self) -> str:
        """Where it answers, without a trailing slash."""
        return f"http://{HOST}:{self.port}"

    @property
    def exit_code(self) -> int | None:
        """The engine's exit code (128 + n for signal n); None while it runs."""
        return self._warden.poll()

    def tail(self, num_lines: int = NUM_LAST_LINES) -> list[str]:
        """The last lines of the log that are not blank, without colours."""
        return tail(self.log_path, num_lines)

    def stop(self) -> None:
        """Ends the engine and all its processes: SIGINT, then SIGTERM, then SIGKILL."""
        _stop(self._warden)

    def begin_stop(self) -> None:
        """Has all that ended as `stop` does, and does not wait for it."""
        assert self._warden.stdin is not None
        self._warden.stdin.close()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    port: int,
    log_path: Path,
    grace_s: float = GRACE_S,
) -> Server:
    """Starts the command, which is expected to listen on that port; does not wait for it.

    env: added to this process's own. grace_s: between one signal and the next when it is stopped.
    """
    _refuse_taken(port)
    process = _start_warden(command, env, log_path, grace_s)
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    if not first.isdigit():
        _stop(process)
        found = first.removeprefix("error: ") or "\n".join(tail(log_path, NUM_LAST_LINES))
        raise EngineError(
            f"{command[0]} cannot be started: {found}",
            hint="Name the Python of an environment that has the engine installed.",
        )
    return Server(tuple(command), port, int(first), log_path, process)


def wait_until_healthy(server: Server, timeout_s: float, progress: Progress | None = None) -> float:
    """Waits until `/health` answers 200; the seconds that took."""
    begin = time.monotonic()
    while True:
        elapsed_s = time.monotonic() - begin
        if server.exit_code is not None:
            raise _ended(server, elapsed_s)
        if _is_healthy(server.port):
            return elapsed_s
        if elapsed_s > timeout_s:
            raise _failed(
                server, f"the engine does not answer {server.url}/health after {timeout_s:g} s"
            )
        if progress is not None:
            progress(elapsed_s, next(iter(server.tail(1)), ""))
        time.sleep(POLL_S)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    port: int,
    log_path: Path,
    timeout_s: float,
    progress: Progress | None = None,
    proof: Proof | None = None,
) -> Iterator[Server]:
    """A healthy server for the length of a `with` block; stopped when that ends in any way."""
    server = start(command, env=env, port=port, log_path=log_path)
    try:
        wait_until_healthy(server, timeout_s, progress)
        if proof is not None:
            proof(log_path.read_text(encoding="utf-8", errors="replace"))
        yield server
    finally:
        server.stop()


def tail(path: Path, num_lines: int) -> list[str]:
    """The last lines of a text file that are not blank, without colours."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = ANSI.sub("", file.read().decode("utf-8", errors="replace"))
    return [line.rstrip() for line in text.splitlines() if line.strip()][-num_lines:]


def _refuse_taken(port: int) -> None:
    """A server that already listens would answer for ours, so find out before the start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EngineError(
                f"port {port} of {HOST} cannot be used: {error.strerror}; expected a free one",
                hint="Stop the server that listens there, or choose another port.",
            ) from error


def _start_warden(
    command: Sequence[str], env: Mapping[str, str], log_path: Path, grace_s: float
) -> subprocess.Popen[str]:
    try:
        log = log_path.open("wb")
    except OSError as error:
        raise OutputError(
            f"the engine's log {log_path} cannot be written: {error.strerror}",
            hint="Name a file in a folder that exists and that you may write to.",
        ) from error
    with log:
        return subprocess.Popen(
            [sys.executable, "-I", warden.__file__, str(grace_s), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **env},
            start_new_session=True,
            text=True,
        )


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ended(server: Server, elapsed_s: float) -> EngineError:
    return _failed(
        server,
        f"the engine ended with exit code {server.exit_code} after {elapsed_s:.0f} s, "
        "before it answered",
    )


def _failed(server: Server, what: str) -> EngineError:
    """With the errors that the log names, which may be far above its last lines."""
    lines = [SPEAKER.sub("", line) for line in tail(server.log_path, 10_000)]
    last = lines[-NUM_LAST_LINES:]
    causes = dict.fromkeys(line.strip() for line in lines if CAUSE.search(line))
    above = [cause for cause in causes if not any(cause in line for line in last)][-5:]
    shown = [what]
    if above:
        shown += ["errors in its log:", *above]
    shown += ["its last lines:", *last]
    return EngineError("\n".join(shown), hint=f"The whole log: {server.log_path}")
