"""A small real HTTP server behind `--python`, for faults where the engine is irrelevant.

`write_fake(path, traits)` makes an executable that answers as a Python with an engine and our
plugin, and serves when it is run as an engine. It prints the ids of its processes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FAKE = """#!{python}
import http.server, json, os, signal, subprocess, sys, time
TRAITS = {traits!r}
if "-c" in sys.argv:
    print(json.dumps({{"engine": "0.5.23", "plugin": "0.1.0"}}))
    sys.exit()
port = int(sys.argv[sys.argv.index("--port") + 1])
key = sys.argv[sys.argv.index("--api-key") + 1] if "--api-key" in sys.argv else None
nap = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(nap), subprocess.Popen(nap, start_new_session=True)]
print("pids", os.getpid(), *[child.pid for child in children], flush=True)
for name in ("SIGINT", "SIGTERM"):
    def note(signum, frame, name=name):
        print("engine got", name, flush=True)
        if "stubborn" not in TRAITS:
            sys.exit(0)
    signal.signal(getattr(signal, name), note)
print("\\x1b[32mserver_args: api_key=" + str(key) + "\\x1b[0m", flush=True)
if "stock" not in TRAITS:
    print("eagle3_plugin 0.1.0 serves this draft as it was trained, taps [1]", flush=True)
for trait in TRAITS:
    if trait.startswith("die "):
        sys.exit(trait.removeprefix("die "))
    if trait.startswith("flood "):
        for _ in range(int(trait.removeprefix("flood "))):
            try:
                print("x" * 1000, flush=True)
            except OSError:
                pass
while "loading" in TRAITS:
    time.sleep(0.1)
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def may(self):
        if key and self.headers.get("Authorization") != "Bearer " + key:
            self.answer(401, {{"error": "Unauthorized"}})
        return not key or self.headers.get("Authorization") == "Bearer " + key
    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {{}})
        elif self.may():
            self.answer(200, {{"data": [{{"id": "tiny"}}]}})
    def do_POST(self):
        print("test request", flush=True)
        while "hang" in TRAITS:
            time.sleep(0.1)
        if "fail" in TRAITS:
            self.answer(500, {{"error": "no head"}})
        elif "drop" in TRAITS:
            os._exit(7)
        elif self.may():
            self.answer(200, {{"usage": {{"completion_tokens": 0 if "mute" in TRAITS else 8}}}})
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Serving:
    """An `eagle3 serve` that runs, with what it prints in files."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    log: Path

    def wait_for(self, text: str, within_s: float = 60) -> None:
        """Until it has printed that text on either stream."""
        deadline = time.monotonic() + within_s
        while text not in self.printed():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} (exit {ended}) in:\n{self.printed()}")
            time.sleep(0.05)

    def printed(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def error(self) -> str:
        """From the wrapper's own line `error: ` on, after its end."""
        self.process.wait(timeout=60)
        text = self.err.read_text()
        return "error: " + re.split(r"^error: ", text, maxsplit=1, flags=re.MULTILINE)[1]

    def pids(self) -> list[int]:
        """The engine and its two children, as it printed them."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("pids ")]
        return [int(word) for word in lines[-1].split()[1:]]


def write_fake(path: Path, *traits: str) -> Path:
    """The executable, to be named with --python."""
    path.write_text(FAKE.format(python=sys.executable, traits=traits))
    path.chmod(0o755)
    return path


@contextmanager
def serving(words: Sequence[str | Path], log: Path, **settings: str) -> Iterator[Serving]:
    """`eagle3 serve WORDS --log LOG`; ended when the block is."""
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    typed = [str(word) for word in words]
    at = typed.index("--") if "--" in typed else len(typed)
    typed[at:at] = ["--log", str(log)]
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            [sys.executable, "-m", "eagle3_plugin.cli", "serve", *typed],
            stdout=to_out,
            stderr=to_err,
            env={**os.environ, **settings},
        )
    try:
        yield Serving(process, out, err, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def survivors(pids: Sequence[int], within_s: float = 30) -> list[int]:
    """Those that still live after that time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and any(map(lives, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if lives(pid)]


def lives(pid: int) -> bool:
    """Whether it runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def family(pid: int) -> dict[int, str]:
    """The command lines of a process's children and theirs, as far down as they go."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            found |= {child: b" ".join(words).decode(errors="replace"), **family(child)}
    return found
