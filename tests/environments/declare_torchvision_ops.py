"""Lets PyPI's torchvision import beside a CPU torch; a .pth file loads this at Python's start.

torchvision 0.28.0 registers fake kernels for `torchvision::nms` and `qnms`, whose schemas its CUDA
library would have declared. Here they are declared just before torchvision is first imported. The
image processors of Qwen3-VL use none of them.
"""

from __future__ import annotations

import sys

# Every start of Python runs this, so it imports nothing else: importlib.abc alone takes 30 ms.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class DeclareFirst:
    """Finds nothing; declares the operators when torchvision is looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for schema in SCHEMAS:
                library.define(schema)  # type: ignore[no-untyped-call]
            libraries.append(library)
        return None


libraries: list[object] = []
"""Kept: a torch library forgets its operators when it is deleted."""

sys.meta_path.insert(0, DeclareFirst())
