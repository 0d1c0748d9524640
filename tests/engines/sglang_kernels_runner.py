"""Runs our stand-in for SGLang's CPU kernels against SGLang's own Triton kernels.

    python sglang_kernels_runner.py FOLDER RESULTS.json

It runs in SGLang's environment; FOLDER holds our `sgl_kernel`. Triton interprets its kernels here
(TRITON_INTERPRET=1), so both sides read the same CPU tensors. Each comparison draws its input from
a seed; the result is an object of comparison -> list of the seeds at which the two differ.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

NUM_CONFIGURATIONS = 24
POOL_LEN = 40
QLEN_ONLY = 1


def main() -> None:
    folder, results = sys.argv[1:3]
    sys.path.append(folder)
    torch.set_num_threads(1)
    kernels = importlib.import_module("sgl_kernel")
    found: dict[str, list[int]] = {}
    for name, compare in COMPARISONS.items():
        found[name] = []
        for seed in range(NUM_CONFIGURATIONS):
            torch.manual_seed(seed)
            if not compare(kernels, random.Random(seed)):
                found[name].append(seed)
    Path(results).write_text(json.dumps(found))


def assign_req_to_token_pool(kernels: Any, draw: random.Random) -> bool:
    from sglang.srt.mem_cache.allocation import assign_req_to_token_pool as twin

    table, rows, start, end = ranges(draw)
    slots = torch.randint(1000, 2000, (int((end - start).sum()),))
    ours, theirs = table.clone(), table.clone()
    kernels.assign_req_to_token_pool_cpu(rows, ours, start, end, slots, POOL_LEN)
    twin[(len(rows),)](rows, theirs, start, end, slots, POOL_LEN, power_of_two(len(rows)))
    return torch.equal(ours, theirs)


def assign_extend_cache_locs(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.speculative.cache_locs import assign_extend_cache_locs as twin

    table, rows, start, end = ranges(draw)
    ours, theirs = (torch.full((int((end - start).sum()) + 3,), -7) for _ in range(2))
    kernels.assign_extend_cache_locs_cpu(rows, table, start, end, ours, POOL_LEN)
    twin[(len(rows),)](rows, table, start, end, theirs, POOL_LEN, power_of_two(len(rows)))
    return torch.equal(ours, theirs)


def assign_draft_cache_locs_contiguous(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.speculative.cache_locs import (
        assign_draft_cache_locs_contiguous as twin,
    )

    table, rows, lengths, _ = ranges(draw, longest=20)
    topk, num_steps = draw.choice([(1, 3), (1, 5), (2, 4), (4, 3), (4, 5)])
    ours, theirs = (torch.full((len(rows) * topk * num_steps,), -7) for _ in range(2))
    kernels.assign_draft_cache_locs_contiguous_cpu(
        rows, table, lengths, ours, POOL_LEN, topk, num_steps
    )
    twin[(len(rows),)](rows, table, lengths, theirs, POOL_LEN, topk, num_steps)
    return torch.equal(ours, theirs)


def build_draft_decode_metadata(kernels: Any, draw: random.Random) -> bool:
    """The twin packs the slots of each step and branch without gaps; ours has a row a branch."""
    from sglang.kernels.ops.speculative.cache_locs import generate_draft_decode_kv_indices as twin

    table, rows, lengths, _ = ranges(draw, longest=20)
    topk, num_steps = draw.choice([(1, 3), (1, 5), (2, 4), (4, 3), (4, 5)])
    branches = len(rows) * topk
    ours = kernels.build_draft_decode_metadata_cpu(table, rows, lengths, topk, num_steps, POOL_LEN)
    packed = torch.zeros(num_steps, branches * POOL_LEN, dtype=torch.int64)
    offsets = torch.zeros(num_steps, branches + 1, dtype=torch.int32)
    positions = lengths.repeat_interleave(topk)
    twin[(num_steps, len(rows), topk)](
        rows, table, lengths, packed, offsets, positions, POOL_LEN, packed.shape[1], branches + 1,
        power_of_two(len(rows)), power_of_two(num_steps), power_of_two(branches), 1,
    )  # fmt: skip
    return all(
        packed[step, offsets[step, i] : offsets[step, i + 1]].tolist()
        == ours[i, : positions[i] + step + 1].tolist()
        for step in range(num_steps)
        for i in range(branches)
    )


def build_tree_kernel_efficient(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.speculative.spec_tree import sgl_build_tree_kernel_triton as twin

    *tree, n, topk, depth = drafted(draw)
    ours, theirs = (tree_outputs(len(tree[0]), n) for _ in range(2))
    kernels.build_tree_kernel_efficient_cpu(*tree, *ours, topk, depth, n, QLEN_ONLY)
    twin(*tree, *theirs, topk, depth, n, QLEN_ONLY)
    return all(map(torch.equal, ours, theirs))


def verify_tree_greedy(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.speculative.spec_tree import sgl_build_tree_kernel_triton as build
    from sglang.kernels.ops.speculative.spec_tree import verify_tree_greedy_triton as twin

    *tree, n, topk, depth = drafted(draw)
    num_requests = len(tree[0])
    _, _, *links = outputs = tree_outputs(num_requests, n)
    build(*tree, *outputs, topk, depth, n, QLEN_ONLY)
    candidates, wanted = torch.randint(0, 3, (2, num_requests, n))
    ours, theirs = (
        (
            torch.full((num_requests * n,), -1, dtype=torch.int32),
            torch.full((num_requests, depth + 1), -1, dtype=torch.int32),
            torch.full((num_requests,), -1, dtype=torch.int32),
        )
        for _ in range(2)
    )
    kernels.verify_tree_greedy_cpu(*ours, candidates, *links, wanted)
    twin(*theirs, candidates, *links, wanted)
    return all(map(torch.equal, ours, theirs))


def fill_bonus_tokens(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.speculative.eagle import fill_bonus_tokens as twin

    num_requests, width = draw.randint(1, 6), draw.randint(2, 6)
    tokens = torch.randint(0, 1000, (num_requests, width), dtype=torch.int32)
    lengths = torch.randint(1, width + 1, (num_requests,), dtype=torch.int32)
    ours, theirs = (torch.full((num_requests,), -7, dtype=torch.int32) for _ in range(2))
    kernels.fill_bonus_tokens_cpu(tokens, lengths, ours, width)
    twin[(num_requests,)](tokens, lengths, theirs, width)
    return torch.equal(ours, theirs)


def fill_accept_out_cache_loc(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.speculative.eagle import fill_accept_out_cache_loc as twin

    num_requests, width, n = draw.randint(1, 5), draw.randint(2, 5), 8
    accepted = torch.arange(num_requests)[:, None] * n + torch.randint(0, n, (1, width))
    accepted[torch.rand(accepted.shape) < 0.4] = -1
    accepted = accepted.to(torch.int32)
    slots = torch.randperm(1000)[: num_requests * n]
    ours, theirs = (torch.zeros(accepted.numel(), dtype=torch.int64) for _ in range(2))
    kernels.fill_accept_out_cache_loc_cpu(accepted, slots, ours)
    twin[(accepted.numel(),)](accepted, slots, theirs, power_of_two(accepted.numel()))
    return torch.equal(ours, theirs)


def copy_all_layer_kv_cache(kernels: Any, draw: random.Random) -> bool:
    from sglang.kernels.ops.kvcache.cache_move import copy_all_layer_kv_cache_tiled as twin

    dtype = draw.choice([torch.float32, torch.bfloat16])
    shape = (32, draw.choice([1, 2]), draw.choice([16, 24]))
    ours = [torch.randn(shape).to(dtype) for _ in range(2 * draw.randint(1, 4))]
    theirs = [buffer.clone() for buffer in ours]
    num = draw.randint(1, 12)
    target, source = torch.randperm(32)[:num], torch.randint(0, 32, (num,))
    row_bytes = ours[0].stride(0) * ours[0].itemsize
    strides = torch.full((len(ours),), row_bytes)
    ours_at, theirs_at = (
        torch.tensor([b.data_ptr() for b in buffers], dtype=torch.uint64)
        for buffers in (ours, theirs)
    )
    kernels.copy_all_layer_kv_cache_cpu(ours_at, strides, target, source)
    grid = (len(theirs), -(-row_bytes // 128))
    twin[grid](theirs_at, strides, target, source, num, power_of_two(num), 128)
    return all(map(torch.equal, ours, theirs))


COMPARISONS: dict[str, Callable[[Any, random.Random], bool]] = {
    compare.__name__: compare
    for compare in (
        assign_req_to_token_pool,
        assign_extend_cache_locs,
        assign_draft_cache_locs_contiguous,
        build_draft_decode_metadata,
        build_tree_kernel_efficient,
        verify_tree_greedy,
        fill_bonus_tokens,
        fill_accept_out_cache_loc,
        copy_all_layer_kv_cache,
    )
}


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below the number, as Triton's ranges need it."""
    return 1 << (number - 1).bit_length()


