"""`eagle3 serve` when things go wrong, with real processes: the message, and nothing left behind.

The engine is a small real server behind `--python`; real engines are in test_serve_sglang.py and
test_serve_vllm.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eagle3_plugin.serving.process import free_port
from tests.drafts import draft_config, write_random
from tests.serving.fake_engine import serving, survivors, write_fake
from tests.test_cli import TARGET

READY = "(Ctrl-C stops it)"
STAGES = {
    "loading": (("loading",), "taps [1]"),
    "test request": (("hang",), "test request"),
    "serving": ((), READY),
}
"""Stage -> traits of the fake engine, and what is printed once that stage is reached."""


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """The words for a sound pair."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(TARGET))
    draft = write_random(tmp_path / "draft", draft_config(taps=(3, 4, 7)))
    return ["sglang", "--target", str(target), "--draft", str(draft), "--settings", "3,4,8"]


def _words(pair: list[str], tmp_path: Path, *traits: str, port: int | None = None) -> list[str]:
    fake = write_fake(tmp_path / "fake-python", *traits)
    return [*pair, "--python", str(fake), "--port", str(port or free_port())]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_when_the_wrapper_is_ended(
    tmp_path: Path, pair: list[str], stage: str, signum: signal.Signals
) -> None:
    traits, reached = STAGES[stage]
    with serving(_words(pair, tmp_path, *traits), tmp_path / "log") as served:
        served.wait_for(reached)
        pids = served.pids()
        served.process.send_signal(signum)
        code = served.process.wait(timeout=60)
        assert survivors(pids) == []
    is_killed = signum == signal.SIGKILL
    assert code == (-signum if is_killed else 128 + signum)
    if not is_killed:
        assert f"engine got {signum.name}" in served.log.read_text()
        assert f"{signum.name}: stopping the engine" in served.out.read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_engine_is_an_error_that_says_so(
    tmp_path: Path, pair: list[str], stage: str
) -> None:
    traits, reached = STAGES[stage]
    with serving(_words(pair, tmp_path, *traits), tmp_path / "log") as served:
        served.wait_for(reached)
        pids = served.pids()
        os.kill(pids[0], signal.SIGKILL)
        error = served.error()
        assert survivors(pids) == []
    when = {"loading": "before it answered", "serving": "while it served"}
    assert served.process.returncode == 1
    assert error.startswith(
        f"error: the engine ended with exit code 137 {when.get(stage, 'at the test request')}\n"
        "cause [killed]: it was killed by signal 9, by somebody or for lack of memory\n"
    )
    assert "hint: See `dmesg`" in error
    assert f"hint: The whole log: {served.log}" in error


def test_a_second_ctrl_c_kills_an_engine_that_takes_its_time(
    tmp_path: Path, pair: list[str]
) -> None:
    with serving(_words(pair, tmp_path, "stubborn"), tmp_path / "log") as served:
        served.wait_for(READY)
        served.process.send_signal(signal.SIGINT)
        served.wait_for("engine got SIGINT")
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=60) == 130
        assert survivors(served.pids()) == []
        assert "engine got SIGTERM" not in served.log.read_text()


@pytest.mark.slow
def test_a_second_ctrl_c_kills_also_when_the_first_is_long_ago(
    tmp_path: Path, pair: list[str]
) -> None:
    """The engine was told again by then, and would be told once more before it is killed."""
    with serving(_words(pair, tmp_path, "stubborn"), tmp_path / "log") as served:
        served.wait_for(READY)
        served.process.send_signal(signal.SIGINT)
        while served.log.read_text().count("engine got SIGINT") < 2:
            assert served.process.poll() is None
            time.sleep(0.05)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=60) == 130
        assert survivors(served.pids()) == []
        assert "engine got SIGTERM" not in served.log.read_text()


