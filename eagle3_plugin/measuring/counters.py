"""What an engine's own counters say of a loop, beside what the answers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eagle3_plugin.measuring.loop import Answer
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Client, get_json
from eagle3_plugin.serving.metrics import read_acceptance, settled
from eagle3_plugin.serving.metrics_sglang import read_rounds
from eagle3_plugin.settings import chain


@dataclass(frozen=True)
class Speculation:
    """How a running server drafts. num_positions: longest path that a round accepts; 0 = off.

    has_counters: its counters can be read (SGLang: when it was started with --enable-metrics).
    """

    settings: str
    num_positions: int
    has_counters: bool


@dataclass(frozen=True)
class Counted:
    """Counters over a loop. acceptance: of vLLM; SGLang counts rounds alone."""

    num_rounds: int | None
    acceptance: AcceptanceCounts | None


NOT_COUNTED = Counted(None, None)


@dataclass(frozen=True)
class Reading:
    """The counters at the beginning of a loop."""

    client: Client
    acceptance: AcceptanceCounts | None
    num_rounds: int | None

    def since(self) -> Counted:
        """What was counted from then until now, once it stands still."""
        if self.acceptance is not None:
            now = settled(lambda: read_acceptance(self.client.url)) or self.acceptance
            grown = now - self.acceptance
            return Counted(grown.num_rounds, grown)
        if self.num_rounds is not None:
            now_rounds = settled(lambda: read_rounds(self.client.url))
            return Counted(now_rounds - self.num_rounds, None)
        return NOT_COUNTED


def speculation(client: Client) -> Speculation:
    """How the server drafts, as it says itself."""
    if client.engine == "vllm":
        counts = read_acceptance(client.url)
        positions = 0 if counts is None else len(counts.accepted_by_position)
        return Speculation(str(chain(positions)) if positions else "off", positions, bool(counts))
    info = get_json(client.url, "/server_info")
    if info.get("speculative_algorithm") is None:
        return Speculation("off", 0, False)
    numbers = [info.get(f"speculative_{n}") for n in ("num_steps", "eagle_topk")]
    numbers.append(info.get("speculative_num_draft_tokens"))
    has_counters = bool(info.get("enable_metrics"))
    return Speculation(",".join(map(str, numbers)), numbers[0] or 0, has_counters)


def read(client: Client, how: Speculation) -> Reading:
    """The counters now."""
    if not how.has_counters:
        return Reading(client, None, None)
    if client.engine == "vllm":
        return Reading(client, read_acceptance(client.url), None)
    return Reading(client, None, read_rounds(client.url))


def disagreement(where: str, answers: Sequence[Answer], counted: Counted) -> str | None:
    """What is wrong when answers and counters do not say the same; None when they do.

    where: the loop, for the message.
    """
    told = [a.request.counts.value for a in answers if a.request.counts is not None]
    if not told or counted.num_rounds is None:
        return None
    total = AcceptanceCounts.total(told, 0)
    pairs = [("rounds", total.num_rounds, counted.num_rounds)]
    if counted.acceptance is not None:
        theirs = counted.acceptance
        pairs += [
            ("draft tokens", total.num_draft_tokens, theirs.num_draft_tokens),
            ("accepted draft tokens", total.accepted_draft_tokens, theirs.accepted_draft_tokens),
        ]
    apart = [f"{ours} {what} and {theirs}" for what, ours, theirs in pairs if ours != theirs]
    if not apart:
        return None
    return (
        f"{where}: the answers and the engine's counters tell of {'; '.join(apart)}; expected the "
        "same: another client used the server meanwhile, or it was restarted"
    )
