"""What a scored draft did: rounds of draft and verify, and the numbers counted from them.

A round is counted as engines do: the prompt's prefill gives the first token, then each verify
yields the accepted draft tokens and the target's own next one (the bonus), until enough tokens
are out. The last round may run past the end and counts in full, as in the engines' metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from eagle3_plugin.draft.prompts import Modality

if TYPE_CHECKING:
    from eagle3_plugin.settings import Settings

SCHEMA = 1


@dataclass(frozen=True)
class Round:
    """One verify, which began when `num_known` generated tokens were known.

    draft_margin: the least lead (best logit minus second best) of the drafted tokens up to the
        first wrong one, for a tree the `margin` of draft/tree.py; target_margin: the least lead
        of the tokens that the round yields. A round that differs between two programs is a
        near-tie when one of them is tiny.
    """

    num_known: int
    num_accepted: int
    draft_margin: float
    target_margin: float


@dataclass(frozen=True)
class PromptScore:
    """One prompt's greedy continuation, and how far a chain is right from each of its tokens.

    modality: whether the prompt has an image.
    num_matches: for each start (1, 2, … generated tokens known), tokens that a chain gets right.
    draft_margins: for each start, the leads of the drafted tokens up to the first wrong one.
    target_margins: the lead of each written token, those past the end that a last round needs
        included.
    ranks: for each start and depth, which of the draft's best the written token is (0 = best)
        after the written tokens before it; -1 = not among those that were looked at.
    tree_rounds: for each tree that was asked for, the rounds of a greedy run that drafts it.
    """

    set: str
    where: str
    modality: Modality
    num_prompt_tokens: int
    generated: tuple[int, ...]
    num_matches: tuple[int, ...]
    draft_margins: tuple[tuple[float, ...], ...]
    target_margins: tuple[float, ...]
    ranks: tuple[tuple[int, ...], ...]
    tree_rounds: tuple[tuple[Round, ...], ...]

    def rounds(self, chain: int) -> tuple[Round, ...]:
        """The rounds of a greedy run that drafts `chain` tokens each time."""
        rounds = []
        start = 0
        while start < len(self.num_matches):
            accepted = min(self.num_matches[start], chain)
            drafted = self.draft_margins[start][: min(accepted + 1, chain)]
            yielded = self.target_margins[start + 1 : start + accepted + 2]
            rounds.append(Round(start + 1, accepted, min(drafted), min(yielded)))
            start += accepted + 1
        return tuple(rounds)

    def is_fresh(self, num_known: int) -> bool:
        """Whether the newest four of so many generated tokens never came before among them."""
        grams = _grams(self.generated[:num_known])
        return grams[-1] not in grams[:-1] if grams else True


@dataclass(frozen=True)
class TreeScore:
    """The rounds of every prompt with one tree."""

    shape: Settings
    rounds: tuple[tuple[Round, ...], ...]

    @property
    def rounds_per_prompt(self) -> tuple[int, ...]:
        return tuple(map(len, self.rounds))

    @property
    def tokens_per_verify(self) -> float | None:
        """Tokens per verify, the bonus included; None without a round."""
        return _mean(r.num_accepted + 1 for rounds in self.rounds for r in rounds)

    def to_json(self) -> dict[str, Any]:
        return {
            "num_steps": self.shape.num_steps,
            "topk": self.shape.topk,
            "num_draft_tokens": self.shape.num_draft_tokens,
            "tokens_per_verify": self.tokens_per_verify,
            "num_rounds": sum(self.rounds_per_prompt),
            "rounds_per_prompt": list(self.rounds_per_prompt),
        }


@dataclass(frozen=True)
class ModalityScore:
    """The rounds of the prompts of one modality, with chains up to `chain`."""

    chain: int
    prompts: tuple[PromptScore, ...]

    @property
    def tokens_per_verify(self) -> dict[int, float]:
        """Tokens per verify, the bonus included, for every chain length; empty without a round."""
        return _by_chain(self.prompts, self.chain)

    @property
    def acceptance_rate_conditional(self) -> tuple[float | None, ...]:
        """As `ScoreResult.acceptance_rate_conditional`."""
        return _conditional(_num_reached(self.prompts, self.chain))

    def to_json(self) -> dict[str, Any]:
        return {
            "num_prompts": len(self.prompts),
            "num_rounds": _num_reached(self.prompts, self.chain)[0],
            "tokens_per_verify": _string_keys(self.tokens_per_verify),
            "acceptance_rate_conditional": list(self.acceptance_rate_conditional),
        }


@dataclass(frozen=True)
class ScoreResult:
    """The acceptance of a draft on a set of prompts.

    chain: the longest chain; trees: the trees that were judged besides; num_ranks: how many of
    the draft's best tokens the ranks are among; assumed: what no file says, in words.
    """

    chain: int
    max_new_tokens: int
    dtype: str
    taps: tuple[int, ...]
    prompts: tuple[PromptScore, ...]
    num_ranks: int
    trees: tuple[Settings, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def tree_scores(self) -> tuple[TreeScore, ...]:
        """What each tree yields, in the order asked for."""
        return tuple(
            TreeScore(shape, tuple(prompt.tree_rounds[index] for prompt in self.prompts))
            for index, shape in enumerate(self.trees)
        )

    @property
    def rounds_per_prompt(self) -> tuple[int, ...]:
        """Verify rounds of each prompt with the longest chain."""
        return tuple(len(prompt.rounds(self.chain)) for prompt in self.prompts)

    @property
    def accepted_draft_tokens_per_prompt(self) -> tuple[int, ...]:
        """Accepted draft tokens of each prompt with the longest chain, without the bonus."""
        return tuple(sum(r.num_accepted for r in p.rounds(self.chain)) for p in self.prompts)

    @property
    def num_rounds(self) -> int:
        return sum(self.rounds_per_prompt)

    @property
    def num_tokens(self) -> int:
        """Generated tokens without the first of each prompt, which comes from the prefill."""
        return sum(len(prompt.generated) - 1 for prompt in self.prompts)

    @property
    def tokens_per_verify(self) -> dict[int, float]:
        """Tokens per verify, the bonus included, for every chain length."""
        return _by_chain(self.prompts, self.chain)

    @property
    def tokens_per_verify_fresh(self) -> dict[int, float | None]:
        """The same, of the rounds that do not begin inside a repetition; None = no such round."""
        return {
            k: _mean(
                r.num_accepted + 1
                for prompt in self.prompts
                for r in prompt.rounds(k)
                if prompt.is_fresh(r.num_known)
            )
            for k in range(1, self.chain + 1)
        }

    @property
    def distinct_4grams(self) -> float | None:
        """The share of 4-grams that are new in their continuation: low = the target loops."""
        grams = [_grams(prompt.generated) for prompt in self.prompts]
        num_grams = sum(map(len, grams))
        return sum(len(set(g)) for g in grams) / num_grams if num_grams else None

    @property
    def acceptance_rate(self) -> tuple[float, ...]:
        """Share of rounds in which draft position i was accepted (so all before it too)."""
        reached = _num_reached(self.prompts, self.chain)
        return tuple(count / reached[0] for count in reached[1:])

    @property
    def acceptance_rate_conditional(self) -> tuple[float | None, ...]:
        """Share of the rounds that accepted all positions before i in which i was accepted."""
        return _conditional(_num_reached(self.prompts, self.chain))

    @property
    def rank_rate_conditional(self) -> tuple[tuple[float, ...], ...]:
        """For each depth the share of starts whose written token has rank 0, 1, … `num_ranks` - 1.

        Of all starts, whatever a round would have drafted there: the tokens written before it are
        what the draft was fed. What is missing to 1 is the share outside these ranks.
        """
        starts = [ranks for prompt in self.prompts for ranks in prompt.ranks]
        counts = [Counter(depth) for depth in zip(*starts, strict=True)]
        return tuple(
            tuple(count[rank] / len(starts) for rank in range(self.num_ranks)) for count in counts
        )

    @property
    def prompt_sets(self) -> dict[str, dict[int, float]]:
        """Tokens per verify by chain length for each named set; a set without rounds has none."""
        names = dict.fromkeys(prompt.set for prompt in self.prompts)
        sets = {name: [p for p in self.prompts if p.set == name] for name in names}
        return {name: _by_chain(prompts, self.chain) for name, prompts in sets.items()}

    @property
    def modalities(self) -> dict[Modality, ModalityScore]:
        """The prompts without and with images apart, where there are any."""
        apart: dict[Modality, list[PromptScore]] = {"text": [], "image": []}
        for prompt in self.prompts:
            apart[prompt.modality].append(prompt)
        return {m: ModalityScore(self.chain, tuple(ps)) for m, ps in apart.items() if ps}

    def to_json(self) -> dict[str, Any]:
        """The public JSON form (schema 1); counts are of the longest chain unless keyed by one."""
        return {
            "schema": SCHEMA,
            "chain": self.chain,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            "taps": list(self.taps),
            "assumed": list(self.assumed),
            "num_prompts": len(self.prompts),
            "num_rounds": self.num_rounds,
            "num_tokens": self.num_tokens,
            "tokens_per_verify": _string_keys(self.tokens_per_verify),
            "tokens_per_verify_fresh": _string_keys(self.tokens_per_verify_fresh),
            "distinct_4grams": self.distinct_4grams,
            "acceptance_rate": list(self.acceptance_rate),
            "acceptance_rate_conditional": list(self.acceptance_rate_conditional),
            "modalities": {name: one.to_json() for name, one in self.modalities.items()},
            "prompt_sets": {name: _string_keys(v) for name, v in self.prompt_sets.items()},
            "rounds_per_prompt": list(self.rounds_per_prompt),
            "accepted_draft_tokens_per_prompt": list(self.accepted_draft_tokens_per_prompt),
            "rank_wise": {
                "topk": self.num_ranks,
                "acceptance_rate_conditional": [list(d) for d in self.rank_rate_conditional],
            },
            "trees": [tree.to_json() for tree in self.tree_scores],
        }


def _by_chain(prompts: Iterable[PromptScore], chain: int) -> dict[int, float]:
    prompts = list(prompts)
    means = {
        k: _mean(r.num_accepted + 1 for prompt in prompts for r in prompt.rounds(k))
        for k in range(1, chain + 1)
    }
    return {k: mean for k, mean in means.items() if mean is not None}


def _num_reached(prompts: Iterable[PromptScore], chain: int) -> list[int]:
    """Rounds that accepted at least 0, 1, … `chain` draft tokens."""
    accepted = [r.num_accepted for prompt in prompts for r in prompt.rounds(chain)]
    return [sum(a >= position for a in accepted) for position in range(chain + 1)]


def _conditional(num_reached: Sequence[int]) -> tuple[float | None, ...]:
    return tuple(after / before if before else None for before, after in pairwise(num_reached))


def _grams(ids: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + 4]) for i in range(len(ids) - 3)]


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def _string_keys(by_chain: Mapping[int, float | None]) -> dict[str, float | None]:
    return {str(chain): value for chain, value in by_chain.items()}