def test_ctrl_c_kills_an_engine_that_is_already_being_stopped(
    tmp_path: Path, pair: list[str]
) -> None:
    words = [*_words(pair, tmp_path, "loading", "stubborn"), "--timeout", "2"]
    with serving(words, tmp_path / "log") as served:
        served.wait_for("engine got SIGINT")
        served.process.send_signal(signal.SIGINT)
        assert "/health after 2 s; expected 200" in served.error()
        assert survivors(served.pids()) == []
        assert "engine got SIGTERM" not in served.log.read_text()
    assert served.process.returncode == 1


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_it_was_started_to_ignore_stays_ignored(
    tmp_path: Path, pair: list[str], ignored: signal.Signals
) -> None:
    """nohup ignores SIGHUP, and a script's `eagle3 serve … &` SIGINT; SIGTERM ends both."""
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        started = serving(_words(pair, tmp_path), tmp_path / "log")
        served = started.__enter__()
    finally:
        signal.signal(ignored, before)
    try:
        served.wait_for(READY)
        served.process.send_signal(ignored)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=60) == 128 + signal.SIGTERM
        assert survivors(served.pids()) == []
        assert f"{ignored.name}: stopping" not in served.printed()
    finally:
        started.__exit__(None, None, None)


def test_a_server_is_started_proved_tried_and_its_log_shown_without_the_key(
    tmp_path: Path, pair: list[str]
) -> None:
    words = [*_words(pair, tmp_path), "--", "--api-key", "very-secret-key"]
    with serving(words, tmp_path / "log", HF_TOKEN="hf_abcdefghijklmnopqrst") as served:
        served.wait_for(READY)
        out, err = served.out.read_text(), served.err.read_text()
    assert "the plugin holds the draft: its line is in the engine's log" in out
    assert "test request answered: 8 tokens" in out
    assert "--api-key ***" in out
    assert "server_args: api_key=***\n" in err
    assert "very-secret-key" not in out + err
    assert served.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("line", "cause", "remedy"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", "out-of-memory", "--mem-fraction-static"),
        ("OSError: [Errno 98] Address already in use", "port-in-use", "--port"),
        (
            "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo",
            "gated",
            "HF_TOKEN",
        ),
    ],
)
def test_a_crash_names_the_cause_and_the_remedy(
    tmp_path: Path, pair: list[str], line: str, cause: str, remedy: str
) -> None:
    with serving(_words(pair, tmp_path, f"die {line}"), tmp_path / "log") as served:
        error = served.error()
        assert survivors(served.pids()) == []
    assert error.startswith("error: the engine ended with exit code 1 before it answered\n")
    assert f"cause [{cause}]: " in error
    assert line in error
    assert remedy in error[error.index("hint: ") :]


def test_an_engine_that_never_becomes_healthy_is_stopped(tmp_path: Path, pair: list[str]) -> None:
    words = [*_words(pair, tmp_path, "loading", port=free_port()), "--timeout", "2"]
    with serving(words, tmp_path / "log") as served:
        error = served.error()
        assert survivors(served.pids()) == []
    assert "/health after 2 s; expected 200\nits last lines:\n" in error
    assert served.process.returncode == 1


def test_a_server_that_serves_as_stock_is_stopped(tmp_path: Path, pair: list[str]) -> None:
    with serving(_words(pair, tmp_path, "stock"), tmp_path / "log") as served:
        error = served.error()
        assert survivors(served.pids()) == []
    assert error.startswith("error: SGLang serves this draft as stock: its log does not name our")


