"""What `eagle3 tune` measured of one pair in one engine on one machine, as a file keeps it."""

from __future__ import annotations

import hashlib
import math
import os
import re
import statistics
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.errors import Eagle3Error, NotFoundError
from eagle3_plugin.planning.settings import Choice, parse

SCHEMA: Final = 1
MAX_BYTES: Final = 512 * 1024 * 1024
CACHE: Final = "EAGLE3_CACHE"
"""The variable that names the folder of our cache."""

Engine = Literal["sglang", "vllm"]
How = Literal["real", "synthetic"]
"""Whether rounds accepted what the target confirmed, or a number that the engine was told."""


def _are_settings(text: str) -> str:
    try:
        parse(text)
    except Eagle3Error as error:
        raise ValueError(error.message) from error
    return text


SettingsText = Annotated[str, AfterValidator(_are_settings)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A frozen part of a profile; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Timed(Record):
    """Round times under one load, one for each wave of requests.

    settings: "3,1,4", or "off", whose round is a step without speculation. how: see How.
    measured_at: UTC.
    """

    settings: SettingsText
    num_requests: Annotated[int, Field(ge=1)]
    how: How
    round_s: Annotated[tuple[Seconds, ...], Field(min_length=1, strict=False)]
    measured_at: str

    @cached_property
    def choice(self) -> Choice:
        return parse(self.settings)

    @property
    def median_s(self) -> float:
        return statistics.median(self.round_s)

    @property
    def relative_error(self) -> float:
        """How far the median that the waves are drawn from may be from theirs."""
        return median_error(self.round_s)


class Counted(Record):
    """Verify rounds over all the prompts: how many, and how many accepted each position."""

    settings: SettingsText
    num_rounds: Annotated[int, Field(ge=1)]
    accepted_by_position: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
    measured_at: str

    @model_validator(mode="after")
    def _falls(self) -> Counted:
        counts = (self.num_rounds, *self.accepted_by_position)
        if any(later > before for before, later in pairwise(counts)):
            raise ValueError(
                f"counts by position rise: {counts}; expected each within the one before"
            )
        return self

    @cached_property
    def choice(self) -> Choice:
        return parse(self.settings)

    @property
    def tokens_per_verify(self) -> float:
        """With the bonus token."""
        return 1 + sum(self.accepted_by_position) / self.num_rounds


class Subject(Record):
    """What is measured; a profile is of use only where all of this is the same.

    target, draft: hub ids, or folders by their full path. hardware: the GPU's name in gpus.toml,
    or the CPU's as the system gives it. words: for the engine, as the user gave them. prompts:
    the SHA-256 of what was asked. engine_version, plugin_version: releases.
    """

    engine: Engine
    target: str
    draft: str
    device: Literal["gpu", "cpu"]
    hardware: str
    num_gpus: Annotated[int, Field(ge=1)]
    engine_version: str
    plugin_version: str
    words: Annotated[tuple[str, ...], Field(strict=False)]
    prompts_sha256: str
    num_prompts: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=2)]


class Profile(Record):
    """All measurements of one subject.

    commands: that each choice was started with, as they are printed: without keys.
    finished_at: None while `tune` has not come to its end.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = SCHEMA
    subject: Subject
    begun_at: str
    finished_at: str | None
    timed: Annotated[tuple[Timed, ...], Field(strict=False)] = ()
    counted: Annotated[tuple[Counted, ...], Field(strict=False)] = ()
    commands: dict[str, str] = Field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1."""
        return self.model_dump(mode="json", by_alias=True)


def median_error(values: Sequence[float]) -> float:
    """How far the ends of the median's interval are from the median of these positive values.

    The k-th smallest and the k-th largest of n hold the median of what they are drawn from between
    them in 1 - 2 P(B < k) of cases, B binomial (n, 1/2), whatever its distribution (David and
    Nagaraja, Order Statistics, 2003, section 7.1). Taken is the largest k with 15 of 16: of five
    values the fastest and the slowest; fewer hold it less often.
    """
    ordered, middle = sorted(values), statistics.median(values)
    below, rank = 1, 0
    while 32 * (below + math.comb(len(ordered), rank + 1)) <= 2 ** len(ordered):
        rank += 1
        below += math.comb(len(ordered), rank)
    return max(ordered[-1 - rank] / middle, middle / ordered[rank]) - 1


def read_file(path: Path) -> dict[str, Any]:
    """The JSON of a profile, or of a result of `eagle3 bench`, unchecked."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"{path}: {error.strerror or error}, expected a profile that `eagle3 tune` wrote",
            hint="eagle3 tune ENGINE --target TARGET --draft DRAFT --profile FILE",
        ) from error
    return parse_json_object(data, str(path), max_bytes=MAX_BYTES)


def read_profile(path: Path) -> Profile:
    """The profile in a file; raises Eagle3Error for what is none, with all that is wrong."""
    return profile_from(read_file(path), path)


def profile_from(given: dict[str, Any], path: Path) -> Profile:
    """The profile of a file's JSON."""
    try:
        return Profile.model_validate(given)
    except ValidationError as error:
        lines = [f"{path} is not a profile: {error.error_count()} problem(s)"]
        for found in error.errors():
            place = ".".join(map(str, found["loc"])) or "the profile"
            lines.append(f"  {place}: {found['msg']}")
        raise Eagle3Error(
            "\n".join(lines), hint="Measure it anew: remove the file and run eagle3 tune."
        ) from error


def profile_path(engine: Engine, target: str, draft: str, hardware: str, num_gpus: int) -> Path:
    """Where the profile of that pair, engine and hardware is kept unless another file is named."""
    named = (engine, full_name(target), full_name(draft), hardware, str(num_gpus))
    digest = hashlib.sha256("\0".join(named).encode()).hexdigest()[:12]
    short = re.sub(r"[^\w.-]+", "-", Path(target).name).strip("-")
    return _cache_folder() / "profiles" / f"{engine}-{short}-{digest}.json"


def full_name(name: str) -> str:
    """A folder by its full path, so that it is the same from everywhere; a hub id as it is."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.exists() else name


def cpu_name() -> str:
    """What the system calls this machine's CPU, with the number of cores that we may use."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()}, {num_cores} cores"


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return os.uname().machine
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else os.uname().machine


def _cache_folder() -> Path:
    own = os.environ.get(CACHE)
    user = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(user) if user else Path.home() / ".cache") / "eagle3"
