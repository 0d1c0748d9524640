"""What `eagle3 bench` found: the public JSON, schema 1.

One server without speculation, the baseline, and one or more with it answered the same
conversations. A *cell* is one loop over one set with one server, one number of parallel
conversations and one repeat. A *summary* pools the repeats and compares with the baseline.
Everything is in seconds, bytes and tokens; times are UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.errors import Eagle3Error, NotFoundError
from eagle3_plugin.measuring.equal import Equality
from eagle3_plugin.measuring.provenance import Provenance
from eagle3_plugin.measuring.record import (
    BASELINE,
    Acceptance,
    Count,
    Counts,
    Estimate,
    Number,
    Quantiles,
    Record,
    Seconds,
)

KIND: Final = "bench"
MAX_BYTES: Final = 512 * 1024 * 1024

Measure = Literal[
    "tokens_per_s_per_conversation",
    "tokens_per_s",
    "time_to_first_token_s",
    "time_per_output_token_s",
    "request_s",
    "tokens_per_verify",
]
"""What a summary estimates, and what cards and predictions speak of.

tokens_per_s_per_conversation: the mean over conversations of a conversation's output tokens by
the seconds that its requests took, the first token's included (what card A calls throughput).
tokens_per_s: output tokens of all conversations by the seconds of the loop.
time_to_first_token_s, time_per_output_token_s, request_s: medians over requests; the second is the
time after the first token by the tokens after the first, the last from sending to the last byte.
"""


class Served(Record):
    """One server. name: BASELINE, or its settings ("5,4,16").

    command: as printed, without keys; None for a URL that was given. started_s: until healthy.
    notes: what had to be other than asked ("vLLM drafts chains only: 5,1,6 in place of 5,4,16").
    """

    name: str
    settings: str
    url: str | None
    command: str | None
    started_s: Seconds | None
    notes: tuple[str, ...]


class SetUsed(Record):
    """Where the conversations of a set came from. sha256: of the conversations as they were asked.

    source: hub id or file. revision: None for a file.
    """

    name: str
    source: str
    revision: str | None
    num_conversations: Count
    num_turns: Count
    sha256: str


class Request(Record):
    """One answer. conversation: its place in the set. begin_s: since the loop began.

    time_to_first_token_s: None when no token came. counts: None without speculation.
    """

    conversation: Count
    turn: Count
    modality: str
    begin_s: Seconds
    time_to_first_token_s: Seconds | None
    request_s: Seconds
    num_prompt_tokens: Count | None
    num_tokens: Count
    finish_reason: str | None
    counts: Counts | None


class Cell(Record):
    """One loop.

    acceptance_from: the answers themselves, or the engine's counters where these do not say.
    counted: what the counters of vLLM say of it; num_rounds_counted: of either engine (SGLang
    counts rounds only). None where they were not read. num_tokens: output tokens.
    elapsed_s: of the whole loop. time_per_output_token_s: None when no answer had two tokens.
    """

    server: str
    set: str
    concurrency: Annotated[int, Field(ge=1)]
    repeat: Count
    begun_at: str
    num_conversations: Count
    num_requests: Count
    num_tokens: Count
    elapsed_s: Seconds
    tokens_per_s: Number
    tokens_per_s_per_conversation: Number
    time_to_first_token_s: Quantiles | None
    time_per_output_token_s: Quantiles | None
    request_s: Quantiles | None
    acceptance: Acceptance | None
    acceptance_from: Literal["answers", "counters"] | None
    counted: Acceptance | None
    num_rounds_counted: Count | None
    requests: tuple[Request, ...]


class Group(Record):
    """The answers of one turn, or of one modality (text, image), of a summary.

    estimates, ratios: the summary's measures of these answers alone (of a turn, the tokens/s of a
    conversation are those of its request), without what a part of a loop does not have:
    tokens_per_s, whose seconds other parts share, and what only the engine's counters say.
    """

    by: Literal["turn", "modality"]
    name: str
    num_requests: Count
    num_tokens: Count
    estimates: Mapping[Measure, Estimate] = Field(default_factory=dict)
    ratios: Mapping[Measure, Estimate] = Field(default_factory=dict)
    time_to_first_token_s: Quantiles | None
    time_per_output_token_s: Quantiles | None
    request_s: Quantiles | None
    acceptance: Acceptance | None


class Summary(Record):
    """All repeats of a server, set (or ALL_SETS) and concurrency.

    estimates: by measure. ratios: to the baseline's, by measure (above 1 is more: faster for
    tokens_per_s, slower for seconds); empty for the baseline and without one. num_repeats: with
    at least one answer.
    """

    server: str
    set: str
    concurrency: Annotated[int, Field(ge=1)]
    num_repeats: Count
    num_conversations: Count
    num_requests: Count
    num_tokens: Count
    estimates: Mapping[Measure, Estimate]
    ratios: Mapping[Measure, Estimate]
    acceptance: Acceptance | None
    groups: tuple[Group, ...]


class Bootstrap(Record):
    """How the intervals were made."""

    method: str
    num_resamples: Count
    seed: int
    level: Annotated[float, Field(gt=0, lt=1)]


class CardFigure(Record):
    """One figure of a card beside ours. measure: a Measure, or `speedup` (the ratio of
    tokens_per_s_per_conversation), or `baseline_tokens_per_s_per_conversation`.

    found: None where it is missing. difference: found / promised - 1.
    """

    set: str
    concurrency: Annotated[int, Field(ge=1)] | None
    settings: str
    measure: str
    promised: Number
    found: Number | None
    low: Number | None
    high: Number | None
    difference: Number | None


class CardTable(Record):
    """A draft's card, as printed, beside what came out. notes: where the two runs differ.

    stands_for: the server by the card's settings; itself where they are not named.
    """

    draft: str
    source: str
    notes: tuple[str, ...]
    stands_for: Mapping[str, str] = Field(default_factory=dict)
    figures: tuple[CardFigure, ...]


class Prediction(Record):
    """What the planner said of a server before. measure: a Measure, or `speedup`.

    basis: measured, datasheet or modelled, as the plan says it.
    """

    server: str
    concurrency: Annotated[int, Field(ge=1)]
    measure: str
    value: Number
    low: Number | None
    high: Number | None
    basis: str


class Missing(Record):
    """What was to be measured and was not. set, concurrency, repeat: None = all of them."""

    server: str
    set: str | None
    concurrency: int | None
    repeat: int | None
    num_conversations: Count
    reason: str


class Result(Record):
    """One run. problems: what makes figures doubtful (answers and counters that disagree).

    is_partial: the run did not come to its end. What the server refused is in `missing` alone: a
    further run would not find it.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    kind: Literal["bench"] = KIND
    is_partial: bool
    provenance: Provenance
    servers: tuple[Served, ...]
    sets: tuple[SetUsed, ...]
    summaries: tuple[Summary, ...]
    equality: tuple[Equality, ...]
    card: CardTable | None
    predictions: tuple[Prediction, ...]
    missing: tuple[Missing, ...]
    problems: tuple[str, ...]
    bootstrap: Bootstrap
    cells: tuple[Cell, ...]

    @property
    def speculative(self) -> tuple[Served, ...]:
        """The servers that are not the baseline."""
        return tuple(server for server in self.servers if server.name != BASELINE)

    def to_json(self) -> dict[str, Any]:
        """The public form."""
        return self.model_dump(mode="json", by_alias=True)


def from_json(value: Mapping[str, Any], where: str = "result") -> Result:
    """The result that `to_json` gave; Eagle3Error names every place that is not as it must be."""
    if value.get("schema") != 1 or value.get("kind") != KIND:
        raise Eagle3Error(
            f"{where} has schema {value.get('schema')!r} and kind {value.get('kind')!r}; "
            f"expected 1 and {KIND!r}",
            hint=_MADE_BY,
        )
    try:
        return Result.model_validate_json(json.dumps(value))
    except ValidationError as error:
        lines = [f"{where}: {error.error_count()} problem(s)"]
        for problem in error.errors(include_url=False)[:20]:
            lines.append(f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']}")
        raise Eagle3Error("\n".join(lines), hint=_MADE_BY) from None


def read_result(path: Path) -> Result:
    """The result in a file that `eagle3 bench --out` wrote."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"the result {path} cannot be read: {error.strerror}; expected a file", hint=_MADE_BY
        ) from error
    return from_json(parse_json_object(data, path.name, max_bytes=MAX_BYTES), path.name)


_MADE_BY = "Make one with: eagle3 bench vllm|sglang --target T --draft D --out RESULT.json"
