"""Old .bin weights: plain tensors are read, code is refused."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eagle3_plugin.draft.checkpoint import (
    TensorInfo,
    write_checkpoint,
)
from eagle3_plugin.errors import (
    CheckpointError,
    MissingExtraError,
)
from tests.checkpoint_files import (
    TENSORS,
    copies,
    folder_with,
    opened,
)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /nowhere",)


def test_a_bin_of_plain_tensors_reads_and_copies_as_the_same_bits(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "draft", {})
    wide = torch.arange(6.0).reshape(2, 3)
    torch.save(TENSORS | {"transposed": wide.T}, folder / "pytorch_model.bin")
    found = opened(folder)
    assert found.tensors["bf16"] == TensorInfo("bf16", "BF16", (2, 2), "pytorch_model.bin", 0, 8)
    assert found.read("transposed").tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert b"".join(found.chunks("transposed", 5)) == wide.T.contiguous().numpy().tobytes()
    write_checkpoint(tmp_path / "out", {}, copies(found), {}, force=False)
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in (TENSORS | {"transposed": wide.T}).items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name], tensor)


def test_bin_shards_are_read_through_their_index(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}
    folder = folder_with(tmp_path, {"pytorch_model.bin.index.json": json.dumps(index).encode()})
    torch.save({"a": torch.tensor([1])}, folder / "pytorch_model-1.bin")
    torch.save({"b": torch.tensor([2])}, folder / "pytorch_model-2.bin")
    assert [opened(folder).read(name).tolist() for name in "ab"] == [[1], [2]]


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {})
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    message = r"pytorch_model\.bin holds a pickle that would run posix\.system when loaded"
    with pytest.raises(CheckpointError, match=message):
        opened(folder)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([torch.zeros(1)], "holds a list, expected a dict of tensors"),
        (
            {"state_dict": {"a": torch.zeros(1)}},
            "'state_dict' is a dict, expected names of tensors",
        ),
        ({"a": 3}, "'a' is a int, expected names of tensors"),
        ({0: torch.zeros(1)}, "0 is a Tensor, expected names of tensors"),
        (
            {"a": torch.zeros(1, dtype=torch.complex64)},
            "tensor 'a' is torch.strided torch.complex64",
        ),
        ({"a": torch.zeros(2, 2).to_sparse()}, "tensor 'a' is torch.sparse_coo torch.float32"),
    ],
)
def test_a_bin_of_something_else_is_refused(tmp_path: Path, saved: object, message: str) -> None:
    folder = folder_with(tmp_path, {})
    torch.save(saved, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"^pytorch_model\.bin.* {message}"):
        opened(folder)


def test_a_broken_or_ancient_bin_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"pytorch_model.bin": b""})
    torch.save({"a": torch.zeros(9)}, folder / "whole")
    whole = (folder / "whole").read_bytes()
    legacy = folder / "legacy"
    torch.save({"a": torch.zeros(9)}, legacy, _use_new_zipfile_serialization=False)
    for data in (b"", b"junk", whole[:100], whole[:-30], legacy.read_bytes(), pickle.dumps({})):
        (folder / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin (is not a file|holds)"):
            opened(folder)


def test_a_bin_without_torch_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, {"pytorch_model.bin": b""})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="torch is not installed") as caught:
        opened(folder)
    assert caught.value.hint == "pip install 'eagle3-plugin[torch]'"
