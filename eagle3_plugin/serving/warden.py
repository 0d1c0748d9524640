"""The parent of an engine: it outlives nobody, and leaves none of the engine's processes behind.

Run as a script: `warden.py GRACE_S COMMAND…`. Its stdin is a pipe that only the caller holds, so
the end of that pipe says "stop" when the caller closes it, and also when the caller dies in any
way, SIGKILL included. It then sends SIGINT, SIGTERM and SIGKILL to the engine's process group,
each GRACE_S after the one before, and last SIGKILL to whatever left the group.

The first line on stdout is the engine's process id, or `error: …`; the engine's output goes to the
warden's stderr; the exit code is the engine's (128 + n for signal n). Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
POLL_S = 0.05


def main(arguments: list[str]) -> int:
    """Runs the command until it ends or stdin does; the engine's exit code."""
    grace_s, command = float(arguments[0]), arguments[1:]
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        engine = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except OSError as error:
        print(f"error: {error}", flush=True)
        return 127
    print(engine.pid, flush=True)
    while engine.poll() is None and not _stdin_ended():
        _reap_strays(engine.pid)
    _end_group(engine, grace_s)
    _kill_strays()
    code = engine.returncode
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the process group alone has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _stdin_ended() -> bool:
    ready, _, _ = select.select([0], [], [], POLL_S)
    return bool(ready) and os.read(0, 4096) == b""


def _end_group(engine: subprocess.Popen[bytes], grace_s: float) -> None:
    """Signals the group, harder each time, until the engine and all others in it are gone."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if not _signal_group(engine.pid, signum):
            break
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and _group_lives(engine):
            time.sleep(POLL_S)
    engine.wait()


def _group_lives(engine: subprocess.Popen[bytes]) -> bool:
    engine.poll()
    _reap_strays(engine.pid)
    return _signal_group(engine.pid, 0)


def _signal_group(group: int, signum: int) -> bool:
    """Whether there still is such a group."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _children() -> list[int]:
    """Our own children: the engine, and what its dead processes left to us."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):
        return [int(pid) for pid in listing.read_text().split()]
    return []


def _reap_strays(engine_pid: int) -> None:
    for pid in _children():
        if pid != engine_pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_strays() -> None:
    """Killing one may leave us its own children, hence the loop."""
    while strays := _children():
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
