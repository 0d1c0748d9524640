"""Trains a vision tower alone: what its tokens say in the text model's own embedding.

Each picture is a bag of words ("small red circle top left"), and the best of its image tokens must
score each of them: the text model then finds words it knows where the picture is, and has only to
learn to read them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from eagle3_plugin.tiny.optimizer import Optimizer, Schedule, SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker
from eagle3_plugin.tiny.target import Progress, cast
from eagle3_plugin.tiny.vl_pictures import Picture, draw, pictures
from eagle3_plugin.tiny.vl_recipes import VlTargetRecipe


def train_tower(
    model: PreTrainedModel,
    weights: SharedWeights,
    processor: Any,
    recipe: VlTargetRecipe,
    worker: Worker,
    dtype: torch.dtype,
    progress: Progress,
) -> None:
    """Trains `model.model.visual`, whose weights are `weights`; it ends with the result."""
    tower: nn.Module = model.model.visual
    schedule = Schedule(recipe.tower_steps, recipe.tower_matrix_rate, recipe.tower_other_rate)
    optimizer = Optimizer(weights, worker, schedule, is_no_matrix)
    source = pictures(random.Random(f"tower {worker.rank}"), held_out=False)
    words = model.lm_head.weight.detach()
    cast(tower, dtype)
    for step in range(recipe.tower_steps):
        shown = list(islice(source, recipe.tower_batch // NUM_WORKERS))
        optimizer.update(tower, partial(_loss, tower, words, processor, shown))
        progress(step + 1)
    weights.load_into(tower)


def is_no_matrix(name: str) -> bool:
    """Whether a weight is a table, whose rows Muon would mix."""
    return any(part in name for part in ("embed_tokens", "pos_embed"))


def _loss(tower: nn.Module, words: Tensor, processor: Any, shown: Sequence[Picture]) -> Tensor:
    """The mean cross entropy of the bags of words, over merged and deepstack features."""
    made = processor.image_processor([draw(one) for one in shown], return_tensors="pt")
    grids = made["image_grid_thw"]
    out = tower(made["pixel_values"], grid_thw=grids)
    counts = (grids.prod(dim=-1) // processor.image_processor.merge_size**2).tolist()
    bags = torch.stack([_bag(processor.tokenizer, one, len(words)) for one in shown])
    total = torch.zeros(())
    for features in (out.pooler_output, *out.deepstack_features):
        scores = (features @ words.T.to(features.dtype)).float().split(counts)
        best = torch.stack([score.max(dim=0).values for score in scores])
        total = total - (bags * best.log_softmax(dim=-1)).sum(dim=-1).mean()
    return total / (1 + len(out.deepstack_features))


def _bag(tokenizer: Any, picture: Picture, vocab_size: int) -> Tensor:
    """Equal shares for the tokens of the picture's words, [vocab]."""
    bag = torch.zeros(vocab_size)
    bag[tokenizer(picture.words)["input_ids"]] = 1
    return bag / bag.sum()
