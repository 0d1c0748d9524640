"""What the planner says of the servers without having seen the run: to stand beside what came out.

On a GPU that it knows, or where `eagle3 tune` keeps a profile of this pair on this machine. The
acceptance is the best that was known before: the profile's, the draft's own eagle3.json, its card.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.measuring.result import Prediction
from eagle3_plugin.planning.asked import Asked, read_asked
from eagle3_plugin.planning.points import CONTEXT_TOKENS
from eagle3_plugin.planning.profile import profile_path
from eagle3_plugin.planning.ranking import rank, yields_of
from eagle3_plugin.serving.compose import Served
from eagle3_plugin.settings import Settings


def predictions(
    served: Served,
    hardware: str | None,
    num_gpus: int,
    settings: Sequence[Settings],
    loads: Sequence[int],
) -> tuple[tuple[Prediction, ...], str | None]:
    """The speedups of these settings at these loads; and why there are none, if so.

    hardware: as Machine has it.
    """
    profile = _kept(served, hardware)
    if served.device == "cpu" and profile is None:
        return (), "no prediction: plans are for GPUs, and no profile of eagle3 tune is kept here"
    found: list[Prediction] = []
    try:
        for load in loads:
            found += _at(_asked(served, hardware, num_gpus, load, profile), settings, load)
    except Eagle3Error as error:
        return (), f"no prediction: {error.message}"
    return tuple(found), None


def _kept(served: Served, hardware: str | None) -> Path | None:
    """A CPU's profile; those of GPUs are found by the plan itself."""
    if served.device == "gpu" or hardware is None:
        return None
    path = profile_path(served.engine, served.target, served.draft, hardware, 1)
    return path if path.exists() else None


def _asked(
    served: Served, hardware: str | None, num_gpus: int, load: int, profile: Path | None
) -> Asked:
    return read_asked(
        served.target,
        served.draft,
        served.engine,
        gpu=hardware if served.device == "gpu" else None,
        num_gpus=num_gpus,
        acceptance=None,
        concurrency=str(load),
        context_tokens=CONTEXT_TOKENS,
        goal="latency",
        baseline_tokens_per_s=None,
        server_flags=(),
        profile=profile,
    )


def _at(asked: Asked, settings: Sequence[Settings], load: int) -> Iterator[Prediction]:
    ranking = rank(asked, load, yields_of(asked))
    for ranked in ranking.ranked:
        if ranked.choice in settings and ranked.speedup.expected is not None:
            yield Prediction(
                server=str(ranked.choice),
                concurrency=load,
                measure="speedup",
                value=ranked.speedup.expected,
                low=ranked.speedup.low,
                high=ranked.speedup.high,
                basis="modelled" if asked.measured is None else "measured",
            )
