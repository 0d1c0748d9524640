"""The servers that are measured: URLs that were given, or processes that we start and stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.measuring.result import Served
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.serving.acceptance import PER_REQUEST
from eagle3_plugin.serving.choice import GPU_FLAGS, Chosen
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.compose import Command, compose, require_private
from eagle3_plugin.serving.compose import Served as ToServe
from eagle3_plugin.serving.launch import PROOFS
from eagle3_plugin.serving.process import Progress, Server, free_port, running
from eagle3_plugin.serving.words import SPECULATION_FLAGS, setting, without

HOW_KEYS: Final = frozenset({
    "attention_backend", "disable_eagle_block_drop", "disable_padded_drafter_batch",
    "draft_load_config", "draft_sample_method", "draft_tensor_parallel_size", "enforce_eager",
    "kv_cache_dtype", "max_model_len", "moe_backend", "quantization", "use_local_argmax_reduction",
})  # fmt: skip
"""Of vLLM's speculative config, what leaves the method, the draft and the settings as they are
(0.32.0, config/speculative.py)."""

DEVELOPER: Final = {"VLLM_SERVER_DEV_MODE": "1"}
"""With which vLLM's server has /reset_prefix_cache."""

EMPTY_WITHIN_S: Final = 10.0
POLL_S: Final = 0.1


class Host(Protocol):
    """Something that a server is reached through."""

    @property
    def name(self) -> str: ...

    @property
    def where(self) -> str | None:
        """Its URL; None for a server of ours, which is somewhere else at each start."""
        ...

    @property
    def serves(self) -> str | None:
        """Model and release, as the server said before the run; None for a server of ours."""
        ...

    def opened(self) -> contextlib.AbstractContextManager[Opened]:
        """A server that answers, for the length of a `with` block."""
        ...


@dataclass(frozen=True)
class Opened:
    """A server that answers. exit_code: of its process; None while it runs, or is not ours."""

    client: Client
    served: Served
    server: Server | None

    @property
    def exit_code(self) -> int | None:
        return None if self.server is None else self.server.exit_code

    def empty_cache(self) -> None:
        """Lets a server of ours forget all prompts; those of others are left as they are.

        An engine refuses while a request that was just answered is still being put away.
        """
        deadline = time.monotonic() + EMPTY_WITHIN_S
        while self.server is not None:
            try:
                return self.client.empty_cache()
            except EngineError:
                if time.monotonic() > deadline or self.exit_code is not None:
                    raise
                time.sleep(POLL_S)


@dataclass(frozen=True)
class UrlHost:
    """A server that somebody else runs. serves: see Host; None = it was not asked."""

    name: str
    url: str
    timeout_s: float
    serves: str | None = None

    @property
    def where(self) -> str:
        return self.url

    @contextlib.contextmanager
    def opened(self) -> Iterator[Opened]:
        client = Client.connect(self.url, timeout_s=self.timeout_s)
        yield Opened(client, Served(
            name=self.name, settings="unknown", url=self.url, command=None, started_s=None, notes=()
        ), None)  # fmt: skip


@dataclass(frozen=True)
class OwnHost:
    """A server that we start. to_serve: its port is not used, each start takes a free one.

    flags: ours, which the user's words replace. is_proved: the log must say that our class holds
    the draft. started: told the name and the command as it may be printed. notes: see Served.
    """

    name: str
    choice: Choice
    to_serve: ToServe
    num_gpus: int
    flags: tuple[str, ...]
    words: tuple[str, ...]
    log_path: Path
    timeout_s: float
    start_timeout_s: float
    is_proved: bool
    notes: tuple[str, ...]
    started: Callable[[str, str], None]
    progress: Progress

    def __post_init__(self) -> None:
        speculation = _speculation(self.words)
        if speculation:
            raise UsageError(
                f"{', '.join(speculation)} after --; expected nothing that sets speculation: each "
                "server is measured under the settings that it is named after",
                hint="Leave it out: --settings states them, and --draft names the draft.",
            )
        require_private(
            self.words, "bench", "Leave it out; eagle3 bench URL measures a server that you run."
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator[Opened]:
        command = self.command()
        self.started(self.name, command.shown)
        begin = time.monotonic()
        with running(
            command.words,
            env={**command.env, **self.environment},
            port=command.port,
            log_path=self.log_path,
            timeout_s=self.start_timeout_s,
            progress=self.progress,
            proof=PROOFS[self.to_serve.engine] if self._needs_proof else None,
        ) as server:
            client = Client.connect(server.url, timeout_s=self.timeout_s)
            yield Opened(client, self._served(command, time.monotonic() - begin), server)

    @property
    def where(self) -> None:
        return None

    @property
    def serves(self) -> None:
        return None

    @property
    def _needs_proof(self) -> bool:
        return self.is_proved and self.choice is not OFF

    def _served(self, command: Command, started_s: float) -> Served:
        return Served(
            name=self.name,
            settings=str(self.choice),
            url=None,
            command=command.shown,
            started_s=started_s,
            notes=(*self.notes, *command.notes),
        )

    def command(self) -> Command:
        """Its command line, with a free port."""
        engine = self.to_serve.engine
        flags = self.flags
        if self.num_gpus > 1:
            flags = (*flags, GPU_FLAGS[engine], str(self.num_gpus))
        if engine == "vllm" and self.choice is not OFF:
            flags = (*flags, *PER_REQUEST)
        served = replace(self.to_serve, port=free_port())
        words = without(self.words, SPECULATION_FLAGS) if self.choice is OFF else self.words
        return compose(served, Chosen(self.choice, flags), words, Path("unused"))

    @property
    def environment(self) -> Mapping[str, str]:
        """What is set beside what the command asks for."""
        return DEVELOPER if self.to_serve.engine == "vllm" else {}


def _speculation(words: Sequence[str]) -> list[str]:
    """The flags that choose the method, the draft or its settings, as typed."""
    found = setting(words, SPECULATION_FLAGS)
    keys = (name.replace("-", "_").split(".") for name in found)
    pairs = zip(found, keys, strict=True)
    return [name for name, key in pairs if len(key) < 2 or key[1] not in HOW_KEYS]


def ended(opened: Opened) -> EngineError | None:
    """The error of a server of ours whose process is gone; None while it runs."""
    if opened.exit_code is None or opened.server is None:
        return None
    last = "\n".join(opened.server.tail(5))
    return EngineError(
        f"the engine ended with exit code {opened.exit_code} while it served; its last lines:\n"
        f"{last}",
        hint=f"The whole log: {opened.server.log_path}",
    )
