"""The draft tree: building it from the drafted tokens, and walking it along the target's choice.

Node 0 of a tree is the last known token; nodes 1 to n - 1 are the chosen drafts. All results are
written into tensors that the caller gives (the links filled with -1).
"""

from __future__ import annotations

import torch
from torch import Tensor

QLEN_ONLY = 1
"""`TreeMaskMode` of spec_tree.py:46: the mask has a column for each draft, none for the prefix."""


def build_tree_kernel_efficient_cpu(
    parent_list: Tensor,
    selected_index: Tensor,
    verified_seq_len: Tensor,
    tree_mask: Tensor,
    positions: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    topk: int,
    depth: int,
    draft_token_num: int,
    tree_mask_mode: int,
) -> None:
    """Write what each node sees, its position, its first child and its next sibling.

    selected_index: [requests, n - 1], where the chosen drafts stand among all drafted tokens.
    parent_list: [requests, ...], where the token that group k of `topk` drafts extends stands;
    group 0 extends the root. tree_mask: flat [requests, n, n].
    """
    if tree_mask_mode != QLEN_ONLY:
        raise NotImplementedError(
            f"build_tree_kernel_efficient_cpu: asked for tree mask mode {tree_mask_mode}; this "
            f"PyTorch stand-in builds mode {QLEN_ONLY} (QLEN_ONLY), which SGLang's CPU attention "
            "reads; start the server with --device cpu and the intel_amx backends"
        )
    num_requests, n = len(verified_seq_len), draft_token_num
    parents = _parents(parent_list, selected_index, topk)
    visible = _visible(parents, depth)
    tree_mask[: num_requests * n * n].copy_(visible.flatten())
    depths = visible.sum(-1) - 1
    positions.copy_((verified_seq_len[:, None] + depths).flatten())
    nodes = torch.arange(n)
    retrive_index.copy_(torch.arange(num_requests)[:, None] * n + nodes)
    retrive_next_token.copy_(_first(parents[:, None, :] == nodes[:, None]))
    siblings = (parents[:, :, None] == parents[:, None, :]) & (parents >= 0)[:, :, None]
    retrive_next_sibling.copy_(_first(siblings & (nodes > nodes[:, None])))


def verify_tree_greedy_cpu(
    predicts: Tensor,
    accept_index: Tensor,
    accept_token_num: Tensor,
    candidates: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    target_predict: Tensor,
) -> None:
    """Follow the target's choice from the root as long as a child has that token.

    candidates, target_predict: [requests, n], each node's token and the target's next one.
    Writes the nodes of the path into accept_index [requests, steps + 1], counted over the whole
    batch; the number of drafts on it into accept_token_num; the target's next token of each node
    on the path into predicts [requests * n].
    """
    wanted = target_predict.flatten()
    links = (candidates, retrive_next_token, retrive_next_sibling, target_predict)
    for i, (tokens, child, sibling, target) in enumerate(
        zip(*(t.tolist() for t in links), strict=True)
    ):
        path = [0]
        while len(path) < accept_index.shape[1]:
            node = child[path[-1]]
            while node != -1 and tokens[node] != target[path[-1]]:
                node = sibling[node]
            if node == -1:
                break
            path.append(node)
        accepted = retrive_index[i, path]
        accept_index[i, : len(path)] = accepted.to(accept_index.dtype)
        accept_token_num[i] = len(path) - 1
        predicts[accepted] = wanted[accepted].to(predicts.dtype)


def _parents(parent_list: Tensor, selected_index: Tensor, topk: int) -> Tensor:
    """[requests, n]: each node's parent; -1 for the root and where the parent was not chosen."""
    groups = selected_index // topk
    if parent_list.shape[1] == 0:
        chosen = torch.zeros_like(groups)
    else:
        extended = parent_list.gather(1, groups)
        chosen = 1 + _first(selected_index[:, None, :] == extended[:, :, None])
        chosen = torch.where(groups == 0, 0, torch.where(chosen == 0, -1, chosen))
    return torch.nn.functional.pad(chosen, (1, 0), value=-1)


def _visible(parents: Tensor, depth: int) -> Tensor:
    """[requests, n, n]: each node sees the root, its ancestors and itself."""
    n = parents.shape[1]
    nodes = torch.arange(n)
    visible = torch.eye(n, dtype=torch.bool).repeat(len(parents), 1, 1)
    visible[:, :, 0] = True
    above = torch.where(parents < 0, nodes, parents)[:, :, None].expand_as(visible)
    for _ in range(depth):
        visible = visible | visible.gather(1, above)
    return visible


def _first(found: Tensor) -> Tensor:
    """The index of the first True of each row, or -1."""
    n = found.shape[-1]
    index = torch.where(found, torch.arange(n), n).amin(-1)
    return torch.where(index == n, -1, index)
