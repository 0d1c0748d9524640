"""Old `pytorch_model.bin` weights, read without running what is in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.draft.safetensors_header import TensorInfo
from eagle3_plugin.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

DTYPES: Mapping[str, str] = {
    "torch.bool": "BOOL",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.int16": "I16",
    "torch.int32": "I32",
    "torch.int64": "I64",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float32": "F32",
    "torch.float64": "F64",
}
"""torch's names of the dtypes that we take from a .bin file, and safetensors' names of them."""


def load_bin(file: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a .bin file, still on disk (memory-mapped); code in the pickle is refused."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            f"{file} is a pickle of torch tensors, and torch is not installed",
            hint="pip install 'eagle3-plugin[torch]'",
        ) from error
    try:
        table = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, str(error)) from error
    except Exception as error:  # torch documents no error for a broken file: any can come
        raise CheckpointError(
            f"{file} is not a file that torch.load can map: {type(error).__name__}",
            hint="It is damaged or older than torch 1.6: download it again, or save it anew.",
        ) from error
    return _checked(file, table)


def bin_tensors(file: str, table: Mapping[str, Tensor]) -> list[TensorInfo]:
    """What `load_bin` found, described as for safetensors; the place in the file is torch's."""
    return [
        TensorInfo(
            name,
            DTYPES[str(tensor.dtype)],
            tuple(tensor.shape),
            file,
            0,
            tensor.numel() * tensor.element_size(),
        )
        for name, tensor in table.items()
    ]


def raw_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """The elements of the tensor in order, as they are in memory (little-endian)."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy()


def _refused(file: str, message: str) -> CheckpointError:
    needs = re.search(r"GLOBAL (\S+)", message)
    if needs is None:
        return CheckpointError(
            f"{file} holds something else than plain tensors, or is damaged; it is refused",
            hint="Ask for a safetensors file.",
        )
    return CheckpointError(
        f"{file} holds a pickle that would run {needs[1]} when loaded; it is refused, because "
        f"such a file can do anything to this machine",
        hint="Ask for a safetensors file; do not load this one.",
    )


def _checked(file: str, table: Any) -> dict[str, Tensor]:
    import torch

    if not isinstance(table, dict):
        raise CheckpointError(f"{file} holds a {type(table).__name__}, expected a dict of tensors")
    for name, tensor in table.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{file}: {name!r} is a {type(tensor).__name__}, expected names of tensors"
            )
        if tensor.layout != torch.strided or str(tensor.dtype) not in DTYPES:
            raise CheckpointError(
                f"{file}: tensor {name!r} is {tensor.layout} {tensor.dtype}, "
                f"expected dense and one of {list(DTYPES)}"
            )
    return dict(table)
