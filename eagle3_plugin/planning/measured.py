"""Round times and acceptance from a measured profile, at any settings and load that it covers.

A chain's round is close to affine in its length and in the load, so what lies between two measured
ones is taken from the line through them; nothing is taken from beyond the measured ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.planning.acceptance import Acceptance, counted_interval, from_rates
from eagle3_plugin.planning.bench_results import profile_of
from eagle3_plugin.planning.cost import Cost, Term
from eagle3_plugin.planning.profile import (
    Counted,
    Engine,
    Profile,
    Subject,
    full_name,
    profile_from,
    profile_path,
    read_file,
)
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings, chain

MAX_TAIL_RATE: Final = 0.98
NEGLIGIBLE: Final = 1e-9
"""Beyond the counted positions, stretches are at most 50 tokens longer in the mean."""

BETWEEN_ERROR: Final = 0.05
"""Added to the error of a time between two measured ones. Assumed, not fitted."""


@dataclass(frozen=True)
class Speed:
    """What a choice yields under a load, all requests together.

    is_measured: nothing between. relative_error: of the time of a round, in nine of ten cases.
    """

    choice: Choice
    tokens_per_s: float
    is_measured: bool
    relative_error: float

    @property
    def low(self) -> float:
        return self.tokens_per_s / (1 + self.relative_error)

    @property
    def high(self) -> float:
        return self.tokens_per_s * (1 + self.relative_error)


@dataclass(frozen=True)
class Measured:
    """A finished profile, to be asked. source: the file that it was read from."""

    profile: Profile
    source: str

    @cached_property
    def loads(self) -> tuple[int, ...]:
        """The loads at which off, the shortest and the longest chain were all timed.

        So every chain between has a time there. A run that was stopped and then went on with
        fewer loads timed some of them at others too.
        """
        at = self._timed_at
        lengths = [s.num_steps for s in at if isinstance(s, Settings) and s.is_chain]
        ends = [chain(steps) for steps in (min(lengths), max(lengths))] if lengths else []
        return tuple(sorted(at.get(OFF, set()).intersection(*(at[settings] for settings in ends))))

    @cached_property
    def acceptance(self) -> Acceptance:
        """Rates by depth of the longest chain, and tokens per verify where they were counted."""
        by_choice = {c.choice: c for c in self.profile.counted}
        chains = {s.num_steps: c for s, c in by_choice.items() if s is not OFF and s.is_chain}
        if not chains:
            raise Eagle3Error(
                f"{self.source} has no counts of a chain; expected those of a long one",
                hint="Run eagle3 tune again: it goes on where it was stopped; or bench a chain.",
            )
        longest = chains[max(chains)]
        known = {k: shorter_tokens_per_verify(longest, k) for k in range(1, max(chains))}
        known |= {num_steps: c.tokens_per_verify for num_steps, c in chains.items()}
        trees = {
            choice: counted_interval(c.tokens_per_verify, choice, c.num_rounds)
            for choice, c in by_choice.items()
            if isinstance(choice, Settings) and not choice.is_chain
        }
        rates, num_rounds = _conditional(longest), longest.num_rounds
        return from_rates(rates, self.source, num_rounds=num_rounds, known=known, trees=trees)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Off, every chain up to the longest that was timed, and the trees that were."""
        timed = {t.choice for t in self.profile.timed if isinstance(t.choice, Settings)}
        trees = sorted(s for s in timed if not s.is_chain)
        longest = max((s.num_steps for s in timed if s.is_chain), default=0)
        return (OFF, *(chain(steps) for steps in range(1, longest + 1)), *trees)

    def covers(self, first: int, last: int) -> bool:
        """Whether loads from first to last lie within the measured ones."""
        return bool(self.loads) and self.loads[0] <= first and last <= self.loads[-1]

    def cost(self, choice: Choice, num_requests: int) -> Cost | None:
        """The time of a round under that load; None where the profile says nothing of it."""
        loads = _around(self.loads, num_requests)
        ends = [self._at_load(choice, load) for load in loads]
        return _between(loads, ends, num_requests, "requests")

    def speeds(self, num_requests: int) -> tuple[Speed, ...]:
        """The choices of which all is known under that load, fastest first."""
        found: list[Speed] = []
        for choice in self.choices:
            cost = self.cost(choice, num_requests)
            tokens = self.acceptance.tokens_per_verify(choice).expected
            if cost is not None and tokens is not None:
                speed = num_requests * tokens / cost.total_s
                is_real = self.has_real(choice, num_requests)
                found.append(Speed(choice, speed, is_real, cost.relative_error))
        return tuple(sorted(found, key=lambda s: -s.tokens_per_s))

    def has_real(self, choice: Choice, num_requests: int) -> bool:
        """Whether the round was timed, and its acceptance counted, in a run of this choice."""
        timed = {(t.choice, t.num_requests) for t in self.profile.timed if t.how == "real"}
        counted = choice is OFF or choice in {c.choice for c in self.profile.counted}
        return counted and (choice, num_requests) in timed

    def _at_load(self, choice: Choice, num_requests: int) -> Cost | None:
        times = self._times.get(num_requests, {})
        if choice in times or not _is_chain(choice):
            return times.get(choice)
        assert isinstance(choice, Settings)
        lengths = sorted(s.num_steps for s in times if isinstance(s, Settings) and s.is_chain)
        around = _around(lengths, choice.num_steps)
        return _between(around, [times[chain(s)] for s in around], choice.num_steps, "chains of")

    @cached_property
    def _timed_at(self) -> Mapping[Choice, set[int]]:
        """The loads at which each choice was timed."""
        loads: dict[Choice, set[int]] = {}
        for timed in self.profile.timed:
            loads.setdefault(timed.choice, set()).add(timed.num_requests)
        return loads

    @cached_property
    def _times(self) -> Mapping[int, Mapping[Choice, Cost]]:
        """By load and choice; a real run wins over a synthetic one, a later over an earlier."""
        times: dict[int, dict[Choice, Cost]] = {}
        for timed in sorted(self.profile.timed, key=lambda t: t.how == "real"):
            name = "baseline step" if timed.choice is OFF else "round"
            how = f"median of {len(timed.round_s)} {timed.how} waves, {timed.measured_at}"
            cost = Cost((Term(name, timed.median_s, "measured", how),), timed.relative_error)
            times.setdefault(timed.num_requests, {})[timed.choice] = cost
        return times


