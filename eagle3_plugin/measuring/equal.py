"""Whether outputs are the baseline's: the values; how they are found is in `equality.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from eagle3_plugin.measuring.record import Count, Number, Record

ComparedBy = Literal["token_ids", "text", "token_ids_or_text"]
"""Each output by its token ids, or by its text, or by the ids where both servers give them."""


class TokenLogprobs(Record):
    """The log-probabilities (natural) that one server gives the two tokens at the difference.

    None where the token is not among those that it gives, or it gives none.
    """

    found: Number | None
    expected: Number | None


class Difference(Record):
    """The first place where an output is not the baseline's.

    found, expected (the baseline's): token ids, or text where a server gives none, from there on,
    cut short. position: in tokens or characters, as they are. logprobs: of the next token
    after the common beginning, by each server. is_near_tie: None where no logprobs were to be had.
    why: for people.
    """

    set: str
    conversation: Count
    turn: Count
    concurrency: Annotated[int, Field(ge=1)]
    repeat: Count
    position: Count
    found: tuple[int, ...] | str
    expected: tuple[int, ...] | str
    logprobs: TokenLogprobs | None
    baseline_logprobs: TokenLogprobs | None
    gap_nats: Number | None
    is_near_tie: bool | None
    why: str


class Equality(Record):
    """The outputs of one server against the baseline's.

    how: `outputs`, at temperature 0, each against the baseline's of the same question;
    `distribution`, above it, a test whose p_value says how likely such a difference is by chance;
    `none`: not compared, and `why` says why.
    num_not_compared: later turns whose history already differed, and answers that are missing.
    num_equal + num_near_ties + num_different == num_compared. near_tie_nats: gap up to which a
    difference counts as a near-tie.
    """

    server: str
    how: Literal["outputs", "distribution", "none"]
    compared_by: ComparedBy | None
    num_compared: Count
    num_equal: Count
    num_near_ties: Count
    num_different: Count
    num_not_compared: Count
    near_tie_nats: Number | None
    p_value: Annotated[float, Field(ge=0, le=1)] | None
    why: str
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool | None:
        """None where nothing was compared."""
        if self.how == "none":
            return None
        return self.num_different == 0 if self.how == "outputs" else (self.p_value or 0) >= ALPHA


ALPHA = 0.001
"""Below this p-value a distribution is said to differ."""
