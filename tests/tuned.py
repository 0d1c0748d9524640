"""Profiles made of literal measurements, for the tests of what measures and reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eagle3_plugin.planning.measured import Measured
from eagle3_plugin.planning.profile import Counted, Profile, Subject, Timed

DATE = "2026-11-22T05:00:00Z"
SUBJECT = Subject(
    engine="sglang",
    target="T",
    draft="D",
    device="gpu",
    hardware="NVIDIA GeForce RTX 4090",
    num_gpus=1,
    engine_version="0.5.23",
    plugin_version="0.1.0",
    words=(),
    prompts_sha256="0" * 64,
    num_prompts=4,
    max_new_tokens=64,
)
TIMES: Mapping[tuple[str, int], float] = {
    ("off", 1): 0.010,
    ("off", 4): 0.016,
    ("1,1,2", 1): 0.013,
    ("1,1,2", 4): 0.022,
    ("3,1,4", 1): 0.015,
    ("3,1,4", 4): 0.030,
    ("7,1,8", 1): 0.019,
    ("7,1,8", 4): 0.050,
}
LONG = Counted(
    settings="7,1,8",
    num_rounds=1000,
    accepted_by_position=(800, 640, 448, 224, 112, 56, 28),
    measured_at=DATE,
)
"""Conditional rates 0.8, 0.8, 0.7, 0.5, 0.5, 0.5, 0.5."""


def timed(settings: str, num_requests: int, *round_s: float, how: Any = "real") -> Timed:
    """One load of one choice."""
    return Timed(
        settings=settings, num_requests=num_requests, how=how, round_s=round_s, measured_at=DATE
    )


def profile(
    times: Mapping[tuple[str, int], float] = TIMES,
    counted: Sequence[Counted] = (LONG,),
    subject: Subject = SUBJECT,
    finished_at: str | None = DATE,
) -> Profile:
    """A profile with one wave for each time."""
    waves = tuple(timed(s, n, seconds) for (s, n), seconds in times.items())
    return Profile(
        subject=subject,
        begun_at=DATE,
        finished_at=finished_at,
        timed=waves,
        counted=tuple(counted),
    )


def measured(times: Mapping[tuple[str, int], float] = TIMES, *counted: Counted) -> Measured:
    """The same, to be asked."""
    return Measured(profile(times, counted or (LONG,)), "file.json")


def write(path: Path, made: Profile, **changes: Any) -> Path:
    """The profile as a file, with keys changed by hand."""
    path.write_text(json.dumps({**made.to_json(), **changes}))
    return path
