"""Tree drafting with the oracle, choice for choice as SGLang 0.5.23 does it.

Read in SGLang 0.5.23, files under sglang/srt/speculative unless said:

- The first candidates are the topk best of the last row of draft extend, which runs over the
  target's taps as for a chain (eagle_worker_v2.py:1073-1074, 1268-1275). Scores are softmax over
  the *draft's* vocabulary (spec_utils.py:206-219), multiplied along the path. Each later step
  drafts topk * topk candidates and goes on with the topk best of these (spec_utils.py:417-471).
- The tree is the best num_draft_tokens - 1 of all candidates, topk + (steps - 1) * topk^2 of them,
  in the order of their index (eagle_utils.py:100-129); the newest token is its root. A candidate
  is in row (index - topk) // topk of its step, whose token is its parent (kernels/ops/speculative/
  spec_tree.py:96-136). No child scores above its parent, but it may tie, when its probability
  rounds to 1: a node whose parent was not kept hangs loose, and no walk gets there.
- **Rows keep their keys.** Step i writes the keys of row j to slot j * steps + i behind the prefix
  (eagle_utils.py:57-78) and row j sees the prefix and the slots of row j, nothing else
  (kernels/ops/speculative/cache_locs.py:262-272; on CPUs layers/attention/intel_amx_backend.py:
  461-487). The beam reorders tokens and hidden states between steps (spec_utils.py:450-463),
  and nothing moves keys. So a row sees what was in that row before, not its path. Training
  knows paths only; this is SGLang's, and it is what acceptance is measured with there.
- Row positions are the number of rows with taps, one more each step (eagle_worker_common.py:
  357-361, eagle_worker_v2.py:888); after images they go on from the start's (rows.py).
- Verify walks from the root to the child that has the target's token, as long as there is one
  (spec_tree.py:211-290); then the taps of the accepted path go to the front, and draft extend
  writes the prefix anew from them (eagle_worker_common.py:492-544).
- With topk 1 it is draft_chain (argmax, eagle_worker_v2.py:876; num_draft_tokens is set to
  steps + 1 in arg_groups/speculative_hook.py:1255-1266).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.draft.rows import Rows
from eagle3_plugin.errors import UsageError
from eagle3_plugin.settings import Settings

ROOT = -1
"""The parent of the nodes that follow the newest token."""

LOOSE = -2
"""The parent of a node whose parent was not kept."""


@dataclass(frozen=True)
class Tree:
    """The drafted nodes, [num_draft_tokens - 1] each, in SGLang's order.

    tokens: target ids. parents: a node's index, ROOT or LOOSE. depths: from 1. scores: the
    product of probabilities along the path. margin: the least lead in nats, between neighbours
    in score, that any choice or order of candidates hangs on; 0 for a tie, infinite if there was
    nothing to choose. Two programs that draft different trees met a near-tie when it is tiny.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    scores: tuple[float, ...]
    margin: float

    def accepted(self, written: Sequence[int]) -> tuple[int, ...]:
        """The nodes along what the target writes after the newest token, as far as they go."""
        links = zip(self.parents, self.tokens, strict=True)
        children = {link: node for node, link in enumerate(links)}
        path: list[int] = []
        node = ROOT
        for token in written:
            if (node, token) not in children:
                break
            node = children[node, token]
            path.append(node)
        return tuple(path)


@dataclass(frozen=True)
class TreeRound:
    """One verify: the row that it starts from, the tree, and how many of its tokens were right."""

    start: int
    tree: Tree
    num_accepted: int


@dataclass(frozen=True)
class Prefix:
    """Pass one over a text: the keys, normed states and states to feed of each row, [T, hidden].

    Row t has the taps of token t and the embedding of token t + 1; a tree starts from any of them.
    positions: [T] or [3, T].
    """

    draft: ReferenceDraft
    cache: Cache
    normed: Tensor
    feedback: Tensor
    positions: Tensor


@torch.inference_mode()
def run_prefix(draft: ReferenceDraft, taps: Tensor, rows: Rows) -> Prefix:
    """taps: [T, num_taps * target_hidden]; rows: of T + 1 tokens or more."""
    cache: Cache = []
    embeds = rows.first(len(taps) + 1).embeddings(draft)[None, 1:]
    positions = rows.positions[..., : len(taps)]
    normed, feedback = draft(embeds, draft.fuse(taps)[None], positions[..., None, :], cache)
    return Prefix(draft, cache, normed[0], feedback[0], positions)


def simulate_trees(
    draft: ReferenceDraft, taps: Tensor, rows: Rows, starts: range, shape: Settings
) -> list[TreeRound]:
    """The rounds of a greedy run against a known continuation.

    taps: [T, num_taps * target_hidden]; rows: of T + 1 tokens or more, prompt and what the target
        wrote, with num_steps tokens after that of the last start's newest one.
    starts: rows; the first round begins at the first, and no round after the last.
    """
    prefix = run_prefix(draft, taps, rows)
    written = rows.ids.tolist()
    rounds = []
    start = starts.start
    while start < starts.stop:
        tree = draft_tree(prefix, start, shape)
        num_accepted = len(tree.accepted(written[start + 2 : start + 2 + shape.num_steps]))
        rounds.append(TreeRound(start, tree, num_accepted))
        start += num_accepted + 1
    return rounds


