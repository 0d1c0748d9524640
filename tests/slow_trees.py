"""SGLang's trees without masks, batches or indices: every row is run alone, in its own cache."""

from __future__ import annotations

import torch
from torch import Tensor

from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.draft.tree import ROOT, Prefix, Tree
from eagle3_plugin.settings import Settings

Path = tuple[int, ...]
"""The ids from the root to a node, that one included."""


def slow_tree(prefix: Prefix, start: int, shape: Settings, *, own_rows: bool) -> list[Path]:
    """The paths of the kept nodes, every row run alone, with lists and sorting only.

    own_rows: whether a row goes on with the keys that were written in it, as in SGLang; otherwise
        with those of the path that it drafts, as in training.
    """
    draft, k = prefix.draft, shape.topk
    context = [(keys[:, :, : start + 1], v[:, :, : start + 1]) for keys, v in prefix.cache]
    pool: list[tuple[Path, float]] = [
        ((token,), p) for token, p in best_of(draft, prefix.normed[start], k)
    ]
    rows = [(path, p, prefix.feedback[start], list(context)) for path, p in pool]
    for step in range(1, shape.num_steps):
        ran, candidates = [], []
        for path, p, state, cache in rows:
            normed, fed = run_alone(draft, path[-1], state, start + step, cache)
            ran.append((fed, cache))
            row = len(ran) - 1
            candidates += [((*path, t), p * q, row) for t, q in best_of(draft, normed, k)]
        pool += [(path, p) for path, p, _ in candidates]
        beam = sorted(candidates, key=lambda c: -c[1])[:k]
        rows = []
        for slot, (path, p, row) in enumerate(beam):
            cache = ran[slot if own_rows else row][1]
            rows.append((path, p, ran[row][0], list(cache)))
    kept = sorted(range(len(pool)), key=lambda i: -pool[i][1])[: shape.num_draft_tokens - 1]
    return [pool[i][0] for i in sorted(kept)]


def best_of(draft: ReferenceDraft, normed: Tensor, count: int) -> list[tuple[int, float]]:
    probabilities = draft.logits(normed).softmax(-1).tolist()
    return sorted(enumerate(probabilities), key=lambda pair: -pair[1])[:count]


def run_alone(
    draft: ReferenceDraft, token: int, state: Tensor, position: int, cache: Cache
) -> tuple[Tensor, Tensor]:
    """One row, without a mask: it sees all that is in its cache, which gets its own keys."""
    embeds = draft.embed_tokens(draft.to_target_ids(torch.tensor([token])))
    normed, fed = draft(embeds[None], state[None, None], torch.tensor([[position]]), cache)
    return normed[0, 0], fed[0, 0]


def paths_of(tree: Tree) -> list[Path]:
    paths: list[Path] = []
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        paths.append((*(paths[parent] if parent != ROOT else ()), token))
    return paths


def to_target(draft: ReferenceDraft, paths: list[Path]) -> list[Path]:
    return [tuple(draft.to_target_ids(torch.tensor(path)).tolist()) for path in paths]
