"""Fits probe_constants.toml: `python -m eagle3_plugin.planning.probe_fit [--write]`.

Prints the constants, and the regret of their choices by leave-one-target-out: a target's groups
are never in the fit that chooses for them. Beside it what simpler rules leave on the table, and
what remains when one half of the model is replaced by what was measured (the floor).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations_with_replacement
from statistics import fmean

from eagle3_plugin.planning.measurements import Group, read_points
from eagle3_plugin.planning.probe import Probe
from eagle3_plugin.planning.probe_constants import PATH, ProbeConstants
from eagle3_plugin.planning.probe_fitting import (
    DATA,
    PROBE,
    fit,
    read_published,
    round_ratios,
    totals,
)
from eagle3_plugin.planning.regret import (
    SGLANG_DEFAULT,
    Chooser,
    Regret,
    group_regret,
    measured_speedups,
    regret,
)
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings, chain

THRESHOLDS = tuple(step / 20 for step in range(24, 74))
"""Tokens per verify at the probe, between which the two-threshold rule looks for its two."""

Speedup = Callable[[Group, Probe, Choice], float]

HEADER = """\
# Written by `python -m eagle3_plugin.planning.probe_fit --write`; what each means is said in
# probe_constants.py. Fitted on specbundle_sweep.csv, published_acceptance.csv and cards.toml;
# node_share is assumed.

[constants]
"""


def main(arguments: Sequence[str]) -> None:
    """Prints constants and regrets; `--write` also writes the constants."""
    groups = read_points(DATA / "specbundle_sweep.csv")
    published = read_published(DATA / "published_acceptance.csv")
    constants = fit(groups, published)
    left_out = {t: fit(rest, published) for t, rest in leave_one_out(groups).items()}
    print(toml_text(constants))
    print(f"regret in %, {len(groups)} groups{'mean':>38} {'p90':>6} {'worst':>6}")
    for row in regrets(groups, left_out):
        figures = (100 * value for value in (row.mean, row.percentile_90, row.worst))
        print(f"{row.name:60}" + " ".join(f"{figure:6.2f}" for figure in figures))
    for name, error in errors(groups, left_out).items():
        print(f"{name:60}{100 * error:6.2f}")
    if "--write" in arguments:
        PATH.write_text(toml_text(constants), encoding="utf-8")
        print(f"wrote {PATH.name}")


def toml_text(constants: ProbeConstants) -> str:
    """The content of probe_constants.toml."""
    return HEADER + "".join(f"{name} = {v:.4f}\n" for name, v in asdict(constants).items())


def regrets(groups: Sequence[Group], left_out: Mapping[str, ProbeConstants]) -> tuple[Regret, ...]:
    """Of our choices by leave-one-target-out, of simpler rules, and of the floors."""
    cuts = {t: best_thresholds(rest) for t, rest in leave_one_out(groups).items()}
    all_cuts = best_thresholds(groups)
    fixed = sorted({settings for group in groups for settings in group.points})
    rules: dict[str, Chooser] = {
        "the model, leave-one-target-out": lambda g: left_out_probe(g, left_out).best(g.candidates),
        "two thresholds on tokens per verify, leave-one-target-out": lambda g: by_thresholds(
            g, cuts[g.key.target]
        ),
        "floor: measured tokens per verify, modelled round, chains": chooser(
            left_out, with_measured_tokens
        ),
        "floor: modelled tokens per verify, measured round, chains": chooser(
            left_out, with_measured_round
        ),
        "floor: the best measured chain": chooser(left_out, measured),
        "floor: two thresholds chosen on all groups": lambda g: by_thresholds(g, all_cuts),
        f"SGLang's default {SGLANG_DEFAULT}": lambda g: SGLANG_DEFAULT,
    }
    rules |= {f"always {settings}": always(settings) for settings in fixed}
    found = (regret(name, groups, rule, PROBE) for name, rule in rules.items())
    return tuple(row for row in found if row is not None)


def errors(groups: Sequence[Group], left_out: Mapping[str, ProbeConstants]) -> dict[str, float]:
    """Mean absolute relative errors by leave-one-target-out, of all settings but the probe."""
    tokens: dict[bool, list[float]] = {True: [], False: []}
    rounds: dict[bool, list[float]] = {True: [], False: []}
    for group in groups:
        probe, known, ratios = left_out_probe(group, left_out), totals(group), round_ratios(group)
        for s in ratios.keys() - {PROBE}:
            tokens[s.is_chain].append(abs(probe.expected_tokens_per_verify(s) / known[s] - 1))
            rounds[s.is_chain].append(abs(probe.expected_round_ratio(s) / ratios[s] - 1))
    return {
        "mean error in %: tokens per verify, chains": fmean(tokens[True]),
        "mean error in %: tokens per verify, trees": fmean(tokens[False]),
        "mean error in %: round time, chains": fmean(rounds[True]),
        "mean error in %: round time, trees": fmean(rounds[False]),
    }


def leave_one_out(groups: Sequence[Group]) -> dict[str, tuple[Group, ...]]:
    """For each target the groups of all others."""
    targets = dict.fromkeys(group.key.target for group in groups)
    return {t: tuple(group for group in groups if group.key.target != t) for t in targets}


def left_out_probe(group: Group, left_out: Mapping[str, ProbeConstants]) -> Probe:
    """The group's probe, with constants that know nothing of its target."""
    probe = group.probe(PROBE, left_out[group.key.target])
    assert probe is not None, group.key
    return probe


def chooser(left_out: Mapping[str, ProbeConstants], speedup: Speedup) -> Chooser:
    """The rule that takes the chain of the best speedup, which may look at what was measured."""

    def choose(group: Group) -> Choice:
        probe = left_out_probe(group, left_out)
        chains = [choice for choice in group.candidates if choice is OFF or choice.is_chain]
        return max(chains, key=lambda choice: speedup(group, probe, choice))

    return choose


def with_measured_tokens(group: Group, probe: Probe, choice: Choice) -> float:
    if choice is OFF:
        return 1.0
    return totals(group)[choice] / probe.expected_round_ratio(choice)


def with_measured_round(group: Group, probe: Probe, choice: Choice) -> float:
    if choice is OFF:
        return 1.0
    return probe.expected_tokens_per_verify(choice) / round_ratios(group)[choice]


def measured(group: Group, probe: Probe, choice: Choice) -> float:
    return measured_speedups(group, PROBE)[choice]


def by_thresholds(group: Group, cuts: tuple[float, float]) -> Choice:
    """Chain of 3, 5 or 7 by the probe's tokens per verify alone."""
    tokens_per_verify = totals(group)[PROBE]
    return chain(3 + 2 * sum(tokens_per_verify >= cut for cut in cuts))


def best_thresholds(groups: Sequence[Group]) -> tuple[float, float]:
    """The two thresholds with the least mean regret."""
    found = [
        (totals(g)[PROBE], [group_regret(g, chain(n), PROBE) or 0.0 for n in (3, 5, 7)])
        for g in groups
    ]

    def mean(cuts: tuple[float, float]) -> float:
        return fmean(by_length[sum(t >= cut for cut in cuts)] for t, by_length in found)

    return min(combinations_with_replacement(THRESHOLDS, 2), key=mean)


def always(settings: Settings) -> Chooser:
    """The rule that never looks."""
    return lambda group: settings


if __name__ == "__main__":
    main(sys.argv[1:])
