"""Chain drafting with the oracle: one chain, or the chains of every position at once.

A chain starts at row t, which is the last token whose taps are known; token t + 1 is the newest
one. Its first pass runs over all rows 0..t with taps, so every key of the context comes from the
target's states; only the drafted tail is computed from the draft's own fed-back states, and the
next round's first pass overwrites it. Engines do the same without running old rows again: in vLLM
0.32 (v1/spec_decode/llm_base_proposer.py, `propose` and `set_inputs_first_pass`) each round starts
with a pass over the taps of the tokens that the target has just run, up to the last accepted one;
then it feeds that row's `hidden_states` and the drafted token, one row and one position a step.
SGLang calls the first pass draft extend.

After images a token's position is not its index (rows.py): a chain goes on from the position of
its start, by one on every axis and step. Drafted tokens always have their token embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.draft.rows import Rows

NUM_RANKS = 10
"""How many of the draft's best tokens are looked at: the largest topk in published settings."""


@dataclass(frozen=True)
class Chains:
    """The chain of each start, followed for as long as it is right.

    num_matches: [starts], how many tokens of the chain are the known continuation's, 0..num_steps.
    ids: [starts, num_steps], the drafted target ids up to the first wrong one, then -1.
    margins: [starts, num_steps], the draft's best logit minus its second best; NaN where ids is -1.
    log_probs: [starts], of the first token that is to be drafted, over the draft's vocabulary;
        NaN where that token is not in it.
    ranks: [starts, num_steps], which of the draft's NUM_RANKS best the known token is at each
        depth (0 = the best) when all tokens before it are the known ones, whatever the chain
        would have drafted; -1 = none of them.
    """

    num_matches: Tensor
    ids: Tensor
    margins: Tensor
    log_probs: Tensor
    ranks: Tensor


@torch.inference_mode()
def draft_chain(draft: ReferenceDraft, taps: Tensor, rows: Rows, num_steps: int) -> list[int]:
    """The `num_steps` target ids that a greedy chain drafts after `rows`.

    taps: [T, num_taps * target_hidden] of the context; rows: of T + 1 tokens, the newest included.
    """
    cache: Cache = []
    hidden = draft.fuse(taps)[None]
    embeds = rows.embeddings(draft)[None, 1:]
    positions = rows.positions[..., None, : len(taps)]
    drafted: list[int] = []
    for _ in range(num_steps):
        normed, feedback = draft(embeds, hidden, positions, cache)
        token = draft.to_target_ids(draft.logits(normed[0, -1:]).argmax(dim=-1))
        drafted.append(int(token))
        embeds, hidden = draft.embed_tokens(token)[None], feedback[:, -1:]
        positions = positions[..., -1:] + 1
    return drafted


@torch.inference_mode()
def simulate_chain(
    draft: ReferenceDraft, taps: Tensor, rows: Rows, starts: Tensor, num_steps: int
) -> Chains:
    """The chains of many starts against a known greedy continuation, in `num_steps` passes.

    taps: [T, num_taps * target_hidden]; rows: of T + 1 tokens or more, prompt and what the target
        wrote. starts: [starts], rows; the chain of start t is compared with rows.ids[t + 2:], which
        must hold `num_steps` tokens for each.

    Pass one runs over all rows; pass j has one query for each start, fed the known token j. That
    query sees the pass-one keys of the rows up to its start, and the later keys of its own chain,
    which is the attention mask of training-time test (EAGLE-3, arXiv 2503.01840, section 3.2).
    A chain that is right so far was fed what it drafted.
    """
    if not len(starts):
        return _no_chains(num_steps, taps.device)
    indexes = torch.arange(len(taps), device=taps.device)
    own = torch.eye(len(starts), dtype=torch.bool, device=taps.device)
    known = rows.ids[starts[:, None] + 2 + torch.arange(num_steps, device=taps.device)]
    cache: Cache = []
    embeds = rows.first(len(taps) + 1).embeddings(draft)[None, 1:]
    positions = rows.positions[..., None, : len(taps)]
    normed, feedback = draft(embeds, draft.fuse(taps)[None], positions, cache)
    normed, feedback = normed[0, starts], feedback[0, starts]
    log_probs = _log_probs(draft, normed, known[:, 0])
    chosen = [_choose(draft, normed, known[:, 0])]
    positions = positions[..., starts]
    seen = indexes <= starts[:, None]
    for step in range(1, num_steps):
        seen = torch.cat([seen, own], dim=1)
        embeds = draft.embed_tokens(known[:, step - 1])[None]
        positions = positions + 1
        normed, feedback = draft(embeds, feedback[None], positions, cache, seen[None, None])
        normed, feedback = normed[0], feedback[0]
        chosen.append(_choose(draft, normed, known[:, step]))
    tokens, margins, ranks = (torch.stack(column, dim=1) for column in zip(*chosen, strict=True))
    return _followed(tokens, margins, tokens == known, log_probs, ranks)


def _no_chains(num_steps: int, device: torch.device) -> Chains:
    none = torch.empty(0, num_steps, device=device)
    return _followed(none.long(), none, none.bool(), none[:, 0], none.long())


def _followed(
    tokens: Tensor, margins: Tensor, is_right: Tensor, log_probs: Tensor, ranks: Tensor
) -> Chains:
    """Drafted tokens and margins up to the first wrong one of each chain."""
    num_matches = is_right.long().cumprod(dim=1).sum(dim=1)
    is_drafted = torch.arange(tokens.shape[1], device=tokens.device) <= num_matches[:, None]
    return Chains(
        num_matches=num_matches,
        ids=tokens.where(is_drafted, -1),
        margins=margins.where(is_drafted, torch.nan),
        log_probs=log_probs,
        ranks=ranks,
    )


def _choose(draft: ReferenceDraft, normed: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best token of each row, its logit's lead over the second, the rank of the known one."""
    best = _wide(draft.logits(normed)).topk(min(NUM_RANKS, draft.config.draft_vocab_size), dim=-1)
    candidates = draft.to_target_ids(best.indices)
    is_known = candidates == known[:, None]
    ranks = is_known.int().argmax(dim=1).where(is_known.any(dim=1), -1)
    return candidates[:, 0], best.values[:, 0] - best.values[:, 1], ranks


def _log_probs(draft: ReferenceDraft, normed: Tensor, targets: Tensor) -> Tensor:
    logits = _wide(draft.logits(normed))
    if draft.vocab_map is None:
        return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    is_target = draft.vocab_map == targets[:, None]
    chosen = logits.log_softmax(-1).gather(1, is_target.int().argmax(1, keepdim=True))[:, 0]
    return chosen.where(is_target.any(1), torch.nan)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
