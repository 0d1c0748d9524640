"""Random batches for attention over a paged cache, and what plain attention makes of them.

The attention of a token is computed over the tokens on its path only, one token at a time, in
float64. Cache rows that nothing may read are NaN, so a wrong slot shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAN = float("nan")
POOL_LEN = 64


@dataclass(frozen=True)
class Batch:
    """A batch of requests whose last tokens are new; `paths[i][t]`: the positions token t sees."""

    q: Tensor
    k: Tensor
    v: Tensor
    k_buffer: Tensor
    v_buffer: Tensor
    req_to_token: Tensor
    req_pool_indices: Tensor
    seq_lens: list[int]
    new_lens: list[int]
    paths: list[list[list[int]]]
    scaling: float
    logit_cap: float

    def slots(self, i: int) -> Tensor:
        return self.req_to_token[self.req_pool_indices[i], : self.seq_lens[i]]


def tree_paths(parents: list[int], prefix: int) -> list[list[int]]:
    """The positions that each node sees: the prefix, its ancestors and itself."""
    paths: list[list[int]] = []
    for node, parent in enumerate(parents):
        above = list(range(prefix)) if parent < 0 else paths[parent]
        paths.append([*above, prefix + node])
    return paths


def random_batch(seed: int, dtype: torch.dtype, kind: Literal["chain", "tree", "decode"]) -> Batch:
    """`kind`: chains of different lengths, trees of one size, or one new token each."""
    torch.manual_seed(seed)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, ()))

    num_requests, kv_heads, group, dim = pick(1, 5), pick(1, 3), pick(1, 4), 8 * pick(1, 4)
    size = pick(2, 10)
    new = [{"chain": pick(1, 12), "tree": size, "decode": 1}[kind] for _ in range(num_requests)]
    prefix = [pick(0, 40) for _ in new]
    paths = []
    for length, known in zip(new, prefix, strict=True):
        parents = [pick(0, t - 1) if kind == "tree" else t - 1 for t in range(1, length)]
        paths.append(tree_paths([-1, *parents], known))
    rows = torch.randperm(6)[:num_requests]
    table = torch.randperm(6 * POOL_LEN, dtype=torch.int32).view(6, POOL_LEN)
    k_buffer, v_buffer = torch.full((2, 6 * POOL_LEN, kv_heads, dim), NAN, dtype=dtype)
    for row, known in zip(rows, prefix, strict=True):
        k_buffer[table[row, :known]] = torch.randn(known, kv_heads, dim).to(dtype)
        v_buffer[table[row, :known]] = torch.randn(known, kv_heads, dim).to(dtype)
    q = torch.randn(sum(new), kv_heads * group, dim).to(dtype)
    k, v = torch.randn(2, sum(new), kv_heads, dim).to(dtype)
    lengths = [a + b for a, b in zip(prefix, new, strict=True)]
    return Batch(
        q, k, v, k_buffer, v_buffer, table, rows, lengths, new, paths,
        scaling=dim**-0.5 * (1 + seed % 2), logit_cap=(0.0, 0.0, 2.0)[seed % 3],
    )  # fmt: skip


def stored(batch: Batch) -> None:
    """Put the new keys and values into the cache, as SGLang's `set_kv_buffer` does."""
    keys, values = (torch.split(x, batch.new_lens) for x in (batch.k, batch.v))
    for i, num_new in enumerate(batch.new_lens):
        slots = batch.slots(i)[-num_new:]
        batch.k_buffer[slots], batch.v_buffer[slots] = keys[i], values[i]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, scaling: float, logit_cap: float) -> Tensor:
    """One token's: q [heads, dim] over k and v [seen, kv_heads, dim], in float64."""
    group = q.shape[0] // k.shape[1]
    q = q.double()
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    if not logit_cap:
        k, v = (x.transpose(0, 1) for x in (k, v))
        return scaled_dot_product_attention(q[:, None], k, v, scale=scaling)[:, 0]
    scores = torch.einsum("hd,shd->hs", q, k) * scaling
    chances = (logit_cap * torch.tanh(scores / logit_cap)).softmax(-1)
    return torch.einsum("hs,shd->hd", chances, v)


def expected(batch: Batch) -> Tensor:
    """What `batch` must give, from the cache with the new keys and values stored."""
    queries = torch.split(batch.q, batch.new_lens)
    out = []
    for i, paths in enumerate(batch.paths):
        for t, path in enumerate(paths):
            seen = batch.slots(i)[path]
            keys, values = batch.k_buffer[seen], batch.v_buffer[seen]
            out.append(plain_attention(queries[i][t], keys, values, batch.scaling, batch.logit_cap))
    return torch.stack(out)


def extend_arguments(batch: Batch) -> dict[str, Any]:
    """As intel_amx_backend.py:290-313 passes them, with a tree mask where paths are no chains."""
    new_lens = torch.tensor(batch.new_lens, dtype=torch.int32)
    return {
        "q": batch.q, "k": batch.k, "v": batch.v, "o": torch.full_like(batch.q, NAN),
        "k_buffer": batch.k_buffer, "v_buffer": batch.v_buffer, "k_scale": 1.0, "v_scale": 1.0,
        "req_to_token": batch.req_to_token, "req_pool_indices": batch.req_pool_indices,
        "seq_lens": torch.tensor(batch.seq_lens), "extend_seq_lens": new_lens,
        "extend_start_loc": new_lens.cumsum(0) - new_lens, "max_extend_len": max(batch.new_lens),
        "scaling": batch.scaling, "logit_cap": batch.logit_cap, "is_cross_attention": False,
        "sliding_window": 0, "encoder_lens": None, "sinks": None, "tree_mask": None,
        "is_causal": True,
    }  # fmt: skip


def decode_arguments(batch: Batch) -> dict[str, Any]:
    """As intel_amx_backend.py:383-403 passes them."""
    shared = extend_arguments(batch)
    for name in ("extend_seq_lens", "extend_start_loc", "max_extend_len", "tree_mask", "is_causal"):
        del shared[name]
    loc = torch.stack([batch.slots(i)[-1] for i in range(len(batch.seq_lens))]).long()
    return shared | {"loc": loc, "attn_logits": torch.empty(0)}


def tree_mask(batch: Batch) -> Tensor:
    """SGLang's QLEN_ONLY mask: flat [requests, n, n]."""
    n = batch.new_lens[0]
    mask = torch.zeros(len(batch.paths), n, n, dtype=torch.bool)
    for i, paths in enumerate(batch.paths):
        for t, path in enumerate(paths):
            prefix = batch.seq_lens[i] - n
            mask[i, t, [position - prefix for position in path if position >= prefix]] = True
    return mask.flatten()
