"""A folder of finished results, each named by its recipe and made by a process of its own.

A result appears by one rename, so a killed run leaves only a `.partial` folder, which the next
run removes. A lock keeps two runs from making the same thing twice; the system drops it when its
holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.tiny.progress import Update

ENVIRONMENT = "EAGLE3_CACHE"
WORKER = "eagle3_plugin.tiny.worker"


def cache_folder() -> Path:
    """Where results are kept: $EAGLE3_CACHE/tiny, else the user's cache folder."""
    own = os.environ.get(ENVIRONMENT)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eagle3"
    return (Path(own) if own else user) / "tiny"


def ensure(folder: Path, job: Mapping[str, Any], update: Update) -> Path:
    """`folder`, made by the worker from `job` if it is not there yet."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(folder.name + ".lock")):
        if folder.is_dir():
            return folder
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _run_worker({**job, "out": str(partial)}, partial / "log.txt", update)
        (partial / "log.txt").unlink()
        _publish(partial, folder)
    return folder


def _publish(partial: Path, folder: Path) -> None:
    """Renames; where a copy of the same result was put there meanwhile, that one is kept."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run_worker(job: Mapping[str, Any], log: Path, update: Update) -> None:
    """Runs the job in a fresh, single-threaded interpreter, which ends when this process does."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
    }
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", WORKER, json.dumps(job)]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                update(*json.loads(line))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Eagle3Error(
            f"training the tiny pair ended with status {process.returncode}; its last lines:\n"
            + "\n".join(log.read_text(errors="replace").splitlines()[-8:]),
            hint="Nothing was cached; run the same command again.",
        )
