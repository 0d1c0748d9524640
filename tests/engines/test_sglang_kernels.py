"""Our stand-in for SGLang's CPU kernels: against SGLang's Triton kernels, SDPA and literals.

Attention outputs are of order 1: float32 sums of some 60 products stay within 1e-5 of float64
ones, and bfloat16 outputs are rounded by at most 2 ** -8 of their value.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tests.engines.attention_batches import (
    decode_arguments,
    expected,
    extend_arguments,
    random_batch,
    stored,
    tree_mask,
)

DTYPES = (torch.float32, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
NUM_CONFIGURATIONS = 24

COMPARED = {
    "assign_draft_cache_locs_contiguous",
    "assign_extend_cache_locs",
    "assign_req_to_token_pool",
    "build_draft_decode_metadata",
    "build_tree_kernel_efficient",
    "copy_all_layer_kv_cache",
    "fill_accept_out_cache_loc",
    "fill_bonus_tokens",
    "verify_tree_greedy",
}


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    """What a user puts on PYTHONPATH."""
    return repository / "eagle3_plugin" / "engines" / "sglang" / "cpu_kernels"


@pytest.fixture(scope="module")
def kernels(folder: Path) -> Iterator[Any]:
    """The module, on one thread: with more, tests of tiny tensors on busy cores take five times
    as long."""
    sys.path.append(str(folder))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module("sgl_kernel")
    torch.set_num_threads(num_threads)
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def sglang_python(repository: Path) -> Path:
    """The interpreter of the environment that has real SGLang (`make setup` makes it)."""
    return repository / ".venvs" / "sglang" / "bin" / "python"


@pytest.mark.engine
def test_they_agree_with_sglangs_own_triton_kernels(
    sglang_python: Path, folder: Path, tmp_path: Path
) -> None:
    runner, results = Path(__file__).with_name("sglang_kernels_runner.py"), tmp_path / "found.json"
    command = [str(sglang_python), str(runner), str(folder), str(results)]
    subprocess.run(command, check=True, timeout=600)
    assert json.loads(results.read_text()) == {name: [] for name in COMPARED}


def assert_near(found: Tensor, wanted: Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["chain", "tree"])
@pytest.mark.parametrize("seed", range(NUM_CONFIGURATIONS))
def test_new_tokens_attend_to_the_prefix_and_their_own_path(
    kernels: Any, seed: int, kind: Literal["chain", "tree"], dtype: torch.dtype
) -> None:
    batch = random_batch(seed, dtype, kind)
    arguments = extend_arguments(batch)
    if kind == "tree":
        arguments["tree_mask"] = tree_mask(batch)
    torch.ops.sgl_kernel.extend_attention_cpu(**arguments)
    given = arguments["o"].clone()
    stored(batch)
    torch.ops.sgl_kernel.extend_attention_cpu(**arguments | {"k": None, "v": None})
    assert_near(given, expected(batch))
    assert torch.equal(given, arguments["o"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(NUM_CONFIGURATIONS))
def test_a_decoded_token_is_stored_and_attends_to_its_whole_sequence(
    kernels: Any, seed: int, dtype: torch.dtype
) -> None:
    batch = random_batch(seed, dtype, "decode")
    arguments = decode_arguments(batch)
    torch.ops.sgl_kernel.decode_attention_cpu(**arguments)
    assert torch.equal(batch.k_buffer[arguments["loc"]], batch.k)
    assert torch.equal(batch.v_buffer[arguments["loc"]], batch.v)
    given = arguments["o"].clone()
    torch.ops.sgl_kernel.decode_attention_cpu(**arguments | {"k": None, "v": None})
    assert_near(given, expected(batch))
    assert torch.equal(given, arguments["o"])


EXTEND_LIMITS: dict[str, dict[str, Any]] = {
    "cross attention": {"is_cross_attention": True},
    "attention that is not causal": {"is_causal": False},
    "a sliding window": {"sliding_window": 128},
    "attention sinks": {"sinks": torch.zeros(4)},
    "key or value scales (an FP8 cache)": {"v_scale": 0.5},
    "keys and values of different widths (MLA)": {"o": torch.zeros(1, 1, 4)},
    "a torch.float16 cache for torch.float32 queries": {"k_buffer": torch.zeros(1).half()},
}
DECODE_LIMITS = {name: EXTEND_LIMITS[name] for name in EXTEND_LIMITS if "causal" not in name}


@pytest.mark.parametrize("limit", EXTEND_LIMITS)
def test_extend_attention_names_what_it_does_not_compute(kernels: Any, limit: str) -> None:
    arguments = extend_arguments(random_batch(0, torch.float32, "chain"))
    with pytest.raises(NotImplementedError) as error:
        torch.ops.sgl_kernel.extend_attention_cpu(**arguments | EXTEND_LIMITS[limit])
    assert f"extend_attention_cpu: asked for {limit}" in str(error.value)
    assert "needs SGLang's own CPU kernels" in str(error.value)


@pytest.mark.parametrize("limit", DECODE_LIMITS)
def test_decode_attention_names_what_it_does_not_compute(kernels: Any, limit: str) -> None:
    arguments = decode_arguments(random_batch(0, torch.float32, "decode"))
    with pytest.raises(NotImplementedError) as error:
        torch.ops.sgl_kernel.decode_attention_cpu(**arguments | DECODE_LIMITS[limit])
    assert f"decode_attention_cpu: asked for {limit}" in str(error.value)
    assert "needs SGLang's own CPU kernels" in str(error.value)


def test_a_tree_mask_with_columns_for_the_prefix_is_refused(kernels: Any) -> None:
    arguments = extend_arguments(random_batch(3, torch.float32, "tree"))
    arguments |= {"extend_seq_lens": torch.tensor([3, 3])}
    with pytest.raises(NotImplementedError, match=r"60 cells .* \[3, 3\] tokens; expected .* 18"):
        torch.ops.sgl_kernel.extend_attention_cpu(**arguments | {"tree_mask": torch.ones(60)})


def test_trees_of_different_sizes_are_refused(kernels: Any) -> None:
    arguments = extend_arguments(random_batch(3, torch.float32, "tree"))
    arguments |= {"extend_seq_lens": torch.tensor([3, 2])}
    with pytest.raises(
        NotImplementedError, match=r"13 cells .* \[3, 2\] tokens; expected trees of one"
    ):
        torch.ops.sgl_kernel.extend_attention_cpu(**arguments | {"tree_mask": torch.ones(13)})


def test_a_tree_comes_out_as_sglangs_own_test_says(kernels: Any) -> None:
    """Scores and results: test/srt/test_build_eagle_tree.py of SGLang (at c7eab47)."""
    roots = [-1, 0, 1, 2, 3]
    parents = torch.tensor(
        [[*roots, 4, 8, 9, 10, 20, 24, 21, 28], [*roots, 4, 5, 6, 7, 24, 28, 20, 21]]
    )
    selected = torch.tensor([[0, 1, 4, 8, 20, 24, 36], [0, 4, 5, 6, 7, 24, 36]])
    mask, positions = torch.ones(128, dtype=torch.bool), torch.zeros(16, dtype=torch.int64)
    index, child, sibling = torch.full((3, 2, 8), -1)
    kernels.build_tree_kernel_efficient_cpu(
        parents, selected, torch.tensor([5, 10]), mask, positions, index, child, sibling, 4, 4, 8, 1
    )
    assert positions.tolist() == [5, 6, 6, 7, 7, 8, 8, 9, 10, 11, 12, 12, 12, 12, 13, 14]
    assert index.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]]
    assert child.tolist() == [[1, 3, 4, 5, 6, 7, -1, -1], [1, 2, -1, 6, -1, -1, 7, -1]]
    assert sibling.tolist() == [[-1, 2, -1, -1, -1, -1, -1, -1], [-1, -1, 3, 4, 5, -1, -1, -1]]


def test_other_tree_masks_are_refused(kernels: Any) -> None:
    nothing = [torch.zeros(1)] * 8
    with pytest.raises(NotImplementedError, match=r"asked for tree mask mode 0; .* builds mode 1"):
        kernels.build_tree_kernel_efficient_cpu(*nothing, 4, 3, 8, 0)


def test_a_tree_is_walked_as_sglangs_own_test_says(kernels: Any) -> None:
    """sgl-kernel/tests/speculative/test_eagle_utils.py of SGLang (at 9bfd52e)."""
    index = torch.arange(12).view(2, 6)
    child = torch.tensor([[1, 2, -1, 4, 5, -1], [4, 2, 3, -1, 5, -1]])
    sibling = torch.tensor([[-1, 3, -1, -1, -1, -1], [-1, -1, -1, -1, 1, -1]])
    candidates = torch.tensor([[0, 1, 2, 3, 4, 5], [7, 8, 9, 10, 11, 12]])
    wanted = torch.tensor([[3, 18, 18, 4, 5, 18], [11, 18, 18, 18, 12, 18]])
    predicts, accepted = (torch.full(s, -1, dtype=torch.int32) for s in ((12,), (2, 4)))
    num_accepted = torch.zeros(2, dtype=torch.int32)
    kernels.verify_tree_greedy_cpu(
        predicts, accepted, num_accepted, candidates, index, child, sibling, wanted
    )
    assert predicts.tolist() == [3, -1, -1, 4, 5, 18, 11, -1, -1, -1, 12, 18]
    assert accepted.tolist() == [[0, 3, 4, 5], [6, 10, 11, -1]]
    assert num_accepted.tolist() == [3, 2]


def test_each_branch_has_the_prefix_and_its_own_slots(kernels: Any) -> None:
    table = torch.tensor([[0] * 7, [10, 11, 12, 13, 14, 15, 16], [20, 21, 22, 23, 24, 0, 0]])
    slots = kernels.build_draft_decode_metadata_cpu(
        table.int(), torch.tensor([1, 2]), torch.tensor([3, 1]), 2, 2, 7
    )
    assert slots.tolist() == [
        [10, 11, 12, 13, 14],
        [10, 11, 12, 15, 16],
        [20, 21, 22, 0, 0],
        [20, 23, 24, 0, 0],
    ]


def test_rows_are_all_read_before_any_is_written(kernels: Any) -> None:
    buffer = torch.arange(8.0).view(4, 2)
    pointer = torch.tensor([buffer.data_ptr()], dtype=torch.uint64)
    target, source = torch.tensor([1, 2, 0]), torch.tensor([0, 1, 3])
    kernels.copy_all_layer_kv_cache_cpu(pointer, torch.tensor([8]), target, source)
    kernels.copy_all_layer_kv_cache_cpu(pointer, torch.tensor([8]), target[:0], source[:0])
    assert buffer.tolist() == [[6, 7], [0, 1], [2, 3], [6, 7]]


def test_names_that_are_only_imported_raise_when_called(kernels: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"rotate_input_ids_cpu was called; .* only"):
        kernels.rotate_input_ids_cpu(torch.zeros(1))
    for name in kernels.PLACEHOLDERS:
        with pytest.raises(NotImplementedError, match=rf"sgl_kernel\.{name} was called; .* only"):
            getattr(torch.ops.sgl_kernel, name)(1, second=2)


def test_sglang_does_not_take_amx_to_be_there(kernels: Any) -> None:
    """srt/utils/common.py:358 asks for this name."""
    assert not hasattr(torch.ops.sgl_kernel, "convert_weight_packed")


def test_it_refuses_to_hide_another_sgl_kernel(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sgl_kernel").mkdir()
    (tmp_path / "sgl_kernel" / "__init__.py").touch()
    environment = {"PYTHONPATH": f"{folder}:{tmp_path}"}
    run = subprocess.run(
        [sys.executable, "-c", "import sgl_kernel"], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 1
    assert f"another sgl_kernel is installed at {tmp_path}/sgl_kernel/__init__.py" in run.stderr
    assert f"take {folder} off PYTHONPATH" in run.stderr
