"""Tensors that are missing, extra or misfit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drafts import draft_config, edit_config, write_random
from tests.reading import problems
from tests.stored import edit_tensors

MISFIT = "The checkpoint is incomplete, or config.json is of another draft."
EXTRA = (
    "If the draft was trained with it, this kind of draft is not supported; if it was not, remove "
    "the tensor."
)


def test_a_missing_tensor_is_named_with_its_shape(folder: Path) -> None:
    edit_tensors(folder, drop=("norm.weight", "midlayer.mlp.up_proj.weight"))

    assert problems(folder) == [
        ("tensor-missing", "layers.0.mlp.up_proj.weight [96, 64] is not in the checkpoint", MISFIT),
        ("tensor-missing", "norm.weight [64] is not in the checkpoint", MISFIT),
    ]


def test_an_extra_tensor_is_named_with_its_shape(folder: Path) -> None:
    edit_tensors(folder, medusa__weight=("BF16", (3, 4)))

    assert problems(folder) == [
        ("tensor-extra", "medusa.weight [3, 4] has no place in this draft", EXTRA)
    ]


def test_a_tensor_of_another_shape_is_named_with_both(folder: Path) -> None:
    edit_tensors(folder, norm__weight=("BF16", (65,)))

    assert problems(folder) == [("tensor-shape", "norm.weight is [65], expected [64]", MISFIT)]


def test_a_tensor_that_is_there_twice_is_a_problem(folder: Path) -> None:
    edit_tensors(folder, model__norm__weight=("BF16", (64,)))

    assert problems(folder) == [
        (
            "tensor-twice",
            "model.norm.weight and norm.weight are both norm.weight",
            "Remove one of the two tensors.",
        )
    ]


@pytest.mark.parametrize(("stated", "count"), [(2, 1), (36, 1), (10**9, 1)])
def test_more_layers_than_the_file_has_are_refused(folder: Path, stated: int, count: int) -> None:
    edit_config(folder, num_hidden_layers=stated)

    assert problems(folder) == [
        (
            "num-layers",
            f"the config says {stated} decoder layers, the file has {count}",
            f"Set num_hidden_layers to {count}, or get the whole file.",
        )
    ]


def test_fewer_layers_than_the_file_has_are_refused(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "draft", draft_config(num_layers=2), "vllm")
    edit_config(folder, num_hidden_layers=1)

    assert [(id, message) for id, message, _ in problems(folder)] == [
        ("num-layers", "the config says 1 decoder layers, the file has 2")
    ]
