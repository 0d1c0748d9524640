"""Lines of real logs, and what they are taken for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pytest

from eagle3_plugin.errors import OutputError
from eagle3_plugin.serving.causes import CAUSES, cause_of, failure, require_disk

LINES = {
    "port-in-use": (
        "OSError: [Errno 98] Address already in use",
        "[Errno 98] error while attempting to bind on address ('127.0.0.1', 30000): address "
        "already in use",
    ),
    "context-length": (
        "Value error, User-specified max_model_len (999999) is greater than the derived "
        "max_model_len (max_position_embeddings=1024 or model_max_length=None in model's "
        "config.json).",
        "ValueError: Warning: User-specified context_length (999999) is greater than the derived "
        "context_length (1024).",
    ),
    "context-memory": (
        "ValueError: To serve at least one request with the model's max seq len (262144), (36.0 "
        "GiB KV cache is needed, which is larger than the available KV cache memory (10.5 GiB).",
    ),
    "memory-taken": (
        "ValueError: Free memory on device cuda:0 (3.1/23.6 GiB) on startup is less than desired "
        "GPU memory utilization (0.92, 21.7 GiB).",
    ),
    "no-kv-memory": (
        "ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization` when initializing the engine",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current "
        "value: mem_fraction_static=0.3",
        "ValueError: Loaded weights leave no GPU memory for the KV cache under "
        "--mem-fraction-static=0.2.",
    ),
    "out-of-memory": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 1000 bytes.",
    ),
    "no-kernel": (
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the "
        "device",
        "ModuleNotFoundError: No module named 'sgl_kernel'",
        "OSError: libcuda.so.1: cannot open shared object file: No such file or directory",
        "ValueError: EAGLE is not supported in decode attention backend torch_native",
    ),
    "gated": (
        "You are trying to access a gated repo.\nMake sure to have access to it at "
        "https://huggingface.co/org/name.",
    ),
    "not-found": (
        "OSError: org/nam is not a local folder and is not a valid model identifier listed on "
        "'https://huggingface.co/models'",
    ),
    "offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached "
        "snapshot folder",
    ),
    "unknown-flag": (
        "launch_server.py: error: ambiguous option: --cuda-graph-max-bs could match "
        "--cuda-graph-max-bs-decode, --cuda-graph-max-bs-prefill",
        "api_server.py: error: unrecognized arguments: --nonsense",
    ),
}


@pytest.mark.parametrize(
    ("id", "line"), [(id, line) for id, lines in LINES.items() for line in lines]
)
def test_a_line_of_a_log_names_its_cause(id: str, line: str) -> None:
    found = cause_of(f"loading\n{line}\nbye")
    assert found is not None
    assert found.id == id


def test_every_cause_has_a_line_a_remedy_and_a_source() -> None:
    assert [cause.id for cause in CAUSES] == list(LINES)
    assert all(cause.remedy.endswith(".") and cause.source for cause in CAUSES)


def test_what_the_engine_says_of_itself_is_no_cause() -> None:
    assert cause_of("server_args=ServerArgs(chat='Address already in use')") is None
    assert cause_of("ready\nAvg generation throughput: 1.0") is None


@pytest.mark.parametrize(
    ("engine", "flag"), [("vllm", "--max-model-len"), ("sglang", "--context-length")]
)
def test_the_remedy_names_the_engines_own_flag(
    engine: Literal["vllm", "sglang"], flag: str
) -> None:
    found = cause_of(LINES["context-length"][0])
    assert found is not None
    assert found.remedy_for(engine) == (f"Ask for less with {flag} after --, or leave it out.")


def test_a_failure_has_cause_errors_last_lines_and_remedy(tmp_path: Path) -> None:
    log = tmp_path / "log"
    noise = [f"noise {i}" for i in range(30)]
    first = (
        "(Worker pid=7) ERROR 11-22 01:20:17 [a.py:1] torch.OutOfMemoryError: CUDA out of memory"
    )
    log.write_text("\n".join([first, *noise]))
    error = failure("it ended", "vllm", log)
    assert error.message == "\n".join(
        [
            "it ended",
            "cause [out-of-memory]: the GPU ran out of memory",
            "errors in its log:",
            "torch.OutOfMemoryError: CUDA out of memory",
            "its last lines:",
            *noise[10:],
        ]
    )
    assert error.hint == (
        "Leave more of it free: a smaller share with --gpu-memory-utilization after --, fewer "
        "requests with --concurrency, smaller settings, or more GPUs with --num-gpus.\n"
        f"The whole log: {log}"
    )


def test_a_failure_without_a_log_or_a_cause_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    error = failure("it ended", "vllm", log)
    assert error.message == "it ended\nits log is empty"
    assert error.hint == f"The whole log: {log}"


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_disk(tmp_path / "log")
    usage = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError) as caught:
        require_disk(tmp_path / "log")
    assert caught.value.message == (
        f"the disk under the engine's log {tmp_path}/log is full: 4 KiB free, expected at least "
        "1024 KiB; what the engine wrote last is lost"
    )
