"""Why an engine ended, and what to do: known lines of its log, and the error made of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from eagle3_plugin.errors import EngineError, OutputError
from eagle3_plugin.serving.process import ANSI, CAUSE, NUM_LAST_LINES, SPEAKER, tail

Engine = Literal["vllm", "sglang"]
NUM_ERRORS: Final = 5
NUM_LINES: Final = 10_000
MIN_FREE_BYTES: Final = 1024**2
"""A disk with less is full: a log is written in pieces that may no longer fit."""

MEMORY_FLAG: Final[Mapping[Engine, str]] = {
    "vllm": "--gpu-memory-utilization",
    "sglang": "--mem-fraction-static",
}
LENGTH_FLAG: Final[Mapping[Engine, str]] = {
    "vllm": "--max-model-len",
    "sglang": "--context-length",
}
PLACES: Final = ("memory", "length")


@dataclass(frozen=True)
class Cause:
    """One known reason. pattern: of a line in the log; `source` says which code writes it.

    remedy: {memory} and {length} stand for the engine's own flags.
    """

    id: str
    pattern: re.Pattern[str]
    what: str
    remedy: str
    source: str

    def remedy_for(self, engine: Engine) -> str:
        return self.remedy.format(memory=MEMORY_FLAG[engine], length=LENGTH_FLAG[engine])


_ROWS: Final = (
    ("port-in-use", r"Address already in use|address already in use|port \d+ is in use",
     "another process listens on the port", "Stop it, or choose another port with --port.",
     "strerror of EADDRINUSE; SGLang 0.5.23 srt/utils/network.py:82-97"),
    ("context-length",
     r"max_model_len \(\d+\) is greater than|context_length \(\d+\) is greater than",
     "the asked context is longer than the model's own",
     "Ask for less with {length} after --, or leave it out.",
     "vLLM 0.32.0 config/model.py:2646; SGLang 0.5.23 srt/configs/model_config.py:1299"),
    ("context-memory", r"KV cache is needed, which is larger than the available KV cache",
     "one request of the model's full context does not fit the memory left for the KV cache",
     "Ask for a shorter context with {length} after --, for example {length} 16384.",
     "vLLM 0.32.0 v1/core/kv_cache_utils.py:1030"),
    ("memory-taken", r"Free memory on device .* is less than",
     "other processes hold memory of the GPU",
     "Stop them (nvidia-smi lists them), or ask for a smaller share with {memory} after --.",
     "vLLM 0.32.0 v1/worker/utils.py:762"),
    ("no-kv-memory",
     r"No available memory for the cache blocks|Not enough memory\. Please try to increase --mem-f"
     r"|Loaded weights leave no GPU memory for the KV cache",
     "the weights leave no memory for the KV cache",
     "Give a larger share with {memory} after --, a quantised target, or more GPUs with "
     "--num-gpus.",
     "vLLM 0.32.0 v1/core/kv_cache_utils.py:1011; SGLang 0.5.23 "
     "srt/model_executor/pool_configurator.py:96, srt/mem_cache/kv_cache_configurator.py:3052"),
    ("out-of-memory",
     r"OutOfMemoryError|CUDA out of memory|HIP out of memory|CUDA error: out of memory"
     r"|CUDA_ERROR_OUT_OF_MEMORY|DefaultCPUAllocator: can't allocate memory",
     "the GPU ran out of memory",
     "Leave more of it free: a smaller share with {memory} after --, fewer requests with "
     "--concurrency, smaller settings, or more GPUs with --num-gpus.",
     "torch 2.13 c10/cuda/CUDACachingAllocator.cpp, c10/core/impl/alloc_cpu.cpp"),
    ("no-kernel",
     r"no kernel image is available|No module named '(?:sgl_kernel|flashinfer|vllm\._C)"
     r"|libcuda\.so\.1: cannot open shared object|sgl_kernel.*(?:undefined symbol|not found)"
     r"|not supported in (?:decode|prefill) attention backend",
     "a kernel for this device is missing",
     "Install the engine's build for this GPU and driver, choose another --attention-backend "
     "after --, or try it on the CPU with --device cpu.",
     "cudaErrorNoKernelImageForDevice; seen in SGLang 0.5.23 and vLLM 0.32.0"),
    ("gated", r"gated repo|GatedRepoError|Access to model .* is restricted",
     "the repository is gated: its owner grants access on request",
     "Ask for access on the repository's page, then set HF_TOKEN (or run `hf auth login`) as the "
     "user that serves.",
     "huggingface_hub 1.0 errors.py; transformers 5.19 utils/hub.py:611, 708"),
    ("not-found", r"RepositoryNotFoundError|is not a local folder and is not a valid model",
     "there is no such repository, or it is private",
     "Check the spelling; for a private one set HF_TOKEN as the user that serves.",
     "huggingface_hub 1.0 errors.py; transformers 5.19 utils/hub.py"),
    ("offline", r"LocalEntryNotFoundError|OfflineModeIsEnabled|Name or service not known"
     r"|Temporary failure in name resolution",
     "files are not in the cache, and the hub cannot be reached",
     "Run it once with the network, or name a folder.",
     "huggingface_hub 1.0 errors.py; getaddrinfo"),
    ("unknown-flag", r"error: (?:unrecognized arguments|ambiguous option|argument )",
     "the engine does not know a flag, or refuses its value",
     "Correct the words after --; ours fit vLLM 0.32 and SGLang 0.5.23.",
     "Python's argparse"),
)  # fmt: skip

CAUSES: Final = tuple(
    Cause(id, re.compile(pattern), what, remedy, source)
    for id, pattern, what, remedy, source in _ROWS
)
"""Asked in this order; the first that a log's lines fit is named."""


