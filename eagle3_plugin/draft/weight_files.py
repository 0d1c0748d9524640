"""Which files of a checkpoint hold its weights, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.draft.safetensors_header import Header, TensorInfo, read_header
from eagle3_plugin.draft.torch_bin import bin_tensors, load_bin
from eagle3_plugin.errors import CheckpointError, IncompleteError
from eagle3_plugin.hub import Source, is_plain_name

if TYPE_CHECKING:
    from torch import Tensor

MAX_INDEX_BYTES = 32 * 1024 * 1024
SAFETENSORS_INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class WeightFiles:
    """All tensors by name; `loaded`: the memory-mapped ones of .bin files, by file."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    loaded: Mapping[str, Mapping[str, Tensor]] = field(repr=False)


def find_weights(source: Source) -> WeightFiles:
    """The weights of a source, from headers alone.

    The first that is there: an index and its shards, model.safetensors, a single *.safetensors,
    and the same for pytorch_model.bin.
    """
    names = source.sizes()
    if SAFETENSORS_INDEX in names:
        return _sharded(source, SAFETENSORS_INDEX, ".safetensors")
    if "model.safetensors" in names:
        return _collect(source, ["model.safetensors"])
    loose = sorted(name for name in names if name.endswith(".safetensors"))
    if len(loose) > 1:
        raise CheckpointError(
            f"{source.name} has {len(loose)} safetensors files and neither {SAFETENSORS_INDEX} nor "
            f"model.safetensors: {', '.join(loose)}",
            hint="Download the index too, or keep the one file that holds the model.",
        )
    if loose:
        return _collect(source, loose)
    if BIN_INDEX in names:
        return _sharded(source, BIN_INDEX, ".bin")
    if "pytorch_model.bin" in names:
        return _collect(source, ["pytorch_model.bin"])
    raise CheckpointError(
        f"{source.name} has no weights (*.safetensors or pytorch_model.bin); "
        f"it has {', '.join(sorted(names)[:8])}",
        hint="Was the download cut off? Name a folder or a repository that holds a model.",
    )


def _sharded(source: Source, index: str, suffix: str) -> WeightFiles:
    """The tensors of all shards of an index, which must agree with it."""
    where = _read_index(source, index, suffix)
    shards = sorted(set(where.values()))
    missing = [shard for shard in shards if shard not in source.sizes()]
    if missing:
        raise IncompleteError(
            f"{source.name}: {index} names {len(shards)} shards, and {len(missing)} of them are "
            f"not there: {', '.join(missing)}",
            hint="The download was cut off: download it again.",
        )
    found = _collect(source, shards)
    for name, shard in where.items():
        if name not in found.tensors or found.tensors[name].file != shard:
            raise CheckpointError(
                f"{source.name}: {index} says that tensor {name!r} is in {shard}, where it is not"
            )
    return found


def _read_index(source: Source, index: str, suffix: str) -> dict[str, str]:
    at = f"{source.name}: {index}"
    size = source.sizes()[index]
    if size > MAX_INDEX_BYTES:
        raise CheckpointError(f"{at} has {size} bytes, expected at most {MAX_INDEX_BYTES}")
    table = parse_json_object(source.read(index), at, max_bytes=MAX_INDEX_BYTES)
    where = table.get("weight_map")
    if not isinstance(where, dict) or not where:
        raise CheckpointError(f"{at} has no weight_map from tensor names to files")
    for name, shard in where.items():
        if not isinstance(shard, str) or not is_plain_name(shard) or not shard.endswith(suffix):
            raise CheckpointError(
                f"{at} says that tensor {name!r} is in {shard!r}, "
                f"expected the name of a {suffix} file in the same folder",
                hint="Do not use this checkpoint: its index points outside of its folder.",
            )
    return where


def _collect(source: Source, files: Iterable[str]) -> WeightFiles:
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    loaded: dict[str, Mapping[str, Tensor]] = {}
    for file in files:
        if file.endswith(".bin"):
            loaded[file] = load_bin(file, source.path(file))
            header = Header(tuple(bin_tensors(file, loaded[file])), {})
        else:
            header = _safetensors_header(source, file)
        for tensor in header.tensors:
            if tensor.name in tensors:
                raise CheckpointError(
                    f"{source.name}: tensor {tensor.name!r} is in {tensors[tensor.name].file} "
                    f"and again in {file}"
                )
            tensors[tensor.name] = tensor
        metadata |= header.metadata
    return WeightFiles(tensors, metadata, loaded)


def _safetensors_header(source: Source, file: str) -> Header:
    return read_header(
        file, source.sizes()[file], lambda start, length: source.read(file, start, length)
    )
