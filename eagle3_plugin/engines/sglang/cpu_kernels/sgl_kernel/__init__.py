"""A stand-in for SGLang's CPU kernels, in plain PyTorch, importable as `sgl_kernel`.

SGLang's CPU engine imports a compiled module of this name that is on no package index. With this
folder's parent on PYTHONPATH, EAGLE-3 runs in stock SGLang on any CPU. It is a functional test
bed: it gives the results that the kernels must give, and its speed says nothing of theirs. It
refuses to be imported beside another `sgl_kernel`, and refuses what it does not compute.

What each function does is told by its callers and by its Triton twin. At SGLang 0.5.23, under
`sglang/` of the wheel:

    extend_attention_cpu, decode_attention_cpu, build_draft_decode_metadata_cpu
        srt/layers/attention/intel_amx_backend.py:290, 383, 462
        (its layout: generate_draft_decode_kv_indices, kernels/ops/speculative/cache_locs.py:161)
    assign_req_to_token_pool_cpu                srt/mem_cache/allocation.py:692, 746
    assign_extend_cache_locs_cpu                kernels/ops/speculative/cache_locs.py:500, 740, 763
    assign_draft_cache_locs_contiguous_cpu      kernels/ops/speculative/cache_locs.py:43, 99
    build_tree_kernel_efficient_cpu             kernels/ops/speculative/spec_tree.py:53, 412
    verify_tree_greedy_cpu                      kernels/ops/speculative/spec_tree.py:211, 510
    fill_bonus_tokens_cpu                       kernels/ops/speculative/eagle.py:14, 40
    fill_accept_out_cache_loc_cpu               kernels/ops/speculative/eagle.py:56, 80
    copy_all_layer_kv_cache_cpu                 kernels/ops/kvcache/cache_move.py:146, 191

`convert_weight_packed` is left out on purpose: by that name SGLang would take AMX to be there
(srt/utils/common.py:358), and call kernels for norms, activations and linear layers.

Two uses are wrong and no argument shows them: Grok's attention temperature (srt/models/grok.py:440,
never passed on by the CPU backend), and draft trees with a `--page-size` above 1, whose slots lie
elsewhere (kernels/ops/speculative/cache_locs.py:263). With OMP_NUM_THREADS=1, tiny models run
fastest: more threads only wait for each other on busy cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

import torch

from .attention import DECODE, EXTEND, decode_attention_cpu, extend_attention_cpu
from .cache import (
    assign_draft_cache_locs_contiguous_cpu,
    assign_extend_cache_locs_cpu,
    assign_req_to_token_pool_cpu,
    build_draft_decode_metadata_cpu,
    copy_all_layer_kv_cache_cpu,
    fill_accept_out_cache_loc_cpu,
    fill_bonus_tokens_cpu,
)
from .tree import build_tree_kernel_efficient_cpu, verify_tree_greedy_cpu

PLACEHOLDERS = (
    "fused_sigmoid_mul_cpu",
    "fused_qk_gemma_rmsnorm_cpu",
    "fused_qk_gemma_rmsnorm_with_gate_cpu",
    "fused_qkvzba_split_reshape_cat_contiguous_cpu",
)
"""Operators that `srt/models/qwen3_5.py:284-297` binds at import; Qwen3-VL imports that module."""

__all__ = [
    "assign_draft_cache_locs_contiguous_cpu",
    "assign_extend_cache_locs_cpu",
    "assign_req_to_token_pool_cpu",
    "build_draft_decode_metadata_cpu",
    "build_tree_kernel_efficient_cpu",
    "copy_all_layer_kv_cache_cpu",
    "fill_accept_out_cache_loc_cpu",
    "fill_bonus_tokens_cpu",
    "rotate_input_ids_cpu",
    "verify_tree_greedy_cpu",
]


def _refuse_a_second_one() -> None:
    """Raise ImportError if the path holds another `sgl_kernel`, which this one would hide."""
    folder = Path(__file__).resolve().parent.parent
    others = [entry for entry in sys.path if Path(entry).resolve() != folder]
    spec = PathFinder.find_spec("sgl_kernel", others)
    if spec is not None and spec.origin is not None:
        raise ImportError(
            f"another sgl_kernel is installed at {spec.origin}; this stand-in is for machines "
            f"without one; take {folder} off PYTHONPATH"
        )


def _placeholder(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f"sgl_kernel.{name} was called; this PyTorch stand-in has only the name, for imports; "
            "a model that needs it needs SGLang's own CPU kernels"
        )

    return refuse


def _register() -> None:
    """Put the operators and the placeholders below `torch.ops.sgl_kernel`."""
    for schema, function in ((EXTEND, extend_attention_cpu), (DECODE, decode_attention_cpu)):
        name = f"sgl_kernel::{function.__name__}"
        torch.library.define(name, schema)
        torch.library.impl(name, "CPU", function)
    for name in PLACEHOLDERS:
        setattr(torch.ops.sgl_kernel, name, _placeholder(name))


_refuse_a_second_one()
_register()
rotate_input_ids_cpu = _placeholder("rotate_input_ids_cpu")
