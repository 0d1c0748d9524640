"""From conditional rates by depth to tokens per verify of chains and trees, and back.

Everything here counts the bonus token, so no value is below 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eagle3_plugin.errors import UsageError
from eagle3_plugin.settings import Settings

Ranks = Callable[[int, int], Sequence[float]]
"""(depth from 0, topk) -> for each candidate, best first, the share in which it is the target's."""

BISECTIONS = 45


@dataclass(frozen=True)
class Rates:
    """How often a chain's draft token is right, by depth, given that all before it were.

    conditional: the known depths; each later rate is `decay` times the one before it, at most 1.
    """

    conditional: tuple[float, ...]
    decay: float

    def at(self, depth: int) -> float:
        """The rate at that depth, counted from 0."""
        beyond = depth - len(self.conditional) + 1
        if beyond <= 0:
            return self.conditional[depth]
        return min(1.0, self.conditional[-1] * self.decay**beyond)

    def chain_tokens_per_verify(self, num_steps: int) -> float:
        """1 + a_0 + a_0 a_1 + …: drafting stops counting at the first wrong token."""
        total = path = 1.0
        for depth in range(num_steps):
            path *= self.at(depth)
            total += path
        return total


@dataclass(frozen=True)
class TreeShare:
    """How trees do where only a chain's rates are known; fitted (probe_constants.toml).

    sibling: of the cases that the candidates before it miss, a later candidate gets the share
        sibling * (the first one's rate): a draft that is often right is often nearly right.
    narrow, wide: where a tree of as many nodes as levels, and one of very many, lies between
        nodes spread level by level (0) and the nodes with the best rates (1). A narrow one is
        below 1 because SGLang picks nodes by the draft's own confidence, and drafts with keys
        that do not follow the beam (draft/tree.py). A wide one has room for those it misjudges.
    """

    sibling: float
    narrow: float
    wide: float

    def selection(self, settings: Settings) -> float:
        """Where these settings lie, 0 to 1, by their nodes for each level."""
        nodes = max(settings.num_draft_tokens - 1, settings.num_steps)
        spare = 1 - settings.num_steps / nodes
        return min(1.0, self.narrow + (self.wide - self.narrow) * spare)

    def tokens_per_verify(self, rates: Rates, settings: Settings) -> float:
        """What a tree, or a chain, of these settings yields."""
        if settings.is_chain:
            return rates.chain_tokens_per_verify(settings.num_steps)
        even, best = tree_range(self.ranks(rates), settings)
        return even + self.selection(settings) * (best - even)

    def ranks(self, rates: Rates) -> Ranks:
        """The first candidate has the chain's rate, the others their share of what it misses."""

        def at(depth: int, topk: int) -> list[float]:
            first = rates.at(depth)
            share = self.sibling * first
            rest = [(1 - first) * share * (1 - share) ** rank for rank in range(topk - 1)]
            return [first, *rest]

        return at


def decaying(first: float, decay: float, num_steps: int) -> Rates:
    """Rates that begin with `first` and fall (or rise, up to 1) by `decay` with each step."""
    return Rates(tuple(min(1.0, first * decay**depth) for depth in range(num_steps)), decay)


def tree_range(ranks: Ranks, settings: Settings) -> tuple[float, float]:
    """Tokens per verify with nodes spread level by level, and with the best nodes.

    The levels grow as in SGLang: the topk best of a level are expanded by topk candidates each
    (sglang 0.5.23, srt/speculative/spec_utils.py:417-471). The best nodes are those on the most
    likely paths (Sequoia, arXiv 2402.12374: the value of a node is the product of its path).
    """
    num_nodes = settings.num_draft_tokens - 1
    levels = _levels(ranks, settings)
    best = sorted((path for level in levels for path in level), reverse=True)[:num_nodes]
    spread = [path for level in levels for path in level][:num_nodes]
    return 1 + sum(spread), 1 + sum(best)


def fitted_rates(
    tokens_per_verify: float, settings: Settings, decay: float, trees: TreeShare
) -> Rates:
    """The decaying rates with which these settings yield that many tokens per verify."""
    check_tokens_per_verify(tokens_per_verify, settings)
    low, high = 0.0, max(1.0, decay ** (1 - settings.num_steps))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = trees.tokens_per_verify(decaying(middle, decay, settings.num_steps), settings)
        low, high = (middle, high) if found < tokens_per_verify else (low, middle)
    return decaying(high, decay, settings.num_steps)


def max_tokens_per_verify(settings: Settings) -> float:
    """All levels right, and the bonus; a level needs a node."""
    return min(settings.num_steps, settings.num_draft_tokens - 1) + 1


def check_tokens_per_verify(tokens_per_verify: float, settings: Settings) -> None:
    """Raises UsageError for a number that no draft can yield at these settings."""
    most = max_tokens_per_verify(settings)
    if not 1 <= tokens_per_verify <= most:
        raise UsageError(
            f"{tokens_per_verify:g} tokens per verify with settings {settings}, "
            f"expected 1 to {most:g}",
            hint="Tokens per verify count the bonus token; check the settings that they belong to.",
        )


def _levels(ranks: Ranks, settings: Settings) -> list[list[float]]:
    """For each level the path products of its nodes, best first."""
    levels, beams = [], [1.0]
    for depth in range(settings.num_steps):
        rates = ranks(depth, settings.topk)
        levels.append(sorted((path * rate for path in beams for rate in rates), reverse=True))
        beams = levels[-1][: settings.topk]
    return levels
