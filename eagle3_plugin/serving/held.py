"""A port and a log that only one `eagle3 serve` holds; the system lets them go when it dies.

A port is bound only once the engine has loaded. Until then nothing else keeps a second server from
starting on it, finding the first one healthy and taking it for its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from eagle3_plugin.errors import EngineError, OutputError


@contextlib.contextmanager
def held_port(port: int) -> Iterator[None]:
    """Holds the port against other `eagle3 serve` of this user."""
    path = Path(tempfile.gettempdir()) / f"eagle3-serve-{os.getuid()}-{port}.lock"
    with _held(path, f"port {port}", "another port with --port") as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def held_log(path: Path) -> Iterator[None]:
    """Holds the log, and makes it readable by its owner alone: engines log their arguments."""
    with _held(path, f"the log {path}", "another log with --log") as file:
        with contextlib.suppress(OSError):
            os.fchmod(file.fileno(), 0o600)
        yield


@contextlib.contextmanager
def _held(path: Path, what: str, instead: str) -> Iterator[IO[str]]:
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}; expected a file in a folder that exists",
            hint="Name a log that you may write to with --log.",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(
                f"another `eagle3 serve` holds {what}; expected one server for each",
                hint=f"Stop that server, or choose {instead}.",
            ) from None
        yield file
