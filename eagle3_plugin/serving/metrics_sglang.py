"""What SGLang says of its drafts: with each answer, and in one counter at `/metrics`.

Each answer carries the counts of its own request, so other clients' requests are not in them. The
counter is a check. The gauges beside it (`sglang:spec_accept_length`, `sglang:spec_accept_rate`)
are not read: they are of the last 40 decode steps only, and 0 before the 40th (SGLang 0.5.23
managers/scheduler_components/metrics_reporter.py:972).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import get_json, get_text
from eagle3_plugin.serving.completion import Completion
from eagle3_plugin.serving.metrics import samples, settled

NUM_ROUNDS = "sglang:spec_verify_calls_total"
"""Rounds of all requests that ended (SGLang 0.5.23 observability/metrics_collector.py:1865)."""


@dataclass(frozen=True)
class SglangMeter:
    """An SGLang server when a measurement began.

    num_steps: the longest path that a round can accept; None when it runs without speculation.
    rounds_before: its counter of rounds; None when it was started without --enable-metrics.
    """

    url: str
    num_steps: int | None
    rounds_before: int | None

    @classmethod
    def start(cls, url: str) -> SglangMeter:
        """Asks the server how it was started, and reads its counter."""
        info = get_json(url, "/server_info")
        speculates = info.get("speculative_algorithm") is not None
        counted = speculates and info.get("enable_metrics")
        return cls(
            url,
            (info.get("speculative_num_steps") or 0) if speculates else None,
            read_rounds(url) if counted else None,
        )

    def counts(self, answers: Sequence[Completion]) -> AcceptanceCounts | None:
        """The counts of these answers, checked against the counter; None without speculation."""
        if self.num_steps is None:
            return None
        known = [a.acceptance for a in answers if a.acceptance is not None]
        silent = sum(a.acceptance is None and a.num_tokens > 1 for a in answers)
        if silent:
            raise EngineError(
                f"{silent} of {len(answers)} answers say nothing of their rounds; expected "
                "sglext.spec_tokens_details with each, as SGLang 0.5.23 gives it",
                hint="Measure with SGLang 0.5.23.",
            )
        counts = AcceptanceCounts.total(known, self.num_steps)
        self._check(counts.num_rounds)
        return counts

    def _check(self, num_rounds: int) -> None:
        if self.rounds_before is None:
            return
        counted = settled(lambda: read_rounds(self.url)) - self.rounds_before
        if counted != num_rounds:
            raise EngineError(
                f"the answers of {self.url} tell of {num_rounds} rounds, and its counter "
                f"{NUM_ROUNDS} grew by {counted}; expected the same",
                hint="Let no other client use the server during a measurement, and do not "
                "restart it.",
            )


def read_rounds(url: str) -> int:
    """The rounds that the SGLang at `url` has counted since its start."""
    return parse_rounds(get_text(url, "/metrics"))


def parse_rounds(text: str) -> int:
    """The rounds in a Prometheus text, summed over its lines; none before the first round."""
    return sum(value for name, _, value in samples(text, NUM_ROUNDS) if name == NUM_ROUNDS)
