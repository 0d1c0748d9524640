"""A checkpoint folder: the only place that reads or writes weights.

Opening reads headers only. Reading and writing stream; no model is ever held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.draft.atomic import json_bytes, new_folder, write_file
from eagle3_plugin.draft.atomic import write_json_atomic as write_json_atomic
from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.draft.safetensors_header import DTYPE_BITS, build_header, tensor_bytes
from eagle3_plugin.draft.safetensors_header import TensorInfo as TensorInfo
from eagle3_plugin.draft.torch_bin import raw_bytes
from eagle3_plugin.draft.weight_files import WeightFiles, find_weights
from eagle3_plugin.errors import CheckpointError, OutputError
from eagle3_plugin.hub import Source, is_plain_name

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, EAGLE3, WEIGHTS = "config.json", "eagle3.json", "model.safetensors"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 8 << 20
COPY_BYTES, FLUSH_BYTES = 512 << 10, 8 << 20
"""Blocks that stay in the processor's cache, and how much is sent to the disk at a time.

Measured on Linux 6.18 (ext4), 1 GB with fsync, `cp` 1.0 s: this way 0.7 s; blocks that do not start
at a multiple of their size 0.9 s; without sending early 0.9 s; copy_file_range between places that
differ modulo a page 1.2 s.
"""

_NUMPY: Mapping[str, str] = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
    "BF16": "<u2",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The files of one model: its config, and where each of its tensors is.

    `eagle3` is our own eagle3.json, None if there is none. `metadata` is what the safetensors
    headers say of themselves.
    """

    source: Source
    config: dict[str, Any]
    tensors: Mapping[str, TensorInfo]
    eagle3: dict[str, Any] | None
    metadata: Mapping[str, str]
    _loaded: Mapping[str, Mapping[str, Tensor]] = field(repr=False)

    @classmethod
    def open(cls, source: Source) -> Checkpoint:
        """Reads config.json, eagle3.json and the headers of the weights; no weights."""
        config = read_config(source, CONFIG)
        eagle3 = read_config(source, EAGLE3) if EAGLE3 in source.sizes() else None
        weights: WeightFiles = find_weights(source)
        return cls(source, config, weights.tensors, eagle3, weights.metadata, weights.loaded)

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The names of the files that hold the tensors."""
        return tuple(sorted({tensor.file for tensor in self.tensors.values()}))

    @property
    def is_local(self) -> bool:
        """Whether all weights are on this machine, so that reading them fetches nothing."""
        return all(self.source.local(file) is not None for file in self.weight_files)

    def read(self, name: str) -> NDArray[Any]:
        """A whole (small) tensor as numpy; BF16 becomes float32, which is exact."""
        info = self._info(name)
        if info.dtype not in _NUMPY:
            raise CheckpointError(
                f"{info.file}: tensor {name!r} is {info.dtype}, expected one of {list(_NUMPY)}"
            )
        if info.file in self._loaded:
            data = raw_bytes(self._loaded[info.file][name]).tobytes()
        else:
            data = self.source.read(info.file, info.start, info.nbytes) if info.nbytes else b""
        if len(data) != info.nbytes:
            raise _ended_early(info)
        flat = np.frombuffer(data, dtype=_NUMPY[info.dtype])
        if info.dtype == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(info.shape)

    def chunks(
        self, name: str, chunk_bytes: int = CHUNK_BYTES, *, skip: int = 0
    ) -> Iterator[bytes]:
        """The raw little-endian bytes of a tensor after the first `skip`, piece by piece.

        Fetches the file that the tensor is in, if it is not on this machine yet.
        """
        info = self._info(name)
        if info.file in self._loaded:
            data = raw_bytes(self._loaded[info.file][name])
            for start in range(skip, info.nbytes, chunk_bytes):
                yield data[start : start + chunk_bytes].tobytes()
            return
        with _opened(self.source.path(info.file), info) as file:
            while skip < info.nbytes:
                length = min(info.nbytes - skip, chunk_bytes)
                piece = os.pread(file.fileno(), length, info.start + skip)
                if not piece:
                    raise _ended_early(info)
                yield piece
                skip += len(piece)

    def fetch(self, name: str) -> Path:
        """The local file that holds a tensor, downloaded if need be."""
        return self.source.path(self._info(name).file)

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise CheckpointError(f"{self.source.name} has no tensor {name!r}")
        return self.tensors[name]


@dataclass(frozen=True)
class OutTensor:
    """A tensor to write: its bytes, or the checkpoint and the name to copy it from to the bit."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: tuple[Checkpoint, str] | bytes

    def __post_init__(self) -> None:
        if isinstance(self.source, bytes):
            found = (self.dtype, len(self.source))
        else:
            info = self.source[0]._info(self.source[1])
            found = (info.dtype, info.nbytes)
        expected = (self.dtype, tensor_bytes(self.dtype, self.shape))
        if found != expected:
            raise OutputError(
                f"tensor {self.name!r} {list(self.shape)} is given {found[1]} bytes of {found[0]}, "
                f"expected {expected[1]} of {expected[0]}"
            )

    @property
    def nbytes(self) -> int:
        return tensor_bytes(self.dtype, self.shape) or 0