@torch.inference_mode()
def draft_tree(prefix: Prefix, start: int, shape: Settings) -> Tree:
    """The tree after row `start`, whose newest token is that of row start + 1."""
    draft = prefix.draft
    check_vocabulary(shape, draft.config.draft_vocab_size)
    beam = _Beam(prefix, start, shape.topk)
    tree = grow_tree(_probabilities(draft, prefix.normed[start]), beam.propose, shape)
    ids = draft.to_target_ids(torch.tensor(tree.tokens, device=prefix.normed.device))
    return replace(tree, tokens=tuple(ids.tolist()))


def check_vocabulary(shape: Settings, draft_vocab_size: int) -> None:
    """Raises UsageError when topk is more than the draft's tokens."""
    if shape.topk > draft_vocab_size:
        raise UsageError(
            f"tree {shape}: topk is {shape.topk}, expected at most {draft_vocab_size}, the size "
            "of the draft's vocabulary",
            hint="Take a smaller topk.",
        )


def grow_tree(first: Tensor, propose: Callable[[Tensor, Tensor], Tensor], shape: Settings) -> Tree:
    """The tree that SGLang grows from these probabilities; its tokens are the draft's own ids.

    first: [draft_vocab], after the newest token.
    propose: (tokens [topk], rows [topk]) -> [topk, draft_vocab], after each token of the beam;
        rows: the row of the last call that the token was drafted in; zeros in the first call.
    """
    topk = shape.topk
    scores, tokens = _best(first, topk)
    beam, rows = torch.arange(topk, device=first.device), torch.zeros_like(tokens)
    drafted = [(scores, tokens, torch.full_like(beam, ROOT))]
    leads = [_leads(first, topk)]
    for step in range(1, shape.num_steps):
        probabilities = propose(tokens, rows)
        best, ids = _best(probabilities, topk)
        candidates, ids = (scores[:, None] * best).flatten(), ids.flatten()
        drafted.append((candidates, ids, beam.repeat_interleave(topk)))
        leads += [_leads(probabilities, topk)[:, -1], _leads(candidates, topk)]
        scores, chosen = _best(candidates, topk)
        tokens, rows = ids[chosen], chosen // topk
        beam = topk + (step - 1) * topk**2 + chosen
    return _keep(drafted, leads, shape)


def _keep(
    drafted: Sequence[tuple[Tensor, Tensor, Tensor]], leads: Sequence[Tensor], shape: Settings
) -> Tree:
    """drafted: scores, tokens and parents (candidates, ROOT) of each step's candidates."""
    scores, tokens, parents = (torch.cat(column) for column in zip(*drafted, strict=True))
    num_nodes, topk = shape.num_draft_tokens - 1, shape.topk
    kept = scores.topk(num_nodes).indices.sort().values
    nodes = {ROOT: ROOT} | {index: node for node, index in enumerate(kept.tolist())}
    return Tree(
        tokens=tuple(tokens[kept].tolist()),
        parents=tuple(nodes.get(parent, LOOSE) for parent in parents[kept].tolist()),
        depths=tuple(2 + (i - topk) // topk**2 if i >= topk else 1 for i in kept.tolist()),
        scores=tuple(scores[kept].tolist()),
        margin=float(torch.cat([*leads, _leads(scores, num_nodes)[-1:]]).min()),
    )


def _best(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best, the first one of equals (`fast_topk`, srt/utils/common.py:3941-3947)."""
    best = values.max(-1, keepdim=True) if count == 1 else values.topk(count)
    return best.values, best.indices


def _leads(values: Tensor, count: int) -> Tensor:
    """[..., count]: the lead in nats of each of the `count` best values over the next."""
    best = pad(values, (0, 1)).topk(count + 1).values
    return (best[..., :-1] / best[..., 1:]).log().nan_to_num(nan=0.0, posinf=torch.inf)


class _Beam:
    """The topk rows that draft side by side; each sees the prefix and what itself has run."""

    def __init__(self, prefix: Prefix, start: int, topk: int) -> None:
        self.draft = prefix.draft
        self.cache = [(k[:, :, : start + 1], v[:, :, : start + 1]) for k, v in prefix.cache]
        self.states = prefix.feedback[start][None]
        self.positions = prefix.positions[..., None, [start] * topk]
        self.own = torch.eye(topk, dtype=torch.bool, device=self.states.device)
        self.seen = torch.ones_like(self.own[:, :1]).expand(-1, start + 1)

    def propose(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """One pass: [topk, draft_vocab]."""
        self.seen = torch.cat([self.seen, self.own], dim=1)
        self.positions = self.positions + 1
        embeds = self.draft.embed_tokens(self.draft.to_target_ids(tokens))
        normed, feedback = self.draft(
            embeds[None], self.states[rows][None], self.positions, self.cache, self.seen[None, None]
        )
        self.states = feedback[0]
        return _probabilities(self.draft, normed[0])


def _probabilities(draft: ReferenceDraft, normed: Tensor) -> Tensor:
    """In float32 or wider, as SGLang's logits are (srt/layers/logits_processor.py:1368)."""
    logits = draft.logits(normed)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
