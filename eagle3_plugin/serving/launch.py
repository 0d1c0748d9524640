"""One server for as long as its user wants it: started, proved, tried, and gone afterwards.

Stages: the engine loads; it answers `/health`; its log proves that our class holds the draft; one
test request; it serves. A signal ends it at each of them, and so does the death of this process
(`warden.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm
from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.causes import failure, require_disk
from eagle3_plugin.serving.compose import Command
from eagle3_plugin.serving.follow import following
from eagle3_plugin.serving.held import held_log, held_port
from eagle3_plugin.serving.process import Server, start
from eagle3_plugin.serving.trial import Tried, answer_to_test, is_healthy

Engine = Literal["vllm", "sglang"]
POLL_S: Final = 0.1
GRACE_S: Final = 10.0
DYING_S: Final = 3.0

KILLED: Final = 128 + signal.SIGKILL
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROOFS: Final = {"vllm": vllm.require_served, "sglang": sglang.require_served}


@dataclass(frozen=True)
class Launch:
    """What to start. is_proved: the log must say that our class holds the draft."""

    engine: Engine
    command: Command
    log_path: Path
    timeout_s: float
    is_proved: bool

    @property
    def url(self) -> str:
        return self.command.url


@dataclass(frozen=True)
class Voice:
    """Who is told what: a line of the engine's log, a stage that is over, the seconds so far."""

    line: Callable[[str], None]
    stage: Callable[[str], None]
    elapsed: Callable[[float], None]


def launch(wanted: Launch, voice: Voice) -> int:
    """Serves until a signal says stop: 128 + its number. Raises EngineError in any other case."""
    command, path = wanted.command, wanted.log_path
    with held_port(command.port), held_log(path), _signals() as caught:
        require_disk(path)
        server = start(command.words, env=command.env, port=command.port, log_path=path)
        watch = _Watch(wanted, server, voice, caught)
        with following(path, voice.line):
            try:
                return watch.run()
            finally:
                watch.stop()


@dataclass(frozen=True)
class _Watch:
    """A started server and the signals that came since; each step looks at both."""

    launch: Launch
    server: Server
    voice: Voice
    caught: list[int]

    def run(self) -> int:
        steps = (self._until_healthy, self._prove, self._try, self._serve)
        for step in steps:
            step()
            if self.caught:
                return self._end(self.caught[0])
        raise AssertionError("_serve returns only after a signal")

    def _goes_on(self, stage: str) -> bool:
        """Whether to go on waiting; raises when the engine has ended."""
        code = self.server.exit_code
        if self.caught:
            return False
        if code is not None:
            require_disk(self.launch.log_path)
            raise self._failure(f"the engine ended with exit code {code} {stage}", code == KILLED)
        return True

    def _until_healthy(self) -> None:
        begin = time.monotonic()
        while self._goes_on("before it answered"):
            elapsed_s = time.monotonic() - begin
            self.voice.elapsed(elapsed_s)
            if is_healthy(self.launch.command):
                return self.voice.stage(f"healthy after {elapsed_s:.0f} s")
            if elapsed_s > self.launch.timeout_s:
                raise self._failure(
                    f"the engine does not answer {self.launch.url}/health after "
                    f"{self.launch.timeout_s:g} s; expected 200",
                )
            time.sleep(POLL_S)

    def _prove(self) -> None:
        if not self.launch.is_proved or self.caught:
            return
        text = self.launch.log_path.read_text(encoding="utf-8", errors="replace")
        try:
            PROOFS[self.launch.engine](text)
        except EngineError:
            require_disk(self.launch.log_path)
            raise
        self.voice.stage("the plugin holds the draft: its line is in the engine's log")

    def _try(self) -> None:
        """In a thread, so that signals and the engine's end are seen meanwhile."""
        answers: list[Tried | EngineError] = []
        thread = threading.Thread(
            target=lambda: answers.append(answer_to_test(self.launch.command)), daemon=True
        )
        thread.start()
        while not answers:
            if not self._goes_on("at the test request"):
                return
            time.sleep(POLL_S)
        tried = answers[0]
        if isinstance(tried, EngineError):
            if self._lasts(DYING_S, "at the test request"):
                raise self._failure(tried.message)
            return
        self.voice.stage(
            f"test request answered: {tried.num_tokens} tokens in {tried.elapsed_s:.1f} s "
            f"by {tried.model}"
        )
        self.voice.stage(f"serving at {self.launch.url} (Ctrl-C stops it)")

    def _lasts(self, seconds: float, stage: str) -> bool:
        """Whether it goes on for that long; an engine that dies closes its socket first."""
        deadline = time.monotonic() + seconds
        while self._goes_on(stage):
            if time.monotonic() > deadline:
                return True
            time.sleep(POLL_S)
        return False

    def _serve(self) -> None:
        while self._goes_on("while it served"):
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ends what is left; the next signal kills it at once."""
        num_heeded = min(1, len(self.caught))
        self.server.begin_stop()
        while self.server.exit_code is None:
            self._kill_after(num_heeded)
        self.server.stop()

    def _end(self, signum: int) -> int:
        """Hands the signal on, and leaves the engine a while to end by it."""
        self.voice.stage(f"{signal.Signals(signum).name}: stopping the engine")
        self._signal(signum)
        deadline = time.monotonic() + GRACE_S
        while self.server.exit_code is None and time.monotonic() < deadline:
            self._kill_after(1)
        return 128 + signum

    def _kill_after(self, num_signals: int) -> None:
        """Kills the engine where more signals came than that; else waits a moment."""
        if len(self.caught) > num_signals:
            self._signal(signal.SIGKILL)
        time.sleep(POLL_S)

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.server.pid, signum)

    def _failure(self, what: str, killed: bool = False) -> EngineError:
        return failure(what, self.launch.engine, self.launch.log_path, killed=killed)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came so far; they interrupt nothing.

    One that we were started to ignore stays ignored: nohup says so of SIGHUP, and a shell without
    job control of SIGINT for what it runs in the background.
    """
    caught: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        caught.append(signum)

    heeded = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, note) for signum in heeded}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
