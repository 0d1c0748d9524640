"""What vLLM counts at `/metrics` while it speculates, and how such a text is read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import get_text
from eagle3_plugin.serving.completion import Completion

PREFIX = "vllm:spec_decode_"
NUM_ROUNDS = "vllm:spec_decode_num_drafts_total"
NUM_DRAFT_TOKENS = "vllm:spec_decode_num_draft_tokens_total"
NUM_ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
NUM_ACCEPTED_BY_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
"""Names of vLLM 0.32 (vllm/v1/spec_decode/metrics.py); the bonus token is in none of them."""

SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
SETTLE_S = 0.2
SETTLE_TIMEOUT_S = 5.0

Labels = Mapping[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class VllmMeter:
    """vLLM's counters when a measurement began. before: None when it runs without speculation.

    The counters are the engine's: other clients' requests are in them.
    """

    url: str
    before: AcceptanceCounts | None

    @classmethod
    def start(cls, url: str) -> VllmMeter:
        """Reads the counters at the beginning of a measurement."""
        return cls(url, read_acceptance(url))

    def counts(self, answers: Sequence[Completion]) -> AcceptanceCounts | None:
        """What the engine counted since then; None without speculation."""
        if self.before is None:
            return None
        after = settled(lambda: read_acceptance(self.url))
        if after is None:
            raise EngineError(
                f"{self.url} had counters of speculation before the measurement and has none "
                "after it",
                hint="Do not restart the server during a measurement.",
            )
        return after - self.before


def read_acceptance(url: str) -> AcceptanceCounts | None:
    """The counts of the vLLM at `url` since its start; None when it runs without speculation."""
    return parse_acceptance(get_text(url, "/metrics"))


def parse_acceptance(text: str) -> AcceptanceCounts | None:
    """The counts in a Prometheus text, summed over engines and models; None without any."""
    found = samples(text, PREFIX)
    by_position: dict[int, int] = {}
    for name, labels, value in found:
        if name == NUM_ACCEPTED_BY_POSITION:
            position = int(labels["position"])
            by_position[position] = by_position.get(position, 0) + value
    totals = {
        wanted: [value for name, _, value in found if name == wanted]
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


def samples(text: str, prefix: str) -> list[tuple[str, Labels, int]]:
    """Name, labels and count of each line whose name begins so; comments and the rest go."""
    found: list[tuple[str, Labels, int]] = []
    for line in text.splitlines():
        match = SAMPLE.match(line.strip())
        if match and match[1].startswith(prefix):
            labels = dict(LABEL.findall(match[2] or ""))
            found.append((match[1], labels, round(float(match[3]))))
    return found


def settled(read: Callable[[], T]) -> T:
    """A reading once it stands still: vLLM adds a step's counts after it sent the answer."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    last = read()
    while time.monotonic() < deadline:
        time.sleep(SETTLE_S)
        now = read()
        if now == last:
            break
        last = now
    return last
