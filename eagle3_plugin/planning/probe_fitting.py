"""How the constants of probe_constants.toml follow from data; probe_fit.py runs it.

Data, all in planning/data: specbundle_sweep.csv (SpecForge's SpecBundle dashboard: each draft and
benchmark at five settings and without speculation), published_acceptance.csv (tokens per verify
without times); and cards.toml.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.planning.cards import cards
from eagle3_plugin.planning.measurements import Group, read_points
from eagle3_plugin.planning.probe_constants import ProbeConstants
from eagle3_plugin.planning.rates import Rates, TreeShare, fitted_rates, tree_range
from eagle3_plugin.planning.regret import measured_speedups, percentile
from eagle3_plugin.settings import Settings, chain

DATA = Path(__file__).with_name("data")
PROBE = Settings(3, 1, 4)

DECAYS = np.linspace(0.80, 1.20, 81)
SIBLINGS = np.linspace(0.05, 1.0, 20)
NARROW = np.linspace(0.0, 1.0, 51)
WIDE = np.linspace(0.5, 1.5, 11)

SURE = 0.6
"""First rates from which on the decay counts: below it a chain of seven yields hardly more than
one of three, so its decay is not known and does not matter."""

NODE_SHARE = 0.15
"""Assumed: 14 more tokens to verify cost seed A's server 0.07 of a step each at one request and
0.22 at four (Qwen3-4B on an RTX 4090: 0.046 ms per token and request, 0.69 ms a draft pass). The
sweep's trees have as many tokens as its chains, so it cannot tell."""

NO_TREES = TreeShare(0.0, 0.0, 0.0)

Totals = Mapping[Settings, float]
"""Tokens per verify by settings, of one pair and benchmark."""

TreePair = tuple[Rates, Settings, float]
"""A chain's rates, a tree's settings, and the tree's tokens per verify on the same text."""


def fit(groups: Sequence[Group], published: Mapping[str, list[Totals]]) -> ProbeConstants:
    """All constants, from sweep groups and from published tokens per verify."""
    sweep = [totals(group) for group in groups]
    decay = fitted_decay(sweep)
    series = [t for t in (*sweep, *published["series"]) if num_chains(t) > 2]
    decays = [own_decay(t) for t in series if first_rate(t, decay) >= SURE]
    firsts = sorted(first_rate(t, decay) for t in published["similar"])
    step_share, step_fixed = fitted_steps(groups)
    trees = fitted_trees((sweep, published["trees"]), decay)
    return ProbeConstants(
        decay=decay,
        decay_low=percentile(decays, 5),
        decay_high=percentile(decays, 95),
        typical_low=percentile(firsts, 10),
        typical_rate=median(firsts),
        typical_high=percentile(firsts, 90),
        step_fixed=step_fixed,
        step_share=step_share,
        typical_overhead=median(round_ratios(group)[PROBE] - 1 for group in groups),
        sibling=trees.sibling,
        narrow=trees.narrow,
        wide=trees.wide,
        tree_overhead=tree_overhead(groups),
        node_share=NODE_SHARE,
        tree_error=tree_error(sweep, decay, trees),
    )


def fitted_decay(sweep: Sequence[Totals]) -> float:
    """The decay that best predicts longer chains from the probe, by relative square error."""

    def error(decay: float) -> float:
        return fmean(
            (rates.chain_tokens_per_verify(s.num_steps) / value - 1) ** 2
            for t in sweep
            for rates in [fitted_rates(t[PROBE], PROBE, decay, NO_TREES)]
            for s, value in t.items()
            if s.is_chain and s != PROBE
        )

    return min(map(float, DECAYS), key=error)


def own_decay(known: Totals) -> float:
    """The decay of one pair's chains, from the one nearest to three steps."""
    settings = nearest(known)

    def error(decay: float) -> float:
        rates = fitted_rates(known[settings], settings, decay, NO_TREES)
        chains = [(s.num_steps, value) for s, value in known.items() if s.is_chain]
        return sum((rates.chain_tokens_per_verify(n) / value - 1) ** 2 for n, value in chains)

    return min(map(float, DECAYS), key=error)


def first_rate(known: Totals, decay: float) -> float:
    """The first conditional rate that explains the chain nearest to three steps."""
    settings = nearest(known)
    return fitted_rates(known[settings], settings, decay, NO_TREES).at(0)


def fitted_steps(groups: Sequence[Group]) -> tuple[float, float]:
    """step_share and step_fixed, by least squares over the round times of longer chains."""
    rows, found = [], []
    for group in groups:
        ratios = round_ratios(group)
        for settings, ratio in ratios.items():
            if settings.is_chain and settings != PROBE:
                steps = settings.num_steps - PROBE.num_steps
                rows.append([steps * (ratios[PROBE] - 1), steps])
                found.append(ratio - ratios[PROBE])
    share, fixed = np.linalg.lstsq(np.array(rows), np.array(found), rcond=None)[0]
    return float(share), float(fixed)


