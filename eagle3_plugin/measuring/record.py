"""Frozen, strict records: the parts of a result, and the numbers that several of them hold."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from eagle3_plugin.serving.acceptance import AcceptanceCounts

Engine = Literal["vllm", "sglang"]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1)]

BASELINE: Final = "baseline"
"""The name of the server that runs without speculation."""

ALL_SETS: Final = "all"
"""The name of the sets together."""


class Record(BaseModel):
    """A frozen part of a result; an unknown key is an error, and so is a number that is text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Counts(Record):
    """Verify rounds of one request: see AcceptanceCounts."""

    num_rounds: Count
    num_draft_tokens: Count
    accepted_draft_tokens: Count
    accepted_by_position: tuple[Count, ...]

    @classmethod
    def of(cls, counts: AcceptanceCounts) -> Counts:
        return cls(**vars(counts))

    @property
    def value(self) -> AcceptanceCounts:
        return AcceptanceCounts(**dict(self))


class Acceptance(Record):
    """Verify rounds of many requests and the rates that follow; null where no round was.

    tokens_per_verify: with the bonus token. acceptance_rate[i]: share of all rounds in which draft
    position i was accepted; acceptance_rate_conditional[i]: of those that accepted i - 1.
    """

    num_rounds: Count
    num_draft_tokens: Count
    accepted_draft_tokens: Count
    accepted_by_position: tuple[Count, ...]
    tokens_per_verify: Annotated[float, Field(ge=1)] | None
    acceptance_rate: tuple[Rate | None, ...]
    acceptance_rate_conditional: tuple[Rate | None, ...]

    @classmethod
    def of(cls, counts: AcceptanceCounts) -> Acceptance:
        return cls(
            **vars(counts),
            tokens_per_verify=counts.tokens_per_verify,
            acceptance_rate=counts.acceptance_rate,
            acceptance_rate_conditional=counts.acceptance_rate_conditional,
        )

    @property
    def counts(self) -> AcceptanceCounts:
        """Without the rates."""
        return AcceptanceCounts(
            self.num_rounds,
            self.num_draft_tokens,
            self.accepted_draft_tokens,
            self.accepted_by_position,
        )


class Quantiles(Record):
    """The spread of one measure over requests."""

    mean: Number
    min: Number
    p50: Number
    p90: Number
    p99: Number
    max: Number


class Estimate(Record):
    """A value with its bootstrap interval (the result's `bootstrap` says how); null with one
    conversation only, which has no spread to resample."""

    value: Number
    low: Number | None
    high: Number | None
