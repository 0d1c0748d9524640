"""Processes: any server will do here; real engines are in test_vllm_server.py."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError, OutputError
from eagle3_plugin.serving.process import free_port, running, start, tail, wait_until_healthy

SERVER = """
import http.server, signal, subprocess, sys, time
port, *traits = sys.argv[1:]
print("\\x1b[32mloading\\x1b[0m", flush=True)
if "stubborn" in traits:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
nap = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(nap)]
if "stray" in traits:
    children.append(subprocess.Popen(nap, start_new_session=True))
print("children", *[child.pid for child in children], flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *args):
        pass
time.sleep(0.6)
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""

WRAPPER = """
import sys, time
from pathlib import Path
from eagle3_plugin.serving.process import running
port, log, *command = sys.argv[1:]
with running(command, env={}, port=int(port), log_path=Path(log), timeout_s=20) as server:
    print(server.pid, *server.tail(1)[0].split()[1:], flush=True)
    time.sleep(600)
"""


def _command(port: int, *traits: str) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), *traits]


def _children(log: Path) -> list[int]:
    return [int(pid) for pid in tail(log, 1)[0].split()[1:]]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _without_seconds(text: str) -> str:
    """A busy machine takes longer."""
    return re.sub(r"after \d+ s", "after N s", text)


