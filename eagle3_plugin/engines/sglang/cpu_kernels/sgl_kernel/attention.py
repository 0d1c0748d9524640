"""Attention over the rows of a paged cache: of new tokens, and of one token per request.

Scores and sums are in float32, whatever the dtype of the tensors; outputs are written in place.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

EXTEND = (
    "(Tensor q, Tensor? k, Tensor? v, Tensor(a!) o, Tensor k_buffer, "
    "Tensor v_buffer, float k_scale, float v_scale, Tensor req_to_token, "
    "Tensor req_pool_indices, Tensor seq_lens, Tensor extend_seq_lens, Tensor extend_start_loc, "
    "int max_extend_len, float scaling, float logit_cap, bool is_cross_attention, "
    "int sliding_window, Tensor? encoder_lens, Tensor? sinks, Tensor? tree_mask, "
    "bool is_causal) -> ()"
)
DECODE = (
    "(Tensor q, Tensor(a!) k_buffer, Tensor(b!) v_buffer, float k_scale, "
    "float v_scale, Tensor(c!) o, Tensor? k, Tensor? v, Tensor loc, Tensor attn_logits, "
    "Tensor req_to_token, Tensor req_pool_indices, Tensor seq_lens, float scaling, "
    "float logit_cap, bool is_cross_attention, int sliding_window, Tensor? encoder_lens, "
    "Tensor? sinks) -> ()"
)


def extend_attention_cpu(
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    o: Tensor,
    k_buffer: Tensor,
    v_buffer: Tensor,
    k_scale: float,
    v_scale: float,
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    seq_lens: Tensor,
    extend_seq_lens: Tensor,
    extend_start_loc: Tensor,
    max_extend_len: int,
    scaling: float,
    logit_cap: float,
    is_cross_attention: bool,
    sliding_window: int,
    encoder_lens: Tensor | None,
    sinks: Tensor | None,
    tree_mask: Tensor | None,
    is_causal: bool,
) -> None:
    """Write into `o` the attention of each request's last `extend_seq_lens` tokens.

    q, o: [tokens, heads, head_dim]; k, v: [tokens, kv_heads, head_dim], or None if the cache
    holds them already. Request i's tokens begin at `extend_start_loc[i]`; `seq_lens` counts them
    too. `tree_mask`: flat [requests, n, n], what each of n draft tokens sees of the others (all
    see the whole prefix); None = causal. `max_extend_len` is a hint to the kernel, unused here.
    """
    _refuse(
        "extend_attention_cpu",
        _unlike(q, o, k_buffer, k_scale, v_scale)
        | {
            "cross attention": is_cross_attention or encoder_lens is not None,
            "attention that is not causal": not is_causal,
            "a sliding window": sliding_window > 0,
            "attention sinks": sinks is not None,
        },
    )
    trees = None if tree_mask is None else _trees(tree_mask, extend_seq_lens)
    sizes = zip(*(t.tolist() for t in (seq_lens, extend_seq_lens, extend_start_loc)), strict=True)
    for i, (length, num_new, start) in enumerate(sizes):
        new = slice(start, start + num_new)
        slots = req_to_token[req_pool_indices[i], :length]
        keys, values = k_buffer[slots], v_buffer[slots]
        if k is not None and v is not None:
            keys[length - num_new :] = k[new]
            values[length - num_new :] = v[new]
        visible = torch.ones(num_new, length, dtype=torch.bool).tril(length - num_new)
        if trees is not None:
            visible[:, length - num_new :] = trees[i]
        o[new] = _attend(q[new], keys, values, visible, scaling, logit_cap)


def decode_attention_cpu(
    q: Tensor,
    k_buffer: Tensor,
    v_buffer: Tensor,
    k_scale: float,
    v_scale: float,
    o: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    loc: Tensor,
    attn_logits: Tensor,
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    seq_lens: Tensor,
    scaling: float,
    logit_cap: float,
    is_cross_attention: bool,
    sliding_window: int,
    encoder_lens: Tensor | None,
    sinks: Tensor | None,
) -> None:
    """Store k and v at the slots `loc`, if given; write into `o` each row's attention.

    q, o: [rows, heads, head_dim], one row a request (or a branch of its draft tree); row i sees
    the first `seq_lens[i]` slots of its row of `req_to_token`. `attn_logits` is the kernel's
    scratch space, unused here.
    """
    _refuse(
        "decode_attention_cpu",
        _unlike(q, o, k_buffer, k_scale, v_scale)
        | {
            "cross attention": is_cross_attention or encoder_lens is not None,
            "a sliding window": sliding_window > 0,
            "attention sinks": sinks is not None,
        },
    )
    if k is not None and v is not None:
        k_buffer[loc] = k
        v_buffer[loc] = v
    for i, length in enumerate(seq_lens.tolist()):
        slots = req_to_token[req_pool_indices[i], :length]
        visible = torch.ones(1, length, dtype=torch.bool)
        o[i] = _attend(q[i : i + 1], k_buffer[slots], v_buffer[slots], visible, scaling, logit_cap)[
            0
        ]


def _attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scaling: float, logit_cap: float
) -> Tensor:
    """softmax(cap(q k * scaling)) v of one request, each kv head serving a group of heads.

    q: [new, heads, dim]; k, v: [length, kv_heads, dim]; visible: [new, length].
    """
    num_new, num_heads, dim = q.shape
    num_kv_heads = k.shape[1]
    groups = q.float().view(num_new, num_kv_heads, num_heads // num_kv_heads, dim)
    keys, values = k.float().permute(1, 2, 0), v.float().transpose(0, 1)
    scores = groups.permute(1, 2, 0, 3) @ keys[:, None] * scaling
    if logit_cap > 0:
        scores = logit_cap * torch.tanh(scores / logit_cap)
    scores = scores.masked_fill(~visible, float("-inf"))
    out = scores.softmax(-1) @ values[:, None]
    return out.permute(2, 0, 1, 3).reshape(num_new, num_heads, dim).to(q.dtype)


def _trees(tree_mask: Tensor, extend_seq_lens: Tensor) -> Tensor:
    """The flat mask as [requests, n, n] (SGLang's QLEN_ONLY layout, of equal n only)."""
    sizes = set(extend_seq_lens.tolist())
    n = max(sizes)
    expected = len(extend_seq_lens) * n * n
    if len(sizes) > 1 or tree_mask.numel() != expected:
        raise NotImplementedError(
            f"extend_attention_cpu: a tree mask of {tree_mask.numel()} cells for draft trees of "
            f"{extend_seq_lens.tolist()} tokens; expected trees of one size and {expected} cells "
            "(the QLEN_ONLY layout); set --speculative-num-draft-tokens to one value for all"
        )
    return tree_mask.view(-1, n, n)


def _unlike(
    q: Tensor, o: Tensor, k_buffer: Tensor, k_scale: float, v_scale: float
) -> dict[str, bool]:
    return {
        "key or value scales (an FP8 cache)": k_scale != 1 or v_scale != 1,
        f"a {k_buffer.dtype} cache for {q.dtype} queries": k_buffer.dtype != q.dtype,
        "keys and values of different widths (MLA)": q.shape[-1] != o.shape[-1]
        or q.shape[-1] != k_buffer.shape[-1],
    }


def _refuse(function: str, asked: Mapping[str, bool]) -> None:
    found = [name for name, is_asked in asked.items() if is_asked]
    if found:
        raise NotImplementedError(
            f"{function}: asked for {', '.join(found)}; this PyTorch stand-in computes plain "
            "causal attention and draft trees; such a model needs SGLang's own CPU kernels"
        )