@pytest.mark.parametrize(
    ("trait", "message"),
    [
        ("fail", 'answered 500, expected 200: {"error": "no head"}'),
        ("mute", "the server answered the test request with 0 tokens; expected at least 1"),
        ("drop", "the engine ended with exit code 7 at the test request"),
    ],
)
def test_a_failed_test_request_stops_the_server(
    tmp_path: Path, pair: list[str], trait: str, message: str
) -> None:
    with serving(_words(pair, tmp_path, trait), tmp_path / "log") as served:
        error = served.error()
        assert survivors(served.pids()) == []
    assert message in error


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path, pair: list[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with serving(_words(pair, tmp_path, port=port), tmp_path / "log") as served:
            error = served.error()
    assert error.startswith(
        f"error: port {port} of 127.0.0.1 cannot be used: Address already in use; expected a free"
    )
    assert "hint: Stop the server that listens there, or choose another port." in error
    assert served.log.read_text() == ""


def test_two_serves_cannot_start_on_one_port(tmp_path: Path, pair: list[str]) -> None:
    """The first one loads, and has not bound its port yet."""
    words = _words(pair, tmp_path, "loading")
    with serving(words, tmp_path / "log") as first:
        first.wait_for("taps [1]")
        with serving(words, tmp_path / "other") as second:
            error = second.error()
        assert first.process.poll() is None
        assert survivors(first.pids(), 0) == first.pids()
    port = words[-1]
    assert error.startswith(
        f"error: another `eagle3 serve` holds port {port}; expected one server for each\n"
        "hint: Stop that server, or choose another port with --port."
    )


def test_two_serves_cannot_write_one_log(tmp_path: Path, pair: list[str]) -> None:
    log = tmp_path / "log"
    with serving(_words(pair, tmp_path), log) as first:
        first.wait_for(READY)
        words = [*_words(pair, tmp_path), "--log", str(log)]
        command = [sys.executable, "-m", "eagle3_plugin.cli", "serve", *words]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "taps [1]" in log.read_text()
    assert second.returncode == 1
    assert f"error: another `eagle3 serve` holds the log {log}; expected one" in second.stderr
    assert "choose another log with --log" in second.stderr


def test_a_log_in_a_missing_folder_is_an_error(tmp_path: Path, pair: list[str]) -> None:
    log = tmp_path / "missing" / "log"
    command = [sys.executable, "-m", "eagle3_plugin.cli", "serve", *_words(pair, tmp_path)]
    done = subprocess.run([*command, "--log", str(log)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"error: {log} cannot be written: No such file or directory; expected" in done.stderr


MOUNT = 'mount -t tmpfs -o size=1536k none "$0" && exec "$@"'


@pytest.mark.parametrize("traits", [("flood 3000", "stock"), ("flood 3000", "die of it")])
def test_a_full_disk_under_the_log_is_named_and_not_mistaken(
    tmp_path: Path, pair: list[str], traits: tuple[str, ...]
) -> None:
    """Without its lines the log proves nothing, and explains nothing."""
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    small = tmp_path / "small"
    small.mkdir()
    fake = write_fake(tmp_path / "fake-python", *traits)
    serve = [sys.executable, "-m", "eagle3_plugin.cli", "serve", *pair, "--python", str(fake)]
    words = [*serve, "--port", str(free_port()), "--log", str(small / "log")]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", MOUNT, str(small), *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"error: the disk under the engine's log {small}/log is full: " in done.stderr
    assert "hint: Free some space, or name a file on another disk with --log." in done.stderr
    pids = next(line for line in done.stderr.splitlines() if line.startswith("pids "))
    assert survivors([int(word) for word in pids.split()[1:]]) == []


def test_a_broken_gpu_query_is_an_error_before_anything_starts(
    tmp_path: Path, pair: list[str]
) -> None:
    """And with --settings, or with --gpu, the query is not made at all."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'Unable to determine the device handle' >&2\nexit 15\n")
    smi.chmod(0o755)
    path = f"{smi.parent}{os.pathsep}{os.environ['PATH']}"
    words = [word for word in _words(pair, tmp_path) if word not in ("--settings", "3,4,8")]
    with serving(words, tmp_path / "log", PATH=path) as served:
        error = served.error()
    assert error.startswith(
        "error: nvidia-smi failed with exit code 15: Unable to determine the device handle"
    )
    assert not served.log.exists()
    with serving(_words(pair, tmp_path), tmp_path / "second", PATH=path) as served:
        served.wait_for(READY)


def test_a_draft_that_would_go_wrong_is_refused_and_forced(tmp_path: Path, pair: list[str]) -> None:
    """Stock SGLang with this draft is wrong; SGLANG_PLUGINS keeps ours away."""
    words = _words(pair, tmp_path, "stock")
    with serving(words, tmp_path / "log", SGLANG_PLUGINS="other") as refused:
        error = refused.error()
        assert "error [plugin-off] SGLANG_PLUGINS is 'other'" in refused.out.read_text()
    assert "in the check above; expected none before a start" in error
    assert not refused.log.exists()
    with serving([*words, "--force"], tmp_path / "log", SGLANG_PLUGINS="other") as forced:
        forced.wait_for(READY)
        assert "holds the draft" not in forced.out.read_text()
