"""What every training job does around its work: say how far it is, end in time, write a recipe."""

from __future__ import annotations

import json
import os
import resource
import threading
from pathlib import Path
from typing import Any

import torch

from eagle3_plugin.tiny.parallel import Worker
from eagle3_plugin.tiny.recipes import precision
from eagle3_plugin.tiny.target import Progress

RECIPE = "recipe.json"


def end_with_parent(worker: Worker) -> None:
    """Ends the first worker when standard input does; the second one ends with the first."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    if worker.rank == 0:
        threading.Thread(target=wait, daemon=True).start()


def print_progress(worker: Worker, what: str, total: int) -> Progress:
    """Prints each step of the first worker; the second one keeps silent."""

    def update(done: int) -> None:
        if worker.rank == 0:
            print(json.dumps([what, done, total]), flush=True)

    return update


def training_dtype() -> torch.dtype:
    return getattr(torch, precision())  # type: ignore[no-any-return]


def write_recipe(out: Path, recipe: dict[str, Any]) -> None:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(u.ru_utime + u.ru_stime for u in used)
    text = json.dumps({**recipe, "precision": precision(), "cpu_s": round(cpu_s, 1)}, indent=2)
    (out / RECIPE).write_text(text + "\n")