def read_measured(path: Path) -> Measured:
    """A finished profile, or a whole result of `eagle3 bench`; Eagle3Error for one that is not."""
    given = read_file(path)
    is_result = given.get("kind") == "bench"
    profile = profile_of(given, str(path)) if is_result else profile_from(given, path)
    if profile.finished_at is None:
        raise Eagle3Error(
            f"{path} is not finished: eagle3 tune was stopped before its end",
            hint="Run the same eagle3 tune again: it goes on where it was stopped.",
        )
    return Measured(profile, str(path))


def find_measured(
    engine: Engine, target: str, draft: str, hardware: str, num_gpus: int
) -> Measured | None:
    """The profile that `eagle3 tune` keeps of this pair, engine and hardware, if there is one."""
    path = profile_path(engine, target, draft, hardware, num_gpus)
    return read_measured(path) if path.exists() else None


def require_same(subject: Subject, engine: Engine, target: str, draft: str, source: str) -> None:
    """Raises UsageError unless the profile is of this pair in this engine."""
    found = (subject.engine, subject.target, subject.draft)
    expected = (engine, full_name(target), full_name(draft))
    if found != expected:
        raise UsageError(
            f"--profile {source} is of {found[1]} with {found[2]} in {found[0]}; "
            f"expected {expected[1]} with {expected[2]} in {expected[0]}",
            hint="Name that pair and engine, or measure this one with eagle3 tune.",
        )


def shorter_tokens_per_verify(counted: Counted, num_steps: int) -> float:
    """What a chain of fewer steps yields, from the counts of a longer one.

    Its rounds begin elsewhere. A long chain begins a round where the one before failed; a short one
    begins many of them inside stretches that are easy, and there does better than the first
    positions of the long one. If the draft is right on stretches of L tokens, whatever the round,
    with S(k) the share of at least k, a stretch is L + 1 tokens and ceil((L + 1) / (n + 1)) rounds
    of n steps: sum S(k) over sum S(k (n + 1)). Beyond the longest counted position S falls by its
    last rate. A draft that gets worse with each step of its own does better when it begins anew;
    then the first positions of the long chain are the better guess, so the larger of both is taken.
    On the tiny pair of this package, vLLM 0.32 counted 1.675 and 2.463 tokens with chains of 1 and
    3: this gives 1.683 and 2.478 from its chain of 7, whose first positions give 1.609 and 2.310.
    """
    rates = _conditional(counted)
    shares = [1.0]
    for rate in rates:
        shares.append(shares[-1] * rate)
    last = min(rates[-1], MAX_TAIL_RATE)
    while shares[-1] > NEGLIGIBLE and len(rates) == len(counted.accepted_by_position):
        shares.append(shares[-1] * last)
    from_stretches = sum(shares) / sum(shares[:: num_steps + 1])
    return min(num_steps + 1, max(from_stretches, sum(shares[: num_steps + 1])))


def _conditional(counted: Counted) -> tuple[float, ...]:
    """The rates up to the first depth that no round reached."""
    reached = (counted.num_rounds, *counted.accepted_by_position)
    return tuple(after / before for before, after in pairwise(reached) if before)


def _is_chain(choice: Choice) -> bool:
    return isinstance(choice, Settings) and choice.is_chain


def _around(points: Sequence[int], wanted: int) -> tuple[int, ...]:
    """The point itself, or the two that it lies between; empty beyond the ends."""
    if wanted in points:
        return (wanted,)
    below, above = [p for p in points if p < wanted], [p for p in points if p > wanted]
    return (max(below), min(above)) if below and above else ()


def _between(
    points: Sequence[int], costs: Sequence[Cost | None], wanted: int, what: str
) -> Cost | None:
    """On the line through the costs at one or two points."""
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(points):
        return None
    if len(known) == 1:
        return known[0]
    (low, high), (first, second) = points, known
    share = (wanted - low) / (high - low)
    seconds = first.total_s + share * (second.total_s - first.total_s)
    error = max(first.relative_error, second.relative_error) + BETWEEN_ERROR
    how = f"between the measured {what} {low} and {high}"
    return Cost((Term(first.terms[0].name, seconds, "measured", how),), error)
