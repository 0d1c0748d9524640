"""How was this draft trained on images? Tries every way to feed it, on the same text.

No file of any trainer says what the draft was given at image positions: the placeholder's own
embedding or the target's visual feature, and taps caught before or after the visual add.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.ranking import Ranking, rank, sums_of
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rounds import SCHEMA
from eagle3_plugin.draft.score import Progress, continuations, judge, num_rows
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error

Embedding = Literal["placeholder", "visual"]
Tap = Literal["after", "before"]


@dataclass(frozen=True)
class Wiring:
    """What a draft is given at image positions.

    deepstack_tap: None where no tap lies in the layers that add visual features.
    """

    image_embedding: Embedding
    deepstack_tap: Tap | None

    def applied(self, config: DraftConfig) -> DraftConfig:
        """The draft that is fed so."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return config.model_copy(update=fields)


@dataclass(frozen=True)
class WiringScore:
    """One candidate; the numbers are those of `Ranking`."""

    wiring: Wiring
    tokens_per_start: float
    loss_nats: float

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self.wiring),
            "tokens_per_start": self.tokens_per_start,
            "loss_nats": self.loss_nats,
        }


@dataclass(frozen=True)
class ImageSweepResult:
    """The candidates by loss on image prompts, the best first; the numbers are those of `Ranking`.

    image_embedding, deepstack_tap: as the draft says, or "unknown".
    """

    chain: int
    num_prompts: int
    image_embedding: str
    deepstack_tap: str
    ranking: tuple[WiringScore, ...]
    margin_nats: float
    margin_tokens: float
    confidence: float | None

    @property
    def best(self) -> Wiring:
        return self.ranking[0].wiring

    @property
    def unsaid(self) -> dict[str, str]:
        """The fields of the best one that the draft does not say, or says otherwise."""
        said = (self.image_embedding, self.deepstack_tap)
        fields = zip(asdict(self.best).items(), said, strict=True)
        return {name: found for (name, found), word in fields if found not in (None, word)}

    def to_json(self) -> dict[str, Any]:
        """The public JSON form (schema 1)."""
        return {
            "schema": SCHEMA,
            "chain": self.chain,
            "num_prompts": self.num_prompts,
            "stated": {
                "image_embedding": self.image_embedding,
                "deepstack_tap": self.deepstack_tap,
            },
            "best": asdict(self.best),
            "margin_nats": self.margin_nats,
            "margin_tokens": self.margin_tokens,
            "confidence": self.confidence,
            "ranking": [one.to_json() for one in self.ranking],
        }


def candidate_wirings(config: DraftConfig, target: TargetModel) -> tuple[Wiring, ...]:
    """Every way that makes a difference: visual only for a draft as wide as its target, and the
    place of the taps only where one lies in the layers that add visual features.
    """
    fits = config.hidden_size == config.target_hidden_size
    embeddings: tuple[Embedding, ...] = ("placeholder", "visual") if fits else ("placeholder",)
    taps = config.taps_for(target.num_layers)
    is_low = any(1 <= tap <= target.num_deepstack for tap in taps)
    places: tuple[Tap | None, ...] = get_args(Tap) if is_low else (None,)
    return tuple(Wiring(*pair) for pair in itertools.product(embeddings, places))


def sweep_images(
    target: TargetModel,
    draft: ReferenceDraft,
    prompts: Sequence[Prompt],
    *,
    chain: int = 7,
    max_new_tokens: int = 128,
    ignore_end: bool = False,
    progress: Progress | None = None,
) -> ImageSweepResult:
    """The ways to feed a draft at images, ranked on one greedy text per image prompt."""
    seen = [prompt for prompt in prompts if prompt.images]
    candidates = candidate_wirings(draft.config, target)
    _check(len(seen), candidates, draft.config, target)
    fed = [_fed(draft, wiring) for wiring in candidates]
    taps = draft.config.taps_for(target.num_layers)
    sums = []
    for _, text in continuations(
        target, seen, chain, max_new_tokens, ignore_end=ignore_end, progress=progress
    ):
        ids = text.ids[: num_rows(text)]
        states = {
            place: target.states(text.prompt, ids, taps, deepstack=place)
            for place in {one.config.deepstack_tap for one in fed}
        }
        chains = [
            judge(
                one,
                text,
                target.rows(text.prompt, text.ids, one),
                states[one.config.deepstack_tap],
                taps,
                chain,
            )
            for one in fed
        ]
        sums.append([sums_of(one) for one in chains])
    return _result(chain, len(seen), draft.config, candidates, rank(sums))


def _check(
    num_prompts: int, candidates: Sequence[Wiring], config: DraftConfig, target: TargetModel
) -> None:
    if not num_prompts:
        raise Eagle3Error(
            "nothing to compare: none of the prompts has an image",
            hint="Give a file of image prompts with --prompts.",
        )
    if len(candidates) < 2:
        raise Eagle3Error(
            f"nothing to compare: a draft of hidden size {config.hidden_size} beside a target of "
            f"{config.target_hidden_size} takes placeholders, and its taps "
            f"{list(config.taps_for(target.num_layers))} lie beyond the visual adds",
            hint="Score it without sweeping over images.",
        )


def _fed(draft: ReferenceDraft, wiring: Wiring) -> ReferenceDraft:
    """The same weights under another config."""
    other = copy.copy(draft)
    other.config = wiring.applied(draft.config)
    return other


def _result(
    chain: int,
    num_prompts: int,
    config: DraftConfig,
    candidates: Sequence[Wiring],
    found: Ranking,
) -> ImageSweepResult:
    return ImageSweepResult(
        chain=chain,
        num_prompts=num_prompts,
        image_embedding=config.image_embedding,
        deepstack_tap=config.deepstack_tap,
        ranking=tuple(
            WiringScore(candidates[i], found.tokens_per_start[i], found.losses_nats[i])
            for i in found.order
        ),
        margin_nats=found.margin_nats,
        margin_tokens=found.margin_tokens,
        confidence=found.confidence,
    )
