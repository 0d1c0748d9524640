"""What the command line costs: converting 1 GB against `cp`, memory, and the start of `--help`.

    python -m tests.benchmarks.tools [PAIRS]

Every pair is run in turn, and the figure is the median ratio of the pairs; whole commands are
timed, with their start. Both sides of a copy end with their files on the disk (fsync); TMPDIR says
on which. Beside it: the converter of speculators 0.9.0 on the same draft, with `validate=False`.
Exit code 1 if a limit is exceeded. Needs a quiet machine: the start is all computing, `cp` waits.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stored import draft_shapes, write_sparse

ROOT = Path(__file__).resolve().parents[2]
EAGLE3 = Path(sys.executable).parent / "eagle3"

MAX_COPY_RATIO = 1.3
MAX_MEMORY_MB = 150
MAX_HELP_RATIO = 3.0

SHAPES = draft_shapes(
    hidden=4096, intermediate=20480, heads=32, kv_heads=8, head_dim=128, vocab=151936
)
"""A draft for an 8B target with a wider MLP: 1.0 GB in BF16."""

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 20480,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "draft_vocab_size": 32000,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
TARGET = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936}

SPECULATORS = """
import sys
from types import ModuleType
from unittest.mock import MagicMock
source, out, target = sys.argv[1:]
sys.modules["loguru"] = MagicMock()
from tests.peers import importable
with importable():
    from speculators.convert.eagle.eagle3_converter import Eagle3Converter
    Eagle3Converter().convert(source, out, target, validate=False)
"""
START = "import eagle3_plugin.cli, eagle3_plugin.draft.convert"
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Run:
    """One process: how long it took, and the most memory that it held."""

    seconds: float
    memory_mb: float


def main() -> None:
    num_pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"machine: {machine()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = copying(Path(folder), num_pairs)
    kept &= starting(2 * num_pairs)
    sys.exit(0 if kept else 1)


def machine() -> str:
    """Processor, number of CPUs, kernel and Python, as far as the system tells."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    python = platform.python_version()
    return f"{os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}, Python {python}"


def copying(folder: Path, num_pairs: int) -> bool:
    """Prints what conversion costs against cp; True if it keeps its limits."""
    source, target, out = folder / "draft", folder / "target", folder / "out"
    write_draft(source)
    target.mkdir()
    (target / "config.json").write_text(json.dumps(TARGET))
    size = sum(file.stat().st_size for file in source.iterdir())
    commands = {
        "cp": ["cp", "-r", str(source), str(out)],
        "eagle3": [str(EAGLE3), "convert", str(source), str(out), "--to", "vllm", "--json"],
        "speculators": [sys.executable, "-c", SPECULATORS, str(source), str(out), str(target)],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    starts = []
    for pair in range(num_pairs):
        starts.append(timed([sys.executable, "-c", START]).seconds)
        for name in commands if pair == 0 else ("cp", "eagle3"):
            runs[name].append(on_disk(commands[name], out))
            shutil.rmtree(out)
    ratio = median_ratio(runs["eagle3"], runs["cp"])
    memory = max(run.memory_mb for run in runs["eagle3"])
    print(f"\ncopying {size / 1e9:.2f} GB, measured, {num_pairs} pairs in turn, fsync included")
    print(f"{'':14}{'median s':>10}{'times cp':>10}{'memory MB':>11}   limit")
    limits = {"eagle3": f"{MAX_COPY_RATIO} times cp, {MAX_MEMORY_MB} MB"}
    for name, done in runs.items():
        seconds = statistics.median(run.seconds for run in done)
        times = seconds / statistics.median(run.seconds for run in runs["cp"])
        shown = ratio if name == "eagle3" else times
        peak = max(run.memory_mb for run in done)
        print(f"{name:14}{seconds:10.2f}{shown:10.2f}{peak:11.0f}   {limits.get(name, '')}")
    print(f"of eagle3's time, {statistics.median(starts):.2f} s are its start: imports")
    return ratio <= MAX_COPY_RATIO and memory <= MAX_MEMORY_MB


def starting(num_pairs: int) -> bool:
    """Prints what `eagle3 --help` costs against importing its libraries; True within the limit."""
    ours = [str(EAGLE3), "--help"]
    theirs = [sys.executable, "-c", "import typer, rich"]
    timed(ours)  # both once before, so that their files are in memory
    timed(theirs)
    pairs = [(timed(ours), timed(theirs)) for _ in range(num_pairs)]
    ratio = median_ratio([a for a, _ in pairs], [b for _, b in pairs])
    print(f"\nstarting, measured, {num_pairs} pairs in turn")
    for name, column in (("eagle3 --help", 0), ("import typer, rich", 1)):
        seconds = statistics.median(pair[column].seconds for pair in pairs)
        print(f"{name:20}{seconds:8.3f} s")
    print(f"{'ratio':20}{ratio:8.2f}     limit {MAX_HELP_RATIO}")
    return ratio <= MAX_HELP_RATIO


def on_disk(command: list[str], out: Path) -> Run:
    """The command, and then whatever of its output is not yet on the disk."""
    run = timed(command)
    started = time.perf_counter()
    for path in (*out.iterdir(), out):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return Run(run.seconds + time.perf_counter() - started, run.memory_mb)


def timed(command: list[str]) -> Run:
    """Runs the command; what it printed is shown only if it fails."""
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{log.read().decode(errors='replace')}")
    peak_bytes = usage.ru_maxrss * (1024 if platform.system() == "Linux" else 1)
    return Run(seconds, peak_bytes / 1e6)


def median_ratio(ours: list[Run], theirs: list[Run]) -> float:
    return statistics.median(a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True))


def write_draft(folder: Path) -> None:
    """The draft on the disk, with random bits for weights."""
    write_sparse(folder, CONFIG, SHAPES)
    path = folder / "model.safetensors"
    at = path.stat().st_size - CONFIG["vocab_size"]
    with path.open("r+b") as file:
        file.seek(at - at % _CHUNK_BYTES)
        for start in range(_CHUNK_BYTES, at, _CHUNK_BYTES):
            file.seek(start)
            file.write(os.urandom(min(_CHUNK_BYTES, at - start)))
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
