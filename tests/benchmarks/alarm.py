"""How rarely the alarm of `eagle3 watch` is wrong, and how soon it is right, by simulation.

    python -m tests.benchmarks.alarm [DAYS]

Requests are drawn from the oracle's rounds of the tiny pair's prompts (chain of 3, 64 tokens): of
the right draft for DAYS days (200) of a day's load, 2 requests a second on average, at the very
floor; of requests of varied lengths, where one alarm in STATED requests is allowed; and of drafts
with all taps one layer too early or too late, with NaN weights (nothing is accepted), and with
images that nothing is accepted of. Printed: alarms of the healthy ones, and for each wrong draft
the requests until the alarm (median, 95th percentile), beside the prediction, for traffic as
measured and for a floor 20 % below. Exit code 1 after false alarms that are not stated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.rounds import ScoreResult
from eagle3_plugin.draft.score import load_pair, score
from eagle3_plugin.hub import resolve
from eagle3_plugin.settings import chain
from eagle3_plugin.tiny import TinyPair, tiny_pair
from eagle3_plugin.watching.expected import Expectation, expectation
from eagle3_plugin.watching.rule import Rule
from tests.watching.simulated import (
    DAY_S,
    Requests,
    arrivals,
    drawn,
    lengths_of,
    mixes,
    num_alarms,
    requests_to_alarm,
    run,
    varied,
)

CHAIN = 3
NUM_TOKENS = 64
PER_S = 2.0
NUM_RUNS = 40
MOST = 20_000
SLACKS = (0.0, 0.2)
STATED = 1000
NUM_VARIED = 20_000
PER_BATCH = 5


def main(num_days: int) -> int:
    """1 after a false alarm."""
    pair = tiny_pair("llama")
    right = scored(pair, None)
    taps = right.taps
    wrong = {
        f"all taps {by:+d}": requests_of(scored(pair, tuple(tap + by for tap in taps)))
        for by in (-1, 1)
    }
    healthy = requests_of(right)
    blind = np.full((1, 2), (NUM_TOKENS - 1, 0), np.int64)
    wrong |= {"NaN weights": blind}
    print(f"{len(healthy)} prompts, {mean_of(healthy):.3f} accepted draft tokens a round")
    found = num_false_alarms(num_days, healthy, expected(right, healthy, 0.0))
    print(f"healthy, {num_days} days of {PER_S:g} requests/s at the floor: {found} alarm(s)")
    found += tell_mixes(expected(right, healthy, 0.0))
    for slack in SLACKS:
        judged = expected(right, healthy, slack)
        for name, requests in wrong.items():
            tell(f"slack {slack:g}, {name}", judged, requests)
        for share in (0.1, 0.2, 0.3, 0.5):
            tell(f"slack {slack:g}, blind to {share:.0%} images", judged,
                 mixture(healthy, blind, share))  # fmt: skip
    return int(found > 0)


def scored(pair: TinyPair, taps: tuple[int, ...] | None) -> ScoreResult:
    """The oracle's score of the draft, wrongly settled where taps are given."""
    draft = read_draft(Checkpoint.open(resolve(str(pair.draft))), Settle(taps=taps))
    prompts = [Prompt("prompt_token_ids", tuple(ids)) for ids in pair.prompts]
    return score(
        *load_pair(draft, pair.target),
        prompts,
        chain=CHAIN,
        max_new_tokens=NUM_TOKENS,
        ignore_end=True,
    )


def requests_of(result: ScoreResult) -> Requests:
    """Rounds and accepted draft tokens of each prompt."""
    rounds = [prompt.rounds(CHAIN) for prompt in result.prompts]
    return np.array([(len(each), sum(r.num_accepted for r in each)) for each in rounds], np.int64)


def mean_of(requests: Requests) -> float:
    return float(requests[:, 1].sum() / requests[:, 0].sum())


def expected(result: ScoreResult, requests: Requests, slack: float) -> Expectation:
    """The score's expectation, with what each prompt accepted."""
    given = result.to_json() | {
        "rounds_per_prompt": requests[:, 0].tolist(),
        "accepted_draft_tokens_per_prompt": requests[:, 1].tolist(),
    }
    return expectation(given, chain(CHAIN), slack, where="score")


def num_false_alarms(num_days: int, healthy: Requests, judged: Expectation) -> int:
    found = 0
    for seed in range(num_days):
        random = np.random.default_rng(seed)
        per_s = arrivals(DAY_S, PER_S, random)
        found += run(Rule(judged), drawn(healthy, int(per_s.sum()), random), per_s).is_alarm
    return found


def tell_mixes(judged: Expectation) -> int:
    """Alarms beyond one in STATED requests, of servers that are at the floor or above it."""
    too_many = 0
    for above in (1.0, 1.1):
        random = np.random.default_rng(0)
        for name, rounds in mixes(NUM_VARIED, random).items():
            requests = varied(rounds, above * judged.floor, judged.request_variance, random)
            found = num_alarms(Rule(judged, STATED), requests, PER_BATCH)
            too_many += max(0, found - NUM_VARIED // STATED)
            print(f"healthy, {name}, {above:g} of the floor: {found} alarm(s) in {NUM_VARIED} "
                  f"requests; {NUM_VARIED // STATED} are stated", flush=True)  # fmt: skip
    return too_many


def mixture(healthy: Requests, blind: Requests, image_share: float) -> Requests:
    """Requests of which that share has an image."""
    num = round(1000 * image_share)
    random = np.random.default_rng(0)
    return np.vstack([drawn(blind, num, random), drawn(healthy, 1000 - num, random)])


def tell(name: str, judged: Expectation, requests: Requests) -> None:
    random = np.random.default_rng(0)
    times = [requests_to_alarm(judged, requests, MOST, random) for _ in range(NUM_RUNS)]
    alarmed = [float(each) for each in times if each is not None]
    mean = mean_of(requests)
    spans = (lengths_of(requests, 1 + judged.floor),)
    predicted = Rule(judged).num_rounds_to_alarm(mean, spans)
    rounds = float(requests[:, 0].mean())
    figures: Mapping[str, float] = {
        "median": float(np.median(alarmed)) if alarmed else float("nan"),
        "95 %": float(np.quantile(alarmed, 0.95)) if alarmed else float("nan"),
    }
    shown = ", ".join(f"{key} {value:.0f}" for key, value in figures.items())
    print(
        f"{name}: {mean:.3f} accepted; {len(alarmed)} of {NUM_RUNS} alarms within {MOST} requests; "
        f"{shown}; predicted {predicted if predicted is None else round(predicted / rounds)}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 200))
