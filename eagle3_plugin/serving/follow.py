"""An engine's log, line by line as it is written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

POLL_S: Final = 0.1
MAX_BYTES: Final = 1024**2
"""Read at a time; a log that grows faster is caught up with."""


@contextlib.contextmanager
def following(path: Path, emit: Callable[[str], None]) -> Iterator[None]:
    """Calls `emit` with each line that is added to the file during the block, to its last one.

    From a thread of its own. A reader that is gone (a closed pipe) ends the following, not the
    server.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, emit, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(path: Path, emit: Callable[[str], None], stop: threading.Event) -> None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        rest = b""
        while True:
            is_last = stop.is_set()
            data = file.read(MAX_BYTES)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                emit(_text(line))
            if not data and is_last:
                break
            if not data:
                stop.wait(POLL_S)
        if rest:
            emit(_text(rest))


def _text(line: bytes) -> str:
    """Of a progress bar, which goes over its own line, the last state."""
    return line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]
