"""What `tune` asks of an engine: a server for one choice, timed under each load and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.planning.profile import Counted, How, Timed
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.acceptance import PER_REQUEST, AcceptanceCounts
from eagle3_plugin.serving.bench import Prompt, bench
from eagle3_plugin.serving.choice import GPU_FLAGS, Chosen
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.compose import Command, Device, Engine, Served, compose, require_private
from eagle3_plugin.serving.launch import PROOFS
from eagle3_plugin.serving.process import Progress, Proof, free_port, running
from eagle3_plugin.serving.profile_file import now
from eagle3_plugin.serving.tune import Measure, Start, Todo
from eagle3_plugin.serving.waves import MOST_S, follows, waves
from eagle3_plugin.serving.words import SPECULATION_FLAGS, SPECULATIVE_CONFIG, setting


@dataclass(frozen=True)
class TuneServers:
    """How the servers are started, and what they are asked.

    served: its port is not used, each start takes a free one. is_proved: the log must say that
    our class holds the draft. waves_s: see `waves`, for each load.
    """

    served: Served
    num_gpus: int
    words: tuple[str, ...]
    prompts: Sequence[Prompt]
    max_new_tokens: int
    timeout_s: float
    is_proved: bool
    waves_s: float = MOST_S

    def __post_init__(self) -> None:
        speculation = setting(self.words, SPECULATION_FLAGS)
        if speculation:
            raise UsageError(
                f"{', '.join(speculation)} after --; expected nothing that sets speculation: tune "
                "starts each server with settings of its own, and one without a draft",
                hint="Leave it out: tune finds the settings, and --draft names the draft.",
            )
        require_private(self.words, "tune", "Leave it out.")

    def measuring(
        self, log_path: Path, started: Callable[[str, str], None], progress: Progress
    ) -> Measure:
        """The `Measure` that `tune` calls.

        started: told the settings and the command as it may be printed. progress: while it loads.
        """

        def measure(todo: Todo) -> Iterator[Timed | Counted]:
            command = self._command(todo.start)
            started(str(todo.start.choice), command.shown)
            with running(
                command.words,
                env={**command.env, **_environment(self.served.engine, todo.start)},
                port=command.port,
                log_path=log_path,
                timeout_s=self.timeout_s,
                progress=progress,
                proof=self._proof(todo.start),
            ) as server:
                yield from self._asked(server.url, todo)

        return measure

    def _asked(self, url: str, todo: Todo) -> Iterator[Timed | Counted]:
        """The counts first: they pass over all prompts, and warm the server up."""
        if todo.counts:
            yield self._counted(url, todo)
        client = Client.connect(url)
        for num_requests in todo.loads:
            yield self._timed(client, todo.start, num_requests)

    def _proof(self, start: Start) -> Proof | None:
        needs_proof = self.is_proved and start.choice is not OFF
        return PROOFS[self.served.engine] if needs_proof else None

    def _command(self, start: Start) -> Command:
        engine = self.served.engine
        flags = () if self.num_gpus == 1 else (GPU_FLAGS[engine], str(self.num_gpus))
        if engine == "vllm" and start.choice is not OFF:
            flags = (*flags, *PER_REQUEST)
        served = replace(self.served, port=free_port())
        words = (*self.words, *_words(engine, start))
        return compose(served, Chosen(start.choice, flags), words, Path("unused"))

    def _timed(self, client: Client, start: Start, num_requests: int) -> Timed:
        found = waves(client, self.prompts, num_requests, self.max_new_tokens, self.waves_s)
        told = start.accepts
        how: How = "synthetic" if told is not None and follows(found, told) else "real"
        times = tuple(wave.round_s for wave in found)
        return Timed(
            settings=str(start.choice),
            num_requests=num_requests,
            how=how,
            round_s=times,
            measured_at=now(),
        )

    def _counted(self, url: str, todo: Todo) -> Counted:
        choice = todo.start.choice
        assert choice is not OFF
        concurrency = max(todo.loads, default=1)
        result = bench(
            url, self.prompts, concurrency=concurrency, max_tokens=self.max_new_tokens
        ).acceptance
        if result is None or not result.num_rounds:
            raise EngineError(
                f"{url} counted no verify round over {len(self.prompts)} prompts with settings "
                f"{choice}; expected some",
                hint="Ask for more tokens with --max-new-tokens, or give other prompts.",
            )
        total = AcceptanceCounts.total([result], choice.num_steps)
        return Counted(
            settings=str(choice),
            num_rounds=total.num_rounds,
            accepted_by_position=total.accepted_by_position[: choice.num_steps],
            measured_at=now(),
        )


def simulates(engine: Engine, device: Device) -> bool:
    """Whether the engine can be told how many tokens to accept.

    vLLM's engine dies at the first request on a CPU: "Synthetic acceptance not supported with CPU
    sampling" (0.32.0, vllm/utils/cpu_triton_utils.py:329). SGLang's CPU path does as told (0.5.23,
    srt/speculative/spec_utils.py:527).
    """
    return (engine, device) != ("vllm", "cpu")


def _words(engine: Engine, start: Start) -> tuple[str, ...]:
    """vLLM's keys for a fixed acceptance (0.32.0, config/speculative.py:529-549)."""
    if start.accepts is None or engine == "sglang":
        return ()
    return (
        *(f"{SPECULATIVE_CONFIG}.rejection_sample_method", "synthetic"),
        *(f"{SPECULATIVE_CONFIG}.synthetic_acceptance_length", f"{start.accepts:.1f}"),
    )


def _environment(engine: Engine, start: Start) -> Mapping[str, str]:
    """SGLang's variables for the same (0.5.23, srt/environ.py:527-529); of chains only."""
    if start.accepts is None or engine == "vllm":
        return {}
    return {
        "SGLANG_SIMULATE_ACC_LEN": str(start.accepts),
        "SGLANG_SIMULATE_ACC_TOKEN_MODE": "real-draft-token",
    }
