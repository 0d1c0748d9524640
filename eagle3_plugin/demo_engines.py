"""The engines that the demo can serve with: where they are, and how they start on a CPU."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eagle3_plugin.engines.sglang import command as sglang
from eagle3_plugin.engines.vllm import command as vllm
from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.settings import chain

if TYPE_CHECKING:
    from eagle3_plugin.serving.process import Progress, Server

TITLES = {"vllm": "vLLM", "sglang": "SGLang"}
BOTH = "both"
CHAIN = 3
START_TIMEOUT_S = 600.0
VLLM_FLAGS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512",
              "--max-num-seqs", "8", "--no-enable-prefix-caching")  # fmt: skip
SGLANG_FLAGS = (*sglang.CPU_FLAGS, "--dtype", "float32", "--max-total-tokens", "8192",
                "--max-running-requests", "8", "--disable-radix-cache")  # fmt: skip


@dataclass(frozen=True)
class DemoEngine:
    """An engine, and the Python of its environment."""

    name: str
    python: str

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @contextmanager
    def server(
        self, target: Path, draft: Path | None, log_path: Path, progress: Progress
    ) -> Iterator[Server]:
        """A healthy server; with a draft, one whose log proves that our class holds it.

        vLLM needs no proof: it does not start when a plugin raises.
        """
        from eagle3_plugin.serving.process import free_port, running

        port = free_port()
        named = None if draft is None else str(draft)
        with running(
            COMMANDS[self.name](self.python, str(target), port, named),
            env=self._environment(),
            port=port,
            log_path=log_path,
            timeout_s=START_TIMEOUT_S,
            progress=progress,
            proof=sglang.require_served if draft and self.name == "sglang" else None,
        ) as server:
            yield server

    def _environment(self) -> dict[str, str]:
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        if self.name == "vllm":
            return vllm.CPU_ENVIRONMENT | threads
        return sglang.cpu_environment(self.python) | threads


def choose(engine: str | None, python: str | None) -> tuple[DemoEngine, ...]:
    """The engines of that name (`both` = two); None = vLLM if it is found, else SGLang.

    Raises UsageError for an unknown name, and EngineError when an environment is not found.
    """
    if engine not in (None, BOTH, *TITLES):
        raise UsageError(f"no demo for {engine!r}; there is: {', '.join(TITLES)}, {BOTH}")
    if python is not None and engine == BOTH:
        raise UsageError(
            "--python names one environment, and --engine both needs two; give one engine, or "
            "leave --python out"
        )
    if python is not None:
        return (DemoEngine(engine or "vllm", python),)
    names = tuple(TITLES) if engine in (None, BOTH) else (engine,)
    found = {name: find_python(name) for name in names if name is not None}
    there = tuple(DemoEngine(name, path) for name, path in found.items() if path is not None)
    if engine is None and there:
        return there[:1]
    if len(there) < len(found):
        raise _missing([name for name, path in found.items() if path is None])
    return there


def find_python(engine: str) -> str | None:
    """This Python if it has the engine, else that of `.venvs/ENGINE` (what `make setup` builds)."""
    if importlib.util.find_spec(engine) is not None:
        return sys.executable
    local = Path(".venvs") / engine / "bin" / "python"
    return str(local.absolute()) if local.exists() else None


def _missing(names: list[str]) -> EngineError:
    titles = " and ".join(TITLES[name] for name in names)
    folders = " and no ".join(f".venvs/{name}" for name in names)
    verb = "is" if len(names) == 1 else "are"
    return EngineError(
        f"{titles} {verb} not installed here, and there is no {folders}",
        hint="Run `make setup`, or name one engine with --engine and the Python of its environment "
        "with --python.",
    )


def _vllm_command(python: str, target: str, port: int, draft: str | None) -> list[str]:
    return vllm.server_command(
        python, target, port, draft=draft, num_speculative_tokens=CHAIN, flags=VLLM_FLAGS
    )


def _sglang_command(python: str, target: str, port: int, draft: str | None) -> list[str]:
    return sglang.server_command(
        python, target, port, draft=draft, settings=chain(CHAIN), flags=SGLANG_FLAGS
    )


COMMANDS: Mapping[str, Callable[[str, str, int, str | None], list[str]]] = {
    "vllm": _vllm_command,
    "sglang": _sglang_command,
}
