"""From GPU, pair, load and acceptance to settings: which, why, with what memory and schedule.

Pure: no file, no network, no GPU. `eagle3 plan` prints it, and `serve` asks it for settings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from eagle3_plugin.planning.asked import Asked
from eagle3_plugin.planning.limit_rules import Limit, Server
from eagle3_plugin.planning.limits import found
from eagle3_plugin.planning.memory import Memory, memory, memory_flags, require_target_fits
from eagle3_plugin.planning.ranking import Ranking, choice_json, rank, yields_of
from eagle3_plugin.planning.schedule import (
    Stretch,
    is_constant,
    longest_chain,
    off_from,
    schedule,
    sglang_config,
    vllm_schedule,
)
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import chain

SCHEMA: Final = 1


@dataclass(frozen=True)
class Plan:
    """What to run.

    rankings: one for each load that is shown, the powers of two in the range and its ends.
    They end at the load that fits the memory with a draft, and so does `asked`; of the
    num_requests_asked the others wait.
    schedule: by batch size; empty for a single load.
    memory: None where the GPU's is not known; flags: of the server, beside the draft's.
    max_requests: the most that fit, at most the largest load asked for.
    """

    asked: Asked
    num_requests_asked: int
    rankings: tuple[Ranking, ...]
    schedule: tuple[Stretch, ...]
    memory: Memory | None
    max_requests: int
    flags: tuple[str, ...]
    notes: tuple[Limit, ...]

    @property
    def deciding(self) -> Ranking:
        """The ranking that decides: latency at the smallest load, throughput at the largest."""
        return self.rankings[0 if self.asked.goal == "latency" else -1]

    @property
    def choice(self) -> Choice:
        return self.deciding.choice

    @property
    def reason(self) -> str:
        return self.deciding.reason

    @property
    def basis(self) -> str:
        """Whether the times are a profile's or the model's."""
        return "modelled" if self.asked.measured is None else "measured"

    @property
    def needs_schedule(self) -> bool:
        return bool(self.schedule) and not is_constant(self.schedule)

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1. Speedups, speeds and times are what `times` says, modelled
        or measured; each term of a time says its basis."""
        asked = self.asked
        return {
            "schema": SCHEMA,
            "target": asked.pair.target_name,
            "draft": asked.pair.draft_name,
            "sizes_from": {"target": asked.pair.target_source, "draft": asked.pair.draft_source},
            "gpu": asked.machine.gpu.name,
            "num_gpus": asked.machine.num_gpus,
            "engine": asked.machine.engine,
            "goal": asked.goal,
            "context_tokens": asked.context_tokens,
            "baseline_tokens_per_s": asked.baseline_tokens_per_s,
            "times": self.basis,
            "profile": asked.measured.source if asked.measured else None,
            "passed_over": asked.passed_over,
            "acceptance": asked.acceptance.to_json([self.choice]),
            "choice": choice_json(self.choice),
            "predicted_speedup": dict(vars(self.deciding.best.speedup)),
            "reason": self.reason,
            "notes": [{"limit": n.id, "what": n.what, "source": n.source} for n in self.notes],
            "memory": self.memory.to_json() if self.memory else None,
            "num_requests_asked": self.num_requests_asked,
            "max_requests": self.max_requests,
            "flags": list(self.flags),
            "schedule": self._schedule_json() if self.schedule else None,
            "loads": [ranking.to_json() for ranking in self.rankings],
        }

    def _schedule_json(self) -> dict[str, Any]:
        stretches = [
            {
                "first": s.first,
                "last": s.last,
                "settings": choice_json(s.choice),
                "predicted_speedup": [dict(vars(speedup)) for speedup in s.speedup],
            }
            for s in self.schedule
        ]
        is_vllm = self.asked.machine.engine == "vllm"
        make = vllm_schedule if is_vllm else sglang_config
        key = "num_speculative_tokens_per_batch_size" if is_vllm else "speculative_adaptive_config"
        return {
            "stretches": stretches,
            "off_from": off_from(self.schedule),
            key: make(self.schedule),
        }


def plan(asked: Asked) -> Plan:
    """The plan; raises Eagle3Error when the target does not fit the GPUs at all."""
    pair, machine = asked.pair, asked.machine
    alone = memory(pair, machine, OFF, 1, asked.context_tokens)
    require_target_fits(alone, pair, machine)
    num_requests_asked, asked = asked.last, replace(asked, last=_fitting(asked))
    yields = yields_of(asked)
    rankings = tuple(rank(asked, n, yields) for n in loads_between(asked.first, asked.last))
    stretches = schedule(asked, yields) if asked.last > asked.first else ()
    ranking = rankings[0 if asked.goal == "latency" else -1]
    started = _started_with(ranking.choice, stretches)
    used = memory(pair, machine, started, asked.last, asked.context_tokens)
    most = asked.last if used is None else max(1, min(asked.last, used.max_requests))
    server = Server(machine, most, asked.flags, pair.model_type)
    return Plan(
        asked,
        num_requests_asked,
        rankings,
        stretches,
        used,
        most,
        memory_flags(used, started, server) if used else (),
        _notes(started, server, stretches),
    )


def loads_between(first: int, last: int) -> tuple[int, ...]:
    """The ends of a range and the powers of two in it."""
    powers = (2**power for power in range(last.bit_length()))
    return tuple(sorted({first, last, *(p for p in powers if first < p < last)}))


def _fitting(asked: Asked) -> int:
    """The largest load that fits with a draft; not below the smallest that is asked for."""
    used = memory(asked.pair, asked.machine, chain(1), asked.last, asked.context_tokens)
    return asked.last if used is None else max(asked.first, min(asked.last, used.max_requests))


def _notes(started: Choice, server: Server, stretches: tuple[Stretch, ...]) -> tuple[Limit, ...]:
    """What happens to these settings, and to a schedule where there is one."""
    notes = found(started, server, "note")
    if not stretches or is_constant(stretches):
        return notes
    return notes + found(longest_chain(stretches), server, "schedule")


def _started_with(choice: Choice, stretches: tuple[Stretch, ...]) -> Choice:
    """What needs the most memory of what the server may run."""
    return longest_chain(stretches) if choice is OFF and stretches else choice
