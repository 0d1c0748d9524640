"""Which cache slots belong to which tokens, and moving rows of the cache.

`req_to_token`: [requests of the pool, pool_len], the slot of each position; `req_pool_indices`
names the rows of a batch. Results are written into the tensor that the caller gives.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor


def assign_req_to_token_pool_cpu(
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    start_offset: Tensor,
    end_offset: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
) -> None:
    """Write the slots `out_cache_loc` (all requests' in one row) to positions start to end."""
    rows, columns = _ranges(req_pool_indices, start_offset, end_offset)
    req_to_token[rows, columns] = out_cache_loc[: len(rows)].to(req_to_token.dtype)


def assign_extend_cache_locs_cpu(
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    start_offset: Tensor,
    end_offset: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
) -> None:
    """Write the slots of positions start to end into `out_cache_loc`, request after request."""
    rows, columns = _ranges(req_pool_indices, start_offset, end_offset)
    out_cache_loc[: len(rows)] = req_to_token[rows, columns].to(out_cache_loc.dtype)


def assign_draft_cache_locs_contiguous_cpu(
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    seq_lens: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
    topk: int,
    num_steps: int,
) -> None:
    """Write the `topk * num_steps` slots behind each sequence into `out_cache_loc`."""
    end = seq_lens + topk * num_steps
    assign_extend_cache_locs_cpu(
        req_pool_indices, req_to_token, seq_lens, end, out_cache_loc, pool_len
    )


def build_draft_decode_metadata_cpu(
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    seq_lens: Tensor,
    topk: int,
    num_steps: int,
    pool_len: int,
) -> Tensor:
    """Slots of each branch of each draft tree: [requests * topk, longest + num_steps].

    A row is the sequence's slots, then the branch's own: behind the sequence lie the `num_steps`
    slots of branch 0, then those of branch 1, and so on. What follows is never read, and 0.
    """
    columns = torch.arange(int(seq_lens.max()) + num_steps)
    lengths = seq_lens.to(torch.int64)[:, None, None]
    branches = torch.arange(topk)[None, :, None]
    source = torch.where(columns < lengths, columns, columns + branches * num_steps)
    used = columns < lengths + num_steps
    rows = req_pool_indices.to(torch.int64)[:, None, None]
    slots = req_to_token[rows, torch.where(used, source, 0)]
    return torch.where(used, slots, 0).flatten(0, 1)


def fill_bonus_tokens_cpu(
    accept_tokens: Tensor, accept_lens: Tensor, bonus_tokens: Tensor, accept_stride: int
) -> None:
    """Write each request's last accepted token: the target's own, behind the right drafts.

    accept_tokens: [requests, accept_stride]; accept_lens: [requests], counts that token too.
    """
    last = (accept_lens.to(torch.int64) - 1)[:, None]
    bonus_tokens.copy_(accept_tokens.reshape(-1, accept_stride).gather(1, last)[:, 0])


def fill_accept_out_cache_loc_cpu(
    accept_index: Tensor, out_cache_loc: Tensor, accept_out_cache_loc: Tensor
) -> None:
    """Write the slots of the accepted tokens to the front; `accept_index` is -1 elsewhere."""
    accepted = accept_index[accept_index >= 0]
    accept_out_cache_loc[: len(accepted)] = out_cache_loc[accepted]


def copy_all_layer_kv_cache_cpu(
    data_ptrs: Tensor, strides: Tensor, tgt_loc: Tensor, src_loc: Tensor
) -> None:
    """Copy row src_loc[i] to row tgt_loc[i] in every buffer; all rows are read before any write.

    data_ptrs: addresses of the buffers (keys and values of each layer); strides: bytes of a row.
    """
    if not len(tgt_loc):
        return
    num_rows = 1 + int(max(tgt_loc.max(), src_loc.max()))
    for address, row_bytes in zip(data_ptrs.tolist(), strides.tolist(), strict=True):
        memory = (ctypes.c_uint8 * (num_rows * row_bytes)).from_address(address)
        rows = torch.frombuffer(memory, dtype=torch.uint8).view(num_rows, row_bytes)
        rows[tgt_loc] = rows[src_loc]


def _ranges(req_pool_indices: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the positions start to end of each request, one after the other."""
    lengths = (end - start).to(torch.int64)
    rows = torch.repeat_interleave(req_pool_indices.to(torch.int64), lengths)
    first = start.to(torch.int64) - (lengths.cumsum(0) - lengths)
    return rows, torch.arange(len(rows)) + torch.repeat_interleave(first, lengths)
