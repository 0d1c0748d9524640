"""How often an engine's drafts were right: one value, in the same words for every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from eagle3_plugin.errors import EngineError

PER_REQUEST: Final = (
    *("--per-request-spec-decode-metrics", "summary"),
    "--enable-per-request-metrics",
)
"""With which vLLM says of each answer what its rounds accepted (0.32.0, config/vllm.py:1660; it
refuses them without speculation)."""


@dataclass(frozen=True)
class AcceptanceCounts:
    """Counts of verify rounds.

    num_rounds: times the target verified a draft. accepted_draft_tokens: without the bonus token.
    accepted_by_position[i]: rounds in which draft position i was accepted; of a tree, the rounds
    whose accepted path was deeper than i.
    """

    num_rounds: int
    num_draft_tokens: int
    accepted_draft_tokens: int
    accepted_by_position: tuple[int, ...]

    @classmethod
    def total(cls, counts: Iterable[AcceptanceCounts], num_positions: int) -> AcceptanceCounts:
        """The sum, with at least that many positions: those that no round reached count 0."""
        listed = list(counts)
        longest = max([num_positions, *(len(c.accepted_by_position) for c in listed)])
        return cls(
            sum(c.num_rounds for c in listed),
            sum(c.num_draft_tokens for c in listed),
            sum(c.accepted_draft_tokens for c in listed),
            tuple(sum(_at(c.accepted_by_position, i) for c in listed) for i in range(longest)),
        )

    @property
    def tokens_per_verify(self) -> float | None:
        """Tokens that a round yields, the bonus token included; None without a round."""
        return 1 + self.accepted_draft_tokens / self.num_rounds if self.num_rounds else None

    @property
    def acceptance_rate(self) -> tuple[float | None, ...]:
        """Share of all rounds in which draft position i was accepted (unconditional)."""
        return tuple(_ratio(count, self.num_rounds) for count in self.accepted_by_position)

    @property
    def acceptance_rate_conditional(self) -> tuple[float | None, ...]:
        """Share of the rounds that accepted position i - 1 in which i was accepted too."""
        chain = (self.num_rounds, *self.accepted_by_position)
        return tuple(_ratio(after, before) for before, after in pairwise(chain))

    def __sub__(self, earlier: AcceptanceCounts) -> AcceptanceCounts:
        """What happened between two readings of one engine."""
        if len(self.accepted_by_position) != len(earlier.accepted_by_position):
            raise EngineError(
                f"{len(earlier.accepted_by_position)} draft positions in the first reading, "
                f"{len(self.accepted_by_position)} in the second; expected the same engine",
                hint="Do not restart the server during a measurement.",
            )
        if self.num_rounds < earlier.num_rounds:
            raise EngineError(
                f"the count of rounds fell from {earlier.num_rounds} to {self.num_rounds}; "
                "expected it to grow",
                hint="Do not restart the server during a measurement.",
            )
        pairs = zip(self.accepted_by_position, earlier.accepted_by_position, strict=True)
        return AcceptanceCounts(
            self.num_rounds - earlier.num_rounds,
            self.num_draft_tokens - earlier.num_draft_tokens,
            self.accepted_draft_tokens - earlier.accepted_draft_tokens,
            tuple(after - before for after, before in pairs),
        )

    def to_json(self) -> dict[str, Any]:
        """The counts and the rates that follow from them."""
        return {
            "num_rounds": self.num_rounds,
            "num_draft_tokens": self.num_draft_tokens,
            "accepted_draft_tokens": self.accepted_draft_tokens,
            "accepted_by_position": list(self.accepted_by_position),
            "tokens_per_verify": self.tokens_per_verify,
            "acceptance_rate": list(self.acceptance_rate),
            "acceptance_rate_conditional": list(self.acceptance_rate_conditional),
        }


def counts_of_request(details: Mapping[str, Any]) -> AcceptanceCounts:
    """The counts of one request, from what SGLang says of it (`meta_info`, `spec_tokens_details`).

    spec_correct_drafts_histogram[k]: rounds that accepted k draft tokens (SGLang 0.5.23
    managers/schedule_batch.py:1566). SGLang's own `spec_accept_length` is not read: it is
    completion tokens / rounds (managers/tokenizer_manager.py:3165), where the completion has the
    token of the prefill too, and lacks what the last round yields past the end.
    """
    histogram = details.get("spec_correct_drafts_histogram") or []
    counts = AcceptanceCounts(
        details.get("spec_verify_ct", 0),
        details.get("spec_num_proposed_drafts", 0),
        details.get("spec_num_correct_drafts", 0),
        tuple(sum(histogram[k:]) for k in range(1, len(histogram))),
    )
    accepted = sum(counts.accepted_by_position)
    if (sum(histogram), accepted) != (counts.num_rounds, counts.accepted_draft_tokens):
        raise EngineError(
            f"the histogram {histogram} is of {sum(histogram)} rounds and {accepted} accepted "
            f"draft tokens; expected {counts.num_rounds} and {counts.accepted_draft_tokens}, as "
            "the same answer counts them",
            hint="Measure with SGLang 0.5.23.",
        )
    return counts


def counts_of_vllm_request(details: Mapping[str, Any]) -> AcceptanceCounts:
    """The counts of one request, from vLLM's `metrics.speculative_decoding`.

    acceptance_histogram[k]: rounds that accepted k draft tokens (vLLM 0.32.0
    v1/metrics/stats.py:396), all positions of the chain in it.
    """
    histogram = details["acceptance_histogram"]
    return AcceptanceCounts(
        details["num_spec_steps"],
        details["num_draft_tokens"],
        details["num_accepted_draft_tokens"],
        tuple(sum(histogram[k:]) for k in range(1, len(histogram))),
    )


def _at(values: tuple[int, ...], index: int) -> int:
    return values[index] if index < len(values) else 0


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
