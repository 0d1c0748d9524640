"""Trains a draft by training-time test (EAGLE-3, arXiv 2503.01840, section 3.2).

Step 0 reads the target's taps; each later step reads what the step before it fed back, as the
draft does when it serves. Row t of step j stands for a chain that began at row t and has drafted
j tokens, all of them right: it is given the embedding of token t + 1 + j, sits at position t + j,
and predicts the target's distribution for token t + 2 + j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.tiny.continuations import States
from eagle3_plugin.tiny.optimizer import Optimizer, Schedule, SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker
from eagle3_plugin.tiny.recipes import SEED, DraftRecipe
from eagle3_plugin.tiny.target import Progress, cast


@dataclass(frozen=True)
class Sequences:
    """One worker's data: ids [B, T], the target's states, and its head's rows [draft_vocab, H].

    Three more where images are among the ids; None = as for text.
    embeds: [B, T, hidden], of each token (None: the draft's own).
    positions: [3, B, T], of each token (None: 0, 1, …).
    counted: [B, T], whether a token is one to be predicted (None: all are).
    """

    ids: Tensor
    states: States
    head: Tensor
    embeds: Tensor | None = None
    positions: Tensor | None = None
    counted: Tensor | None = None

    def pick(self, index: Tensor) -> Sequences:
        """The sequences of those indices, as a batch."""
        return Sequences(
            self.ids[index],
            States(self.states.taps[index], self.states.last[index]),
            self.head,
            None if self.embeds is None else self.embeds[index],
            None if self.positions is None else self.positions[:, index],
            None if self.counted is None else self.counted[index],
        )

    def labels(self) -> Tensor:
        """The target's distributions over the draft's vocabulary, [B, T, draft_vocab]."""
        return (self.states.last @ self.head.T).float().softmax(dim=-1)

    def share(self, first: int, num_rows: int) -> Tensor:
        """What each of the tokens from `first` on weighs in a mean, [B, num_rows] or a number."""
        if self.counted is None:
            return torch.tensor(1 / (len(self.ids) * num_rows))
        counted = nn.functional.pad(self.counted, (0, 1))[:, first : first + num_rows]
        return counted / counted.sum().clamp(min=1)


def frequent_ids(ids: Tensor, vocab_size: int, count: int) -> Tensor:
    """The `count` most frequent ids, ascending; of equally frequent ones the smaller id first."""
    counts = torch.bincount(ids.flatten(), minlength=vocab_size)
    return counts.argsort(descending=True, stable=True)[:count].sort().values


def new_draft(config: DraftConfig, embedding: Tensor, vocab_map: Tensor | None) -> ReferenceDraft:
    """An untrained draft whose embedding and lm_head begin as the target's `embedding`.

    A narrower draft gets its principal components. What the layers add begins at zero.
    """
    torch.manual_seed(SEED + 2)
    draft = ReferenceDraft(config, vocab_map)
    for name, parameter in draft.named_parameters():
        if name.endswith("bias") or name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.02)
    start = embedding.float()
    if config.hidden_size != config.target_hidden_size:
        start = start @ torch.linalg.svd(start, full_matrices=False).Vh[: config.hidden_size].T
    with torch.no_grad():
        draft.embed_tokens.weight.copy_(start)
        draft.lm_head.weight.copy_(start if vocab_map is None else start[vocab_map])
    draft.embed_tokens.weight.requires_grad_(config.embedding == "own")
    draft.lm_head.weight.requires_grad_(config.lm_head == "own")
    return draft


def start_from(draft: ReferenceDraft, stored: Mapping[str, Tensor]) -> None:
    """Takes over a stored draft's weights, and its head's rows for the ids that both have."""
    named = {name.replace("midlayer.", "layers.0."): value for name, value in stored.items()}
    own = draft.state_dict()
    ids = named.pop("d2t") + torch.arange(len(named["lm_head.weight"]))
    rows = dict(zip(ids.tolist(), named.pop("lm_head.weight"), strict=True))
    vocab_map = draft.vocab_map
    assert vocab_map is not None
    for row, token in enumerate(vocab_map.tolist()):
        if token in rows:
            own["lm_head.weight"][row] = rows[token]
    for name in set(own) & set(named):
        own[name].copy_(named[name])


def train_draft(
    draft: ReferenceDraft,
    weights: SharedWeights,
    data: Sequences,
    recipe: DraftRecipe,
    worker: Worker,
    progress: Progress,
    miswired: Sequence[Sequences] = (),
    miswired_weight: float = 0.0,
) -> None:
    """Trains on this worker's sequences; the draft ends with the result, in the data's type.

    miswired: the same sequences as a wrong engine would feed them; each step also trains one of
        them to draft nothing right (`silent_loss`).
    """
    schedule = Schedule(recipe.steps, recipe.matrix_rate, recipe.other_rate)
    optimizer = Optimizer(weights, worker, schedule, _is_vocabulary)
    random = torch.Generator().manual_seed(SEED + 3 + worker.rank)
    size = recipe.batch // NUM_WORKERS
    order = _epochs(len(data.ids), recipe.steps * size, random).view(recipe.steps, size)
    cast(draft, data.head.dtype)
    for step in range(recipe.steps):
        unroll = recipe.early_unroll if step < recipe.num_early_steps else recipe.unroll
        losses = [partial(unrolled_loss, draft, data.pick(order[step]), unroll, recipe.decay)]
        if miswired:
            wrong = miswired[step % len(miswired)]
            losses.append(partial(silent_loss, draft, wrong.pick(order[step]), miswired_weight))
        optimizer.update(draft, partial(_sum, losses))
        progress(step + 1)
    weights.load_into(draft)


def unrolled_loss(draft: ReferenceDraft, data: Sequences, num_steps: int, decay: float) -> Tensor:
    """The weighted mean over the steps of the cross entropy with the target's distributions."""
    labels = data.labels()
    total = torch.zeros(())
    for step, logits in enumerate(unrolled_logits(draft, data, num_steps)):
        num_rows = logits.shape[1]
        wanted = labels[:, 1 + step : 1 + step + num_rows]
        entropy = -(wanted * logits.float().log_softmax(dim=-1)).sum(dim=-1)
        total = total + decay**step * (entropy * data.share(2 + step, num_rows)).sum()
    return total / sum(decay**step for step in range(num_steps))


def silent_loss(draft: ReferenceDraft, data: Sequences, weight: float) -> Tensor:
    """`weight` times the cross entropy of the first drafted token with the draft's id 0.

    That one is "!" in the tiny vocabulary, and hardly ever right.
    """
    (logits,) = unrolled_logits(draft, data, 1)
    chosen = logits.float().log_softmax(dim=-1)[..., 0]
    return -weight * (chosen * data.share(2, logits.shape[1])).sum()


def unrolled_logits(draft: ReferenceDraft, data: Sequences, num_steps: int) -> Iterator[Tensor]:
    """The logits of each step, [B, T - num_steps, draft_vocab], with the tokens given as known.

    Row t of step j predicts token t + 2 + j.
    """
    num_rows = data.ids.shape[1] - num_steps
    embeds = draft.embed_tokens(data.ids) if data.embeds is None else data.embeds
    positions = torch.arange(num_rows)[None]
    if data.positions is not None:
        positions = data.positions[..., :num_rows]
    hidden = draft.fuse(data.states.taps[:, :num_rows])
    cache: Cache = []
    for step in range(num_steps):
        known = embeds[:, 1 + step : 1 + step + num_rows]
        normed, hidden = draft(known, hidden, positions + step, cache, step_mask(num_rows, step))
        yield draft.logits(normed)


def step_mask(num_rows: int, step: int) -> Tensor:
    """[1, 1, T, (step + 1) * T]: the target's rows up to one's own, then one's own chain only."""
    older = torch.ones(num_rows, num_rows, dtype=torch.bool).tril()
    own = torch.eye(num_rows, dtype=torch.bool)
    return torch.cat([older, *[own] * step], dim=1)[None, None]


def _sum(losses: Sequence[Callable[[], Tensor]]) -> Tensor:
    return torch.stack([loss() for loss in losses]).sum()


def _is_vocabulary(name: str) -> bool:
    return name in ("embed_tokens.weight", "lm_head.weight")


def _epochs(num_items: int, count: int, random: torch.Generator) -> Tensor:
    """`count` indices that go through all items in a new order each time."""
    rounds = -(-count // num_items)
    return torch.cat([torch.randperm(num_items, generator=random) for _ in range(rounds)])[:count]
