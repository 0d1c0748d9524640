"""The GPUs of this machine, as nvidia-smi and rocm-smi report them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from eagle3_plugin.errors import Eagle3Error

TIMEOUT_S: Final = 15.0
_NVIDIA = (
    "nvidia-smi",
    "--query-gpu=name,memory.total",
    "--format=csv,noheader,nounits",
)
_ROCM = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
_NO_DEVICES = "No devices were found"
_HINT = "Run the query by hand to see what is wrong, or name the GPU with --gpu."


@dataclass(frozen=True)
class LocalGpu:
    """One GPU of this machine; `mem_gib` None = the driver does not tell (unified memory)."""

    name: str
    mem_gib: float | None


def local_gpus(timeout_s: float = TIMEOUT_S) -> tuple[LocalGpu, ...]:
    """The GPUs of this machine in the driver's order; empty when there is no such tool.

    Raises Eagle3Error when a query fails, hangs longer than `timeout_s`, or answers something
    that is not a list of GPUs.
    """
    return (*_nvidia_gpus(timeout_s), *_amd_gpus(timeout_s))


def _nvidia_gpus(timeout_s: float) -> list[LocalGpu]:
    text = _output(_NVIDIA, timeout_s)
    return [_nvidia_gpu(line) for line in text.splitlines() if line.strip()]


def _nvidia_gpu(line: str) -> LocalGpu:
    name, comma, memory = (part.strip() for part in line.rpartition(","))
    is_number = memory.isdigit()
    if not comma or not name or not (is_number or memory.startswith("[")):
        raise _unreadable(_NVIDIA, line, 'lines of "name, memory in MiB"')
    return LocalGpu(name, int(memory) / 1024 if is_number else None)


def _amd_gpus(timeout_s: float) -> list[LocalGpu]:
    """rocm-smi prints warnings before the JSON; ROCm 5 writes "Card series", 6 "Card Series"."""
    text = _output(_ROCM, timeout_s)
    start = text.find("{")
    if not text.strip():
        return []
    try:
        cards = json.loads(text[start:]) if start >= 0 else None
    except json.JSONDecodeError:
        cards = None
    if not isinstance(cards, dict):
        raise _unreadable(_ROCM, text, "a JSON object with one entry per card")
    return [_amd_gpu(cards[key]) for key in sorted(cards, key=_index) if key.startswith("card")]


def _amd_gpu(card: Any) -> LocalGpu:
    pairs = card.items() if isinstance(card, dict) else ()
    values = {key.casefold(): str(value) for key, value in pairs}
    name = values.get("card series") or values.get("card model")
    memory = values.get("vram total memory (b)", "")
    if not name or not memory.isdigit():
        raise _unreadable(_ROCM, json.dumps(card), "Card Series and VRAM Total Memory (B)")
    return LocalGpu(name, int(memory) / 2**30)


def _index(key: str) -> int:
    digits = key.removeprefix("card")
    return int(digits) if digits.isdigit() else -1


def _output(command: tuple[str, ...], timeout_s: float) -> str:
    """What the command prints; empty when the tool is not installed or finds no device."""
    if shutil.which(command[0]) is None:
        return ""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        raise Eagle3Error(
            f"{command[0]} did not answer within {timeout_s:g} s; expected the list of GPUs",
            hint="A hanging query points to the driver. " + _HINT,
        ) from None
    if _NO_DEVICES in out:
        return ""
    if process.returncode != 0:
        said = (err.strip() or out.strip() or "nothing").splitlines()[0]
        raise Eagle3Error(
            f"{command[0]} failed with exit code {process.returncode}: {said}", hint=_HINT
        )
    return out


def _end(process: subprocess.Popen[str]) -> None:
    """Kills the query and its children; a query stuck in the driver is left to the kernel."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1)


def _unreadable(command: tuple[str, ...], found: str, expected: str) -> Eagle3Error:
    shown = found.strip()[:120]
    return Eagle3Error(f"{command[0]} answered {shown!r}; expected {expected}", hint=_HINT)
