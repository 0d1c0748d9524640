"""How often an engine's drafts were right, from the counters that it serves at `/metrics`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.client import get_text

NUM_ROUNDS = "vllm:spec_decode_num_drafts_total"
NUM_DRAFT_TOKENS = "vllm:spec_decode_num_draft_tokens_total"
NUM_ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
NUM_ACCEPTED_BY_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
"""Names of vLLM 0.32 (vllm/v1/spec_decode/metrics.py); the bonus token is in none of them."""

SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = Mapping[str, str]


@dataclass(frozen=True)
class AcceptanceCounts:
    """Counts of verify rounds.

    num_rounds: times the target verified a draft. accepted_draft_tokens: without the bonus token.
    accepted_by_position[i]: rounds in which draft position i was accepted.
    """

    num_rounds: int
    num_draft_tokens: int
    accepted_draft_tokens: int
    accepted_by_position: tuple[int, ...]

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


def read_acceptance(url: str) -> AcceptanceCounts | None:
    """The counts of the engine at `url` since its start; None when it runs without speculation."""
    return parse_acceptance(get_text(url, "/metrics"))


def parse_acceptance(text: str) -> AcceptanceCounts | None:
    """The counts in a Prometheus text, summed over engines and models; None without any."""
    samples = _samples(text)
    by_position: dict[int, int] = {}
    for name, labels, value in samples:
        if name == NUM_ACCEPTED_BY_POSITION:
            position = int(labels["position"])
            by_position[position] = by_position.get(position, 0) + value
    totals = {
        wanted: [value for name, _, value in samples if name == wanted]
        for wanted in (NUM_ROUNDS, NUM_DRAFT_TOKENS, NUM_ACCEPTED)
    }
    if not any(totals.values()):
        return None
    missing = [name for name, values in totals.items() if not values]
    if missing or sorted(by_position) != list(range(len(by_position))):
        raise EngineError(
            f"the engine's counters are not whole: without {missing}, positions "
            f"{sorted(by_position)}; expected those of vLLM 0.32",
            hint="Update eagle3-plugin, or measure with a version of vLLM that it supports.",
        )
    num_rounds, num_draft_tokens, num_accepted = (sum(values) for values in totals.values())
    return AcceptanceCounts(
        num_rounds,
        num_draft_tokens,
        num_accepted,
        tuple(by_position[position] for position in range(len(by_position))),
    )


def _samples(text: str) -> list[tuple[str, Labels, int]]:
    """Name, labels and value of each line about speculation; the comments and the rest go."""
    found: list[tuple[str, Labels, int]] = []
    for line in text.splitlines():
        match = SAMPLE.match(line.strip())
        if match and match[1].startswith("vllm:spec_decode_"):
            labels = dict(LABEL.findall(match[2] or ""))
            found.append((match[1], labels, round(float(match[3]))))
    return found


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