def ranges(draw: random.Random, longest: int = POOL_LEN) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(req_to_token, its rows in the batch, start, end): ranges of different and no length."""
    table = torch.randperm(8 * POOL_LEN, dtype=torch.int32).view(8, POOL_LEN)
    rows = torch.randperm(8)[: draw.randint(1, 6)]
    ends = torch.tensor([draw.randint(1, longest) for _ in rows])
    starts = torch.tensor([draw.randint(0, int(end)) for end in ends])
    return table, rows, (starts if longest == POOL_LEN else ends), ends


def drafted(draw: random.Random) -> Any:
    """(parent_list, selected_index, seq_lens, n, topk, depth): chosen drafts as SGLang lays them.

    After `_select_top_k_tokens_later` (srt/speculative/spec_utils.py:438) and
    `organize_draft_results` (srt/speculative/eagle_utils.py:100). One seed in four has scores of
    0 and 1 only, as saturated softmaxes give: a draft may then be chosen without its parent.
    """
    topk, depth = draw.choice([(1, 1), (1, 3), (1, 5), (2, 3), (4, 1), (4, 3), (4, 4), (8, 3)])
    num_requests = draw.randint(1, 4)
    ties = draw.random() < 0.25

    def chances(*shape: int) -> Tensor:
        found = torch.rand(num_requests, *shape)
        return found.round() if ties else found

    scores = chances(topk)
    all_scores = [scores]
    parents = [torch.arange(-1, topk).expand(num_requests, -1)]
    for step in range(1, depth):
        extended = (scores[:, :, None] * chances(topk, topk)).flatten(1)
        scores, chosen = extended.topk(topk)
        all_scores.append(extended)
        parents.append(chosen + topk * topk * (step - 1) + topk)
    flat = torch.cat(all_scores, 1)
    n = 1 + draw.randint(1, min(15, flat.shape[1]))
    selected = flat.topk(n - 1).indices.sort().values
    lists = torch.cat(parents[:-1], 1) if depth > 1 else torch.empty(num_requests, 0).long()
    return lists, selected, torch.randint(1, 50, (num_requests,)), n, topk, depth


def tree_outputs(num_requests: int, n: int) -> tuple[Tensor, ...]:
    """Mask, positions and the three links, as SGLang allocates them."""
    links = torch.full((3, num_requests, n), -1)
    mask = torch.ones(num_requests * n * n, dtype=torch.bool)
    return mask, torch.full((num_requests * n,), -7), *links


if __name__ == "__main__":
    main()