def cause_of(log_text: str) -> Cause | None:
    """The first known cause in an engine's log; a line of the server's arguments is none."""
    lines = [line for line in log_text.splitlines() if "server_args=" not in line]
    text = "\n".join(lines)
    return next((cause for cause in CAUSES if cause.pattern.search(text)), None)


def failure(what: str, engine: Engine, log_path: Path, *, killed: bool = False) -> EngineError:
    """The error for an engine that failed: cause, errors and last lines of its log, remedy.

    killed: it ended by SIGKILL, which no log names.
    """
    lines = [SPEAKER.sub("", line) for line in tail(log_path, NUM_LINES)]
    cause = cause_of("\n".join(lines))
    last = lines[-NUM_LAST_LINES:]
    shown = [what]
    hints = []
    if cause is not None:
        shown.append(f"cause [{cause.id}]: {cause.what}")
        hints.append(cause.remedy_for(engine))
    elif killed:
        shown.append("cause [killed]: it was killed by signal 9, by somebody or for lack of memory")
        hints.append("See `dmesg` for the kernel's out-of-memory killer; leave more memory free.")
    above = _errors_above(lines, last)
    if above:
        shown += ["errors in its log:", *above]
    shown += ["its last lines:", *last] if last else ["its log is empty"]
    return EngineError("\n".join(shown), hint="\n".join([*hints, f"The whole log: {log_path}"]))


def require_disk(log_path: Path) -> None:
    """Raises OutputError when the log's disk is full: then its silence says nothing."""
    free = shutil.disk_usage(log_path.parent).free
    if free >= MIN_FREE_BYTES:
        return
    raise OutputError(
        f"the disk under the engine's log {log_path} is full: {free // 1024} KiB free, expected "
        f"at least {MIN_FREE_BYTES // 1024} KiB; what the engine wrote last is lost",
        hint="Free some space, or name a file on another disk with --log.",
    )


def plain(text: str) -> str:
    """A line without colours."""
    return ANSI.sub("", text)


def _errors_above(lines: list[str], last: list[str]) -> list[str]:
    """Errors that the log names before its last lines, each once."""
    errors = dict.fromkeys(line.strip() for line in lines if CAUSE.search(line))
    return [error for error in errors if not any(error in line for line in last)][-NUM_ERRORS:]