def _survivors(pids: list[int], within_s: float) -> list[int]:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and any(map(_lives, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if _lives(pid)]


def test_a_running_server_answers_and_is_gone_with_its_children_after_the_block(
    tmp_path: Path,
) -> None:
    port, log, seen = free_port(), tmp_path / "log", []
    with running(
        _command(port),
        env={},
        port=port,
        log_path=log,
        timeout_s=20,
        progress=lambda _, line: seen.append(line),
    ) as server:
        pids = [server.pid, *_children(log)]
        assert all(map(_lives, pids))
        assert server.exit_code is None
        assert server.url == f"http://127.0.0.1:{port}"
        assert server.tail() == ["loading", f"children {pids[1]}"]
    assert _survivors(pids, 0) == []
    assert seen[-1] == f"children {pids[1]}"


@pytest.mark.parametrize("trait", ["stubborn", "stray"])
def test_stop_ends_what_ignores_signals_or_leaves_the_group(tmp_path: Path, trait: str) -> None:
    port, log = free_port(), tmp_path / "log"
    server = start(_command(port, trait), env={}, port=port, log_path=log, grace_s=0.2)
    wait_until_healthy(server, 20)
    pids = [server.pid, *_children(log)]
    server.stop()
    assert len(pids) == (3 if trait == "stray" else 2)
    assert _survivors(pids, 0) == []


def test_a_stubborn_server_is_killed_by_signal_9(tmp_path: Path) -> None:
    port = free_port()
    command = _command(port, "stubborn")
    server = start(command, env={}, port=port, log_path=tmp_path / "log", grace_s=0.2)
    wait_until_healthy(server, 20)
    server.stop()
    assert server.exit_code == 128 + 9


def test_stop_twice_is_the_same_as_stop(tmp_path: Path) -> None:
    port = free_port()
    server = start(_command(port), env={}, port=port, log_path=tmp_path / "log")
    server.stop()
    code = server.exit_code
    server.stop()
    assert server.exit_code == code
    assert not _lives(server.pid)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_when_the_wrapper_is_ended(tmp_path: Path, signum: int) -> None:
    port = free_port()
    wrapper = subprocess.Popen(
        [sys.executable, "-c", WRAPPER, str(port), str(tmp_path / "log"), *_command(port, "stray")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert wrapper.stdout is not None
    pids = [int(pid) for pid in wrapper.stdout.readline().split()]
    assert len(pids) == 3
    assert all(map(_lives, pids))
    os.kill(wrapper.pid, signum)
    wrapper.wait(timeout=20)
    wrapper.stdout.close()
    assert _survivors(pids, 20) == []


def test_an_engine_whose_warden_is_killed_dies_with_it(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    server = start(_command(port), env={}, port=port, log_path=log)
    wait_until_healthy(server, 20)
    parent = int(Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert _survivors([server.pid], 5) == []
    for pid in _children(log):
        os.kill(pid, signal.SIGKILL)


def test_the_environment_is_added_to_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['A'], 'PATH' in os.environ)"]
    log = tmp_path / "log"
    server = start(command, env={"A": "b"}, port=free_port(), log_path=log)
    with pytest.raises(EngineError, match="ended with exit code 0"):
        wait_until_healthy(server, 20)
    assert tail(log, 5) == ["b True"]


def test_an_engine_that_dies_is_an_error_with_its_last_lines(tmp_path: Path) -> None:
    code = "print('reading'); raise SystemExit('bad flag --x')"
    log = tmp_path / "log"
    with (
        pytest.raises(EngineError) as caught,
        running(
            [sys.executable, "-u", "-c", code], env={}, port=free_port(), log_path=log, timeout_s=20
        ),
    ):
        pass
    assert _without_seconds(caught.value.message) == (
        "the engine ended with exit code 1 after N s, before it answered\n"
        "its last lines:\nreading\nbad flag --x"
    )
    assert caught.value.hint == f"The whole log: {log}"


def test_errors_far_above_the_last_lines_are_named_too(tmp_path: Path) -> None:
    code = (
        "print('ValueError: hidden size 7', flush=True)\n"
        "print('(Core pid=9) ERROR 11-22 01:20:17 [a.py:1] x.OutOfMemoryError: no', flush=True)\n"
        "print('(Core_DP0 pid=9) x.OutOfMemoryError: no', flush=True)\n"
        "[print('noise', i, flush=True) for i in range(100)]; raise SystemExit(3)"
    )
    log = tmp_path / "log"
    server = start([sys.executable, "-c", code], env={}, port=free_port(), log_path=log)
    with pytest.raises(EngineError) as caught:
        wait_until_healthy(server, 20)
    lines = _without_seconds(caught.value.message).splitlines()
    assert lines[:4] == [
        "the engine ended with exit code 3 after N s, before it answered",
        "errors in its log:",
        "ValueError: hidden size 7",
        "x.OutOfMemoryError: no",
    ]
    assert lines[4:6] == ["its last lines:", "noise 80"]
    assert lines[-1] == "noise 99"


def test_an_engine_that_never_answers_is_an_error_and_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", "import time; print('busy', flush=True); time.sleep(600)"]
    server = start(command, env={}, port=port, log_path=tmp_path / "log")
    with pytest.raises(EngineError) as caught:
        wait_until_healthy(server, 1)
    server.stop()
    assert _without_seconds(caught.value.message) == (
        f"the engine does not answer http://127.0.0.1:{port}/health after N s\n"
        "its last lines:\nbusy"
    )
    assert not _lives(server.pid)


def test_a_port_that_is_taken_is_refused_before_the_start(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EngineError) as caught:
            start(["true"], env={}, port=port, log_path=tmp_path / "log")
    assert caught.value.message == (
        f"port {port} of 127.0.0.1 cannot be used: Address already in use; expected a free one"
    )
    assert caught.value.hint == "Stop the server that listens there, or choose another port."


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        start(["no-such-python"], env={}, port=free_port(), log_path=tmp_path / "log")
    assert caught.value.message == (
        "no-such-python cannot be started: [Errno 2] No such file or directory: 'no-such-python'"
    )


def test_a_log_in_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "missing" / "log"
    with pytest.raises(OutputError) as caught:
        start(["true"], env={}, port=free_port(), log_path=log)
    assert caught.value.message == (
        f"the engine's log {log} cannot be written: No such file or directory"
    )


def test_a_healthy_server_whose_log_lacks_the_proof_is_stopped(tmp_path: Path) -> None:
    port, log, told = free_port(), tmp_path / "log", []

    def refuse(text: str) -> None:
        told.append(text)
        raise EngineError("not ours")

    with (
        pytest.raises(EngineError, match="not ours"),
        running(_command(port), env={}, port=port, log_path=log, timeout_s=20, proof=refuse),
    ):
        pytest.fail("the server was handed out")
    assert "loading" in told[0]
    assert _survivors(_children(log), 5) == []