def write_checkpoint(
    out: Path,
    config: dict[str, Any],
    tensors: Iterable[OutTensor],
    extra_files: Mapping[str, bytes],
    *,
    force: bool,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes the folder `out`: config.json, one model.safetensors and the extra files.

    It appears whole or not at all, also after Ctrl-C, a full disk or a kill. Tensors are
    written in the order given, those of wider dtypes first (so that each is aligned, as
    safetensors does it); `progress` is told the bytes of tensors written since its last call.
    An existing checkpoint is refused, or with `force` replaced.
    """
    items = tuple(sorted(tensors, key=lambda item: -DTYPE_BITS[item.dtype]))
    _check_names(items, extra_files)
    described = [(item.name, item.dtype, item.shape, item.nbytes) for item in items]
    header = build_header(described, {"format": "pt"})
    texts = {CONFIG: json_bytes(config, CONFIG), **extra_files}
    for item in items:
        if not isinstance(item.source, bytes):
            item.source[0].fetch(item.source[1])
    num_bytes = len(header) + sum(map(len, texts.values())) + sum(item.nbytes for item in items)
    with new_folder(out, force=force, num_bytes=num_bytes) as folder:
        for name, data in texts.items():
            write_file(folder / name, data)
        _write_weights(folder / WEIGHTS, header, items, progress or (lambda num_bytes: None))


def _check_names(items: tuple[OutTensor, ...], extra_files: Mapping[str, bytes]) -> None:
    names = [item.name for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OutputError(f"tensors to write are named twice: {twice}")
    for name in extra_files:
        if not is_plain_name(name) or name in (CONFIG, WEIGHTS):
            raise OutputError(f"{name!r} is not a name that an extra file can have")


def _write_weights(
    path: Path, header: bytes, items: Iterable[OutTensor], progress: Callable[[int], None]
) -> None:
    with path.open("wb", buffering=0) as file:
        _write_all(file.fileno(), header)
        end = flushed = len(header)
        for item in items:
            for piece in _pieces(item, end):
                _write_all(file.fileno(), piece)
                progress(len(piece))
                end += len(piece)
                if end - flushed >= FLUSH_BYTES:
                    _start_flush(file.fileno(), flushed, end - flushed)
                    flushed = end
        os.fsync(file.fileno())


def _pieces(item: OutTensor, at: int) -> Iterator[bytes]:
    """The bytes of a tensor that is written at offset `at`; pieces end where blocks end."""
    if isinstance(item.source, bytes):
        yield item.source
        return
    checkpoint, name = item.source
    done = 0
    for piece in islice(checkpoint.chunks(name, COPY_BYTES - at % COPY_BYTES), 1):
        yield piece
        done = len(piece)
    yield from checkpoint.chunks(name, COPY_BYTES, skip=done)


def _start_flush(out: int, start: int, length: int) -> None:
    """Has the kernel write these bytes to the disk while we copy on; a hint, nothing waits."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(out, start, length, os.POSIX_FADV_DONTNEED)


def _write_all(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def read_config(source: Source, file: str) -> dict[str, Any]:
    """The JSON object in a small file of the source, such as config.json."""
    sizes = source.sizes()
    if file not in sizes:
        found = ", ".join(sorted(sizes)[:8]) or "no files at all"
        raise CheckpointError(
            f"{source.name} has no {file}; it has {found}",
            hint="Name a folder or a repository that holds a model.",
        )
    if sizes[file] > MAX_CONFIG_BYTES:
        raise CheckpointError(
            f"{source.name}: {file} has {sizes[file]} bytes, expected at most {MAX_CONFIG_BYTES}"
        )
    return parse_json_object(
        source.read(file), f"{source.name}: {file}", max_bytes=MAX_CONFIG_BYTES
    )


def _opened(path: Path, info: TensorInfo) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise CheckpointError(
            f"{info.file}: tensor {info.name!r} cannot be read: {error.strerror}"
        ) from error


def _ended_early(info: TensorInfo) -> CheckpointError:
    return CheckpointError(
        f"{info.file} ends inside tensor {info.name!r}, expected {info.nbytes} bytes "
        f"from byte {info.start}",
        hint="The file changed while it was read: try again.",
    )
