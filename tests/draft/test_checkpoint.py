"""Checkpoints read and written to the bit, and never held in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eagle3_plugin.draft import checkpoint as checkpoint_module
from eagle3_plugin.draft.checkpoint import (
    Checkpoint,
    OutTensor,
    TensorInfo,
    write_checkpoint,
    write_json_atomic,
)
from eagle3_plugin.draft.safetensors_header import build_header
from eagle3_plugin.errors import (
    CheckpointError,
    OutputError,
    SourceError,
)
from eagle3_plugin.hub import FolderSource
from tests.checkpoint_files import (
    CONFIG,
    TENSORS,
    copies,
    draft_folder,
    entry,
    folder_with,
    opened,
    safetensors_bytes,
)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return draft_folder(tmp_path / "draft")


def test_a_checkpoint_has_its_config_and_where_each_tensor_is(draft: Path) -> None:
    found = opened(draft)
    assert found.config == CONFIG
    assert found.eagle3 is None
    assert found.metadata == {"format": "pt"}
    assert found.weight_files == ("model.safetensors",)
    assert found.is_local
    assert set(found.tensors) == set(TENSORS)
    size = (draft / "model.safetensors").stat().st_size
    last = found.tensors["mask"]
    assert last == TensorInfo("mask", "BOOL", (3,), "model.safetensors", last.start, 3)
    assert max(t.start + t.nbytes for t in found.tensors.values()) == size


@pytest.mark.parametrize("name", TENSORS)
def test_reading_gives_the_values_that_torch_saved(draft: Path, name: str) -> None:
    expected = TENSORS[name].float() if name == "bf16" else TENSORS[name]
    value: NDArray[Any] = opened(draft).read(name)
    assert value.dtype == expected.numpy().dtype
    assert value.shape == expected.numpy().shape
    assert value.tobytes() == expected.numpy().tobytes()


def test_every_bfloat16_is_read_exactly(tmp_path: Path) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    folder = folder_with(tmp_path / "draft", {})
    save_file({"x": every}, folder / "model.safetensors")
    assert opened(folder).read("x").tobytes() == every.float().numpy().tobytes()


def test_chunks_are_the_raw_bytes_in_order(draft: Path) -> None:
    found = opened(draft)
    raw = TENSORS["bf16"].view(torch.uint8).numpy().tobytes()
    assert list(found.chunks("bf16", 3)) == [raw[:3], raw[3:6], raw[6:]]
    assert b"".join(found.chunks("bf16", skip=5)) == raw[5:]
    assert list(found.chunks("nothing")) == []


def test_eagle3_json_is_read_when_it_is_there(draft: Path) -> None:
    write_json_atomic(draft / "eagle3.json", {"schema": 1})
    assert opened(draft).eagle3 == {"schema": 1}


def test_a_tensor_that_is_not_there_is_named(draft: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^draft has no tensor 'fc\.weight'$"):
        opened(draft).read("fc.weight")


def test_a_dtype_without_numpy_is_listed_but_not_read(tmp_path: Path) -> None:
    data = safetensors_bytes({"x": entry("F8_E4M3", [2], 0, 2)}, b"ab")
    found = opened(folder_with(tmp_path, {"model.safetensors": data}))
    assert found.tensors["x"].dtype == "F8_E4M3"
    assert list(found.chunks("x")) == [b"ab"]
    with pytest.raises(CheckpointError, match="tensor 'x' is F8_E4M3, expected one of"):
        found.read("x")


def test_a_file_that_shrinks_or_goes_away_while_it_is_read_is_named(draft: Path) -> None:
    found = opened(draft)
    os.truncate(draft / "model.safetensors", found.tensors["bf16"].start + 3)
    message = r"model\.safetensors ends inside tensor 'bf16', expected 8 bytes"
    with pytest.raises(CheckpointError, match=message):
        found.read("bf16")
    with pytest.raises(CheckpointError, match=message):
        list(found.chunks("bf16"))
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(draft.parent / "out", {}, copies(found), {}, force=False)
    (draft / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"draft has no file 'model\.safetensors'"):
        list(found.chunks("bf16"))
    assert sorted(path.name for path in draft.parent.iterdir()) == ["draft"]


def test_opening_a_gigabyte_reads_its_header_only(tmp_path: Path) -> None:
    header = build_header([("x", "U8", (1 << 30,), 1 << 30)], {})
    folder = folder_with(tmp_path, {"model.safetensors": header})
    os.truncate(folder / "model.safetensors", len(header) + (1 << 30))
    reads: list[int] = []

    class Counting(FolderSource):
        def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
            data = super().read(file, start, length)
            reads.append(len(data))
            return data

    assert Checkpoint.open(Counting(folder, "draft")).tensors["x"].nbytes == 1 << 30
    assert sum(reads) < 100_000


def test_a_header_longer_than_the_first_read_is_read_whole(tmp_path: Path) -> None:
    names = [f"layers.{i}.weight" for i in range(2000)]
    folder = folder_with(tmp_path, {})
    save_file({name: torch.zeros(1) for name in names}, folder / "model.safetensors")
    assert sorted(opened(folder).tensors) == sorted(names)


def test_what_we_write_safetensors_reads_to_the_bit(draft: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given_bytes = OutTensor("d2t", "I64", (2,), np.array([3, 4]).tobytes())
    tensors = [*copies(opened(draft)), given_bytes]
    write_checkpoint(out, CONFIG, tensors, {"eagle3.json": b"{}"}, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft", "out"]
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "eagle3.json",
        "model.safetensors",
    ]
    assert json.loads((out / "config.json").read_text("utf-8")) == CONFIG
    written = load_file(out / "model.safetensors")
    assert written.pop("d2t").tolist() == [3, 4]
    assert set(written) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert written[name].dtype == tensor.dtype
        assert written[name].shape == tensor.shape
        raw = tensor.reshape(-1).view(torch.uint8)
        assert torch.equal(written[name].reshape(-1).view(torch.uint8), raw)
    with safe_open(out / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tensors_are_in_the_order_given_wide_ones_first_so_that_all_are_aligned(
    tmp_path: Path,
) -> None:
    tensors = [
        OutTensor("mask", "BOOL", (3,), b"\0\1\0"),
        OutTensor("b", "F32", (1,), bytes(4)),
        OutTensor("a", "F32", (1,), bytes(4)),
        OutTensor("d2t", "I64", (1,), bytes(8)),
    ]
    write_checkpoint(tmp_path / "out", {}, tensors, {}, force=False)
    found = opened(tmp_path / "out")
    by_place = sorted(found.tensors.values(), key=lambda tensor: tensor.start)
    assert [tensor.name for tensor in by_place] == ["d2t", "b", "a", "mask"]
    assert [tensor.start % 8 for tensor in by_place] == [0, 0, 4, 0]


def test_writing_needs_no_hint_to_the_kernel(draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "FLUSH_BYTES", 1)
    monkeypatch.delattr(os, "posix_fadvise")
    write_checkpoint(draft.parent / "out", {}, copies(opened(draft)), {}, force=False)
    written = load_file(draft.parent / "out" / "model.safetensors")
    assert torch.equal(written["i64"], TENSORS["i64"])


def test_every_byte_is_sent_to_the_disk_once(draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(checkpoint_module, "FLUSH_BYTES", 1)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, at, length, how: sent.append((at, length)))
    write_checkpoint(draft.parent / "out", {}, copies(opened(draft)), {}, force=False)
    ends = [at + length for at, length in sent]
    assert [at for at, _ in sent[1:]] == ends[:-1]
    assert ends[-1] == (draft.parent / "out" / "model.safetensors").stat().st_size


def test_progress_is_told_each_byte_once(draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(draft)
    monkeypatch.setattr(checkpoint_module, "COPY_BYTES", 2)
    told: list[int] = []
    tensors = [*copies(found), OutTensor("d2t", "I64", (1,), bytes(8))]
    write_checkpoint(draft.parent / "o", {}, tensors, {}, force=False, progress=told.append)
    assert sum(told) == 8 + sum(tensor.nbytes for tensor in found.tensors.values())
    assert max(told) == 8


def test_an_out_tensor_must_be_what_its_source_is(draft: Path) -> None:
    with pytest.raises(OutputError, match=r"'x' \[2\] is given 4 bytes of F32, expected 8 of F32"):
        OutTensor("x", "F32", (2,), bytes(4))
    with pytest.raises(OutputError, match=r"'x' \[2\] is given 16 bytes of I64, expected 8 of F32"):
        OutTensor("x", "F32", (2,), (opened(draft), "i64"))


def test_names_to_write_must_be_free_and_plain(tmp_path: Path) -> None:
    twice = [OutTensor("x", "U8", (1,), b"a"), OutTensor("x", "U8", (1,), b"b")]
    with pytest.raises(OutputError, match=r"tensors to write are named twice: \['x'\]"):
        write_checkpoint(tmp_path / "out", {}, twice, {}, force=False)
    for name in ("../x", "config.json", "model.safetensors", "a/b"):
        with pytest.raises(OutputError, match=f"{name!r} is not a name that an extra file can"):
            write_checkpoint(tmp_path / "out", {}, [], {name: b""}, force=False)
    with pytest.raises(OutputError, match=r"config\.json cannot be written as JSON: Out of range"):
        write_checkpoint(tmp_path / "out", {"a": float("nan")}, [], {}, force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_copying_a_gigabyte_takes_no_more_memory_than_a_small_one(
    tmp_path: Path, repository: Path
) -> None:
    script = """
import re, sys
from pathlib import Path
from eagle3_plugin.draft.checkpoint import Checkpoint, OutTensor, write_checkpoint
from eagle3_plugin.hub import resolve
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
draft = Checkpoint.open(resolve(sys.argv[1]))
tensors = [OutTensor(t.name, t.dtype, t.shape, (draft, t.name)) for t in draft.tensors.values()]
write_checkpoint(Path(sys.argv[2]), {}, tensors, {}, force=False)
print(before, peak())
"""
    header = build_header([("x", "U8", (1 << 30,), 1 << 30)], {})
    folder = folder_with(tmp_path / "draft", {"model.safetensors": header})
    os.truncate(folder / "model.safetensors", len(header) + (1 << 30))
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert after < 150 * 1024
    assert after - before < 40 * 1024
    assert opened(tmp_path / "out").tensors["x"].nbytes == 1 << 30