def tree_overhead(groups: Iterable[Group]) -> float:
    """What a tree's round takes more than that of the chain of as many steps and tokens."""
    more = []
    for group in groups:
        ratios = round_ratios(group)
        trees = [s for s in ratios if not s.is_chain and chain(s.num_steps) in ratios]
        more += [ratios[s] - ratios[chain(s.num_steps)] for s in trees]
    return max(0.0, median(more))


def fitted_trees(sources: Iterable[Sequence[Totals]], decay: float) -> TreeShare:
    """All three, by the square of the relative error; each source counts the same, however many
    points it has."""
    known = [[pair for t in source for pair in tree_pairs(t, decay)] for source in sources]
    every = [TreeShare(s, n, w) for s in SIBLINGS for n in NARROW for w in WIDE]
    errors = np.concatenate([sum(_square_errors(p, float(s)) for p in known) for s in SIBLINGS])
    best = every[int(errors.argmin())]
    return TreeShare(float(best.sibling), float(best.narrow), float(best.wide))


def _square_errors(pairs: Sequence[TreePair], sibling: float) -> NDArray[np.float64]:
    """The mean square error for each of NARROW and, within it, each of WIDE."""
    narrow, wide = (a.ravel()[:, None] for a in np.meshgrid(NARROW, WIDE, indexing="ij"))
    ranks = TreeShare(sibling, 0.0, 0.0).ranks
    even, best = np.array([tree_range(ranks(rates), s) for rates, s, _ in pairs]).T
    spare = np.array([TreeShare(sibling, 0.0, 1.0).selection(s) for _, s, _ in pairs])
    value = np.array([value for _, _, value in pairs])
    selection = np.minimum(1.0, narrow + (wide - narrow) * spare)
    found: NDArray[np.float64] = np.mean(
        ((even + selection * (best - even)) / value - 1) ** 2, axis=1
    )
    return found


def tree_error(sweep: Iterable[Totals], decay: float, trees: TreeShare) -> float:
    """The 95th percentile of the relative error of a tree's tokens per verify."""
    pairs = [pair for t in sweep for pair in tree_pairs(t, decay)]
    return percentile([abs(trees.tokens_per_verify(r, s) / v - 1) for r, s, v in pairs], 95)


def tree_pairs(known: Totals, decay: float) -> list[TreePair]:
    """For each tree the rates of the same pair's chain, and what the tree yields."""
    if not any(s.is_chain for s in known):
        return []
    settings = nearest(known)
    rates = fitted_rates(known[settings], settings, decay, NO_TREES)
    return [(rates, s, value) for s, value in known.items() if not s.is_chain]


def totals(group: Group) -> Totals:
    """Tokens per verify of a group's measured settings."""
    points = group.points.values()
    return {p.settings: p.tokens_per_verify for p in points if p.tokens_per_verify}


def round_ratios(group: Group) -> Mapping[Settings, float]:
    """Round time over a baseline step, of a group's measured settings."""
    speedups = measured_speedups(group, PROBE)
    return {s: value / speedups[s] for s, value in totals(group).items() if s in speedups}


def nearest(known: Totals) -> Settings:
    """The chain whose length is nearest to three."""
    return min((s for s in known if s.is_chain), key=lambda s: abs(s.num_steps - 3))


def num_chains(known: Totals) -> int:
    return sum(s.is_chain for s in known)


def read_published(path: Path) -> Mapping[str, list[Totals]]:
    """series: chains of several lengths; similar: Qwen3 targets; trees: with a chain beside them.

    Similar pairs are those of published_acceptance.csv, of the sweep, and of the cards.
    """
    pairs: dict[tuple[str, ...], dict[Settings, float]] = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        names = ("source", "target", "draft", "benchmark", "concurrency")
        settings = Settings(*(int(row[n]) for n in ("num_steps", "topk", "num_draft_tokens")))
        pair = pairs.setdefault(tuple(row[name] for name in names), {})
        pair[settings] = float(row["tokens_per_verify"])
    sweep = read_points(path.with_name("specbundle_sweep.csv"))
    qwen3: list[Totals] = [t for key, t in pairs.items() if "Qwen3" in key[1]]
    qwen3 += [totals(group) for group in sweep if "Qwen3" in group.key.target]
    qwen3 += [
        {s: row[name] for s, row in card.tokens_per_verify.items()}
        for card in cards().values()
        for name in card.benchmarks
    ]
    every: list[Totals] = list(pairs.values())
    return MappingProxyType(
        {
            "series": [t for t in every if num_chains(t) > 2],
            "similar": [t for t in qwen3 if num_chains(t)],
            "trees": [t for t in every if num_chains(t) and num_chains(t) < len(t)],
        }
    )
