"""What a draft's acceptance should be in a running engine, and how far it may honestly stray.

From an eagle3.json that `eagle3 score --save` completed, or a file of `eagle3 score --json` or
`eagle3 bench --json`. Its mean is of its prompts; other traffic has another mean, so there is a
floor: the lowest mean that is still taken as healthy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from eagle3_plugin.draft.checkpoint import read_config
from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.errors import Eagle3Error, NotFoundError, UsageError
from eagle3_plugin.hub import resolve
from eagle3_plugin.planning.acceptance import CONFIDENCE_Z
from eagle3_plugin.planning.acceptance_sources import MAX_BYTES, SIDECAR, from_json
from eagle3_plugin.settings import Settings
from eagle3_plugin.watching.measured_requests import MeasuredRequests, of_bench, of_score

MIX_SLACK: Final = 0.2
"""The share of the accepted draft tokens that another mix of prompts may take where the file knows
one set only. The worst of the six benchmarks on the card of taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3
(planning/cards.toml) is 17 % below their mean with 8 draft tokens, 11 % with 4."""

REMEDY: Final = "eagle3 score DRAFT --target TARGET --save"


@dataclass(frozen=True)
class Expectation:
    """Accepted draft tokens a round, at some settings.

    mean: of the prompts it was measured on. floor: the lowest healthy mean.
    acceptance_rate: of all rounds, by position; empty for a tree.
    round_variance: of one round within a request; request_variance: of requests' means, the
    largest possible where it was not measured (is_bound).
    """

    settings: Settings
    mean: float
    floor: float
    acceptance_rate: tuple[float, ...]
    round_variance: float
    request_variance: float
    is_bound: bool
    source: str

    @property
    def tokens_per_verify(self) -> float:
        """With the bonus token."""
        return 1 + self.mean

    @property
    def lost_tokens(self) -> float:
        """Draft tokens a request that the last round yields past the end of the answer.

        An end at any token falls into a round of X tokens with chance X / E[X], and at each place
        in it alike: (E[X^2] / E[X] - 1) / 2, the mean excess of a renewal process (Cox, Renewal
        Theory, 1962, section 5.4), in whole tokens.
        """
        variance = self.round_variance + self.request_variance * (not self.is_bound)
        size = self.tokens_per_verify
        return ((variance + size**2) / size - 1) / 2

    def to_json(self) -> dict[str, Any]:
        """In tokens per verify, with the bonus token."""
        return {
            "source": self.source,
            "tokens_per_verify": self.tokens_per_verify,
            "healthy_from_tokens_per_verify": 1 + self.floor,
            "acceptance_rate": list(self.acceptance_rate) or None,
        }


Slack = float | Literal["replay"] | None
"""What the traffic may be below the file's mean.

A share of it, for traffic that the user knows. replay: none, for a canary that sends the score's
own prompts in turn, so that there is no variance between requests either. None: down to the worst
of the file's prompt sets, at least the 95 % interval of the mean; MIX_SLACK where there is one set.
"""


def parse_slack(text: str | None) -> Slack:
    """What --slack says."""
    if text is None or text == "replay":
        return "replay" if text else None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UsageError(f"--slack is {text!r}, expected a share from 0 to below 1, or replay")
    return share


def read_expected(path: Path) -> Mapping[str, Any]:
    """The JSON of a score, a bench or an eagle3.json."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"--expected {path}: {error.strerror or error}; expected a file of score --json or "
            "bench --json",
            hint=REMEDY,
        ) from error
    return parse_json_object(data, str(path), max_bytes=MAX_BYTES)


def expected_of_draft(draft: str) -> Mapping[str, Any]:
    """The eagle3.json of a draft, by its folder or hub id."""
    source = resolve(draft)
    if SIDECAR not in source.sizes():
        raise NotFoundError(
            f"{draft} has no {SIDECAR}; expected the acceptance that a score keeps there",
            hint=REMEDY,
        )
    return read_config(source, SIDECAR)


def expectation(
    given: Mapping[str, Any], settings: Settings, slack: Slack, *, where: str
) -> Expectation:
    """The expectation of a JSON of the three kinds."""
    acceptance = from_json(given, where)
    tokens_per_verify = acceptance.tokens_per_verify(settings).expected
    is_modelled = not settings.is_chain and settings not in acceptance.known
    if tokens_per_verify is None or is_modelled:
        raise Eagle3Error(
            f"{where} says nothing sure of settings {settings}; expected their tokens per verify",
            hint=f"eagle3 score DRAFT --target TARGET --tree {settings} --save",
        )
    mean = tokens_per_verify - 1
    if mean <= 0:
        raise Eagle3Error(
            f"{where} expects no accepted draft token at settings {settings}; expected some, or "
            "there is no fall to see",
            hint="Find out why with eagle3 check DRAFT --target TARGET and eagle3 score.",
        )
    rates = _rates(acceptance.rates.at, settings, mean) if settings.is_chain else ()
    within = _variance_of_rounds(rates, mean, settings)
    if slack == "replay":
        return Expectation(settings, mean, mean, rates, within, 0.0, False, where)
    measured = _measured_requests(given, settings, where, mean)
    found = measured.variance(within if rates else 0.0)
    among = _largest_variance(mean, settings) if found is None else found
    floor = _floor(measured, mean, among) if slack is None else mean * (1 - slack)
    return Expectation(settings, mean, floor, rates, within, among, found is None, where)


def _measured_requests(
    given: Mapping[str, Any], settings: Settings, where: str, mean: float
) -> MeasuredRequests:
    """A bench is told by its cells, as in planning/acceptance_sources.py."""
    if "cells" in given:
        return of_bench(given, settings, where)
    return of_score(given.get("expected_acceptance") or given, settings, mean)


def _rates(conditional: Any, settings: Settings, mean: float) -> tuple[float, ...]:
    """Unconditional, in proportion so that they add up to the mean of chains of this length."""
    rates, reached = [], 1.0
    for depth in range(settings.num_steps):
        reached *= conditional(depth)
        rates.append(reached)
    return tuple(min(1.0, rate * mean / sum(rates)) for rate in rates) if sum(rates) else ()


def _variance_of_rounds(rates: tuple[float, ...], mean: float, settings: Settings) -> float:
    """E[X^2] is the sum of (2 i - 1) P(X >= i); of a tree the most that any X can have."""
    if not rates:
        return _largest_variance(mean, settings)
    square = sum((2 * i + 1) * rate for i, rate in enumerate(rates))
    return max(0.0, square - mean**2)


def _largest_variance(mean: float, settings: Settings) -> float:
    """Numbers from 0 to K with mean m vary by m (K - m) at most (Bhatia and Davis 2000)."""
    return mean * (settings.num_steps - mean)


def _floor(measured: MeasuredRequests, mean: float, among: float) -> float:
    means = measured.set_means
    lowest = min(means) if len(means) > 1 else mean * (1 - MIX_SLACK)
    error: float = CONFIDENCE_Z * (among / measured.num_prompts) ** 0.5
    return max(min(lowest, mean - error), mean * (1 - 2 * MIX_SLACK))
