"""What a server is to run: the settings that were asked for, or those of a plan, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.asked import Asked
from eagle3_plugin.planning.cost import Engine
from eagle3_plugin.planning.limit_rules import Server
from eagle3_plugin.planning.limits import limits_of
from eagle3_plugin.planning.memory import GIB, Memory, memory, memory_flags, require_target_fits
from eagle3_plugin.planning.plan import plan
from eagle3_plugin.planning.schedule import longest_chain, sglang_config, vllm_schedule
from eagle3_plugin.planning.settings import OFF, Choice, parse
from eagle3_plugin.serving.words import flags_of
from eagle3_plugin.settings import Settings

GPU_FLAGS: Mapping[Engine, str] = {"sglang": "--tp-size", "vllm": "--tensor-parallel-size"}


@dataclass(frozen=True)
class Chosen:
    """What to start.

    flags: of the server, beside those of the draft. schedule: vLLM's table by batch size.
    adaptive: the content of SGLang's --speculative-adaptive-config, which has to be a file.
    reasons: where all that comes from, for people.
    """

    choice: Choice
    flags: tuple[str, ...] = ()
    schedule: tuple[tuple[int, int, int], ...] | None = None
    adaptive: Mapping[str, Any] | None = None
    reasons: tuple[str, ...] = ()


def read_settings(text: str, engine: Engine) -> Choice:
    """The settings that a user states; vLLM has chains only."""
    choice = parse(text)
    if engine == "vllm" and choice is not OFF and not choice.is_chain:
        raise UsageError(
            f"--settings {choice} is a tree of topk {choice.topk}; expected a chain, for vLLM "
            "drafts nothing else",
            hint=f"The chain of as many steps: --settings {choice.num_steps},1,"
            f"{choice.num_steps + 1}; or serve the tree with SGLang.",
        )
    return choice


def limit_flags(words: Sequence[str], engine: Engine) -> tuple[str, ...]:
    """The words for the engine that a plan depends on, as it takes them: "page-size=64"."""
    known = {flag for limit in limits_of(engine) for flag in limit.flags}
    pairs = ((f.name.lstrip("-").replace("_", "-"), f.values) for f in flags_of(words))
    return tuple("=".join((name, *values[:1])) for name, values in pairs if name in known)


def stated(choice: Choice, engine: Engine, num_gpus: int, asked: Asked | None = None) -> Chosen:
    """The settings as stated; with a GPU named (`asked`), its memory shared out for them.

    Without a GPU nothing else is set: what memory to use stays the engine's own choice.
    """
    said = f"settings {choice}: as asked"
    if asked is None:
        return Chosen(choice, _gpu_flags(engine, num_gpus), reasons=(said,))
    alone = memory(asked.pair, asked.machine, OFF, 1, asked.context_tokens)
    require_target_fits(alone, asked.pair, asked.machine)
    found = memory(asked.pair, asked.machine, choice, asked.last, asked.context_tokens)
    flags: tuple[str, ...] = ()
    if found is not None:
        most = max(1, min(asked.last, found.max_requests))
        server = Server(asked.machine, most, asked.flags, asked.pair.model_type)
        flags = memory_flags(found, choice, server)
    flags = (*_gpu_flags(engine, num_gpus), *flags)
    return Chosen(choice, flags, reasons=(said, *_memory_reason(asked, found)))


def planned(asked: Asked) -> Chosen:
    """The plan's own choice; its schedule too where the engine can follow one."""
    made = plan(asked)
    flags = (*_gpu_flags(asked.machine.engine, asked.machine.num_gpus), *made.flags)
    reasons = (
        f"settings {made.choice}: {made.reason} ({made.basis})",
        *_memory_reason(asked, made.memory),
        *_passed_over(asked),
    )
    if not made.needs_schedule or longest_chain(made.schedule) is OFF:
        return Chosen(made.choice, flags, reasons=reasons)
    if isinstance(made.choice, Settings) and not made.choice.is_chain:
        reasons += ("load: the tree stays at every load; engines follow it with chains only",)
        return Chosen(made.choice, flags, reasons=reasons)
    start = longest_chain(made.schedule)
    table = tuple(vllm_schedule(made.schedule))
    shown = ", ".join(f"{first} to {last}: {steps or 'off'}" for first, last, steps in table)
    reasons += (f"draft tokens by requests at a time: {shown} ({made.basis})",)
    if asked.machine.engine == "vllm":
        return Chosen(start, flags, schedule=table, reasons=reasons)
    return Chosen(start, flags, adaptive=sglang_config(made.schedule), reasons=reasons)


def _gpu_flags(engine: Engine, num_gpus: int) -> tuple[str, ...]:
    return () if num_gpus == 1 else (GPU_FLAGS[engine], str(num_gpus))


def _passed_over(asked: Asked) -> tuple[str, ...]:
    return () if asked.passed_over is None else (f"note: {asked.passed_over}",)


def _memory_reason(asked: Asked, found: Memory | None) -> tuple[str, ...]:
    gpu = asked.machine.gpu.name
    if found is None:
        return (f"memory of {gpu}: not known, left to the engine",)
    return (
        f"memory of {gpu}: {found.kv_bytes / GIB:.1f} GiB left for the KV cache, room for "
        f"{found.max_requests} requests of {found.tokens_per_request} tokens, {asked.last} asked "
        "for (modelled)",
    )
