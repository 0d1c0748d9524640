"""Which chain to run at which batch size, and from which on none: a server's load changes.

Both engines can follow such a table, with chains only. A batch size keeps the chain of the one
before it while that is within KEEP of the best, so that the table is short and a load that moves
by one request changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eagle3_plugin.planning.asked import Asked
from eagle3_plugin.planning.ranking import Range, Ranking, Yields, rank
from eagle3_plugin.planning.settings import OFF, Choice, chains
from eagle3_plugin.settings import chain

KEEP: Final = 0.01


@dataclass(frozen=True)
class Stretch:
    """The batch sizes from `first` to `last`, inclusive, and what to run at them.

    speedup: predicted, at the first and at the last of them; of a stretch that begins below the
    loads of a profile, at the first of those.
    """

    first: int
    last: int
    choice: Choice
    speedup: tuple[Range, Range]

    @property
    def num_steps(self) -> int:
        return 0 if self.choice is OFF else self.choice.num_steps


def schedule(asked: Asked, yields: Yields) -> tuple[Stretch, ...]:
    """The stretches from batch size 1 to the last that is asked for.

    Below the loads of a profile the choice at the first of them holds.
    """
    choices: tuple[Choice, ...] = (OFF, *chains())
    ours = {choice: yields[choice] for choice in choices}
    picked: list[tuple[Choice, Range]] = []
    known = 1 if asked.measured is None else asked.measured.loads[0]
    for num_requests in range(known, asked.last + 1):
        ranking = rank(asked, num_requests, ours)
        choice = _kept(picked[-1][0], ranking) if picked else ranking.choice
        picked.append((choice, ranking.of(choice).speedup))
    return _stretches(picked, known)


def off_from(stretches: Sequence[Stretch]) -> int | None:
    """The batch size from which on speculation is off for good; None if it stays on."""
    last = stretches[-1]
    return last.first if last.choice is OFF else None


def is_constant(stretches: Sequence[Stretch]) -> bool:
    """Whether one setting serves all batch sizes, so that no table is needed."""
    return len(stretches) == 1


def vllm_schedule(stretches: Iterable[Stretch]) -> list[tuple[int, int, int]]:
    """vLLM's `num_speculative_tokens_per_batch_size`: first, last, draft tokens (0 = off).

    It begins at 1 and its last entry holds for all larger batches (0.32.0,
    vllm/v1/spec_decode/dynamic/utils.py).
    """
    return [(s.first, s.last, s.num_steps) for s in stretches]


def sglang_config(stretches: Iterable[Stretch]) -> dict[str, dict[str, Any]]:
    """SGLang's `--speculative-adaptive-config`: by the first batch size, the steps to run.

    One candidate each: SGLang's own thresholds between several know acceptance and no cost. It
    rounds a batch up to the size of its graph first, so a stretch may begin a little earlier
    (0.5.23, srt/speculative/adaptive_spec_params.py).
    """
    return {str(s.first): {"candidate_steps": [s.num_steps]} for s in stretches}


def sglang_steps(stretches: Iterable[Stretch]) -> int:
    """A --speculative-num-steps that is one of the candidates, as SGLang asks for."""
    return max(s.num_steps for s in stretches)


def longest_chain(stretches: Iterable[Stretch]) -> Choice:
    """The chain that a server has to be started with; off when none is ever run."""
    most = max(s.num_steps for s in stretches)
    return chain(most) if most else OFF


def _kept(before: Choice, ranking: Ranking) -> Choice:
    """The choice of the batch size before, where it still passes and loses less than KEEP."""
    best = ranking.best
    kept = next((r for r in ranking.ranked if r.choice == before), None)
    least = best.speedup.cautious * (1 - KEEP)
    stays = kept is not None and kept.passes and kept.speedup.cautious >= least
    return before if stays else best.choice


def _stretches(picked: Sequence[tuple[Choice, Range]], known: int) -> tuple[Stretch, ...]:
    """picked: for the batch sizes from `known` on; the first stretch begins at 1 all the same."""
    found: list[Stretch] = []
    for size, (choice, speedup) in enumerate(picked, start=known):
        if found and found[-1].choice == choice:
            before = found.pop()
            found.append(Stretch(before.first, size, choice, (before.speedup[0], speedup)))
        else:
            found.append(Stretch(size if found else 1, size, choice, (speedup, speedup)))
    return tuple(found)
