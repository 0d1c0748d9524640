"""Where a result comes from: everything that one would need to run it again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from eagle3_plugin.measuring.record import Count, Engine, Number, Rate, Record, Seconds


class ModelFile(Record):
    """One file of a model. sha256: None where it was not read (a large file of a plain URL)."""

    name: str
    num_bytes: Count
    sha256: str | None


class Model(Record):
    """A target or a draft. name: hub id or folder, as typed. revision: None for a folder."""

    name: str
    revision: str | None
    files: tuple[ModelFile, ...]


class Versions(Record):
    """Releases: the engine's environment as it says itself, None where it was not asked."""

    plugin: str
    engine: str | None
    torch: str | None
    transformers: str | None
    python: str | None


class Machine(Record):
    """hardware: the GPU's or CPU's name. driver: of the GPU."""

    device: Literal["gpu", "cpu"] | None
    hardware: str | None
    num_gpus: Annotated[int, Field(ge=1)] | None
    driver: str | None
    system: str


class Sampling(Record):
    """As sent with each request. ignore_eos: every answer has `max_tokens` tokens.

    top_k: -1 = all tokens. From top_p on None = not recorded: an older result, for which it was not
    sent, and the engine or the target's generation_config.json decided.
    """

    temperature: Annotated[float, Field(ge=0)]
    seed: int
    max_tokens: Annotated[int, Field(ge=1)]
    ignore_eos: bool
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: int | None = None
    min_p: Rate | None = None
    repetition_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None


class Chat(Record):
    """How messages became tokens. template_sha256: None where the server's was not seen.

    thinking: sent as chat_template_kwargs.enable_thinking; None = not sent, the template's default.
    """

    template_sha256: str | None
    thinking: bool | None


class Provenance(Record):
    """command: as typed, without keys. words: for the engine, after --. notes: for people.

    duration_s: of all parts of the run, if it was resumed. dtype: None = the engine's default.
    """

    command: str
    started_at: str
    finished_at: str | None
    duration_s: Seconds
    num_resumed: Count
    engine: Engine
    versions: Versions
    machine: Machine
    target: Model
    draft: Model | None
    words: tuple[str, ...]
    settings: tuple[str, ...]
    concurrency: tuple[Annotated[int, Field(ge=1)], ...]
    num_repeats: Annotated[int, Field(ge=1)]
    limit: int | None
    num_warm_up_requests: Count
    sampling: Sampling
    chat: Chat
    notes: tuple[str, ...]
