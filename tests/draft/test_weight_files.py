"""Which files hold the weights, through an index or not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eagle3_plugin.errors import (
    CheckpointError,
    IncompleteError,
)
from tests.checkpoint_files import (
    folder_with,
    opened,
)


def test_an_empty_folder_and_one_without_config_or_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"draft has no config\.json; it has no files at all"):
        opened(tmp_path)
    (tmp_path / "model.gguf").touch()
    with pytest.raises(CheckpointError, match=r"draft has no config\.json; it has model\.gguf"):
        opened(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no weights .* it has config\.json, model\.gguf"):
        opened(tmp_path)


def sharded(folder: Path, weight_map: object, shards: dict[str, dict[str, torch.Tensor]]) -> Path:
    index = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    folder_with(folder, {"model.safetensors.index.json": index})
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    return folder


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    shards = {ONE: {"a": torch.tensor([1.0])}, TWO: {"b": torch.tensor([2.0])}}
    found = opened(sharded(tmp_path, {"a": ONE, "b": TWO}, shards))
    assert found.weight_files == (ONE, TWO)
    assert [found.read("a").tolist(), found.read("b").tolist()] == [[1.0], [2.0]]


def test_an_index_wins_over_a_single_file_and_that_over_others(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {})
    save_file({"other": torch.zeros(1)}, folder / "other.safetensors")
    torch.save({"bin": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert set(opened(folder).tensors) == {"other"}
    save_file({"single": torch.zeros(1)}, folder / "model.safetensors")
    assert set(opened(folder).tensors) == {"single"}
    sharded(folder, {"a": ONE}, {ONE: {"a": torch.zeros(1)}})
    assert set(opened(folder).tensors) == {"a"}


def test_several_safetensors_files_without_an_index_are_not_guessed_at(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {ONE: b"", TWO: b""})
    with pytest.raises(CheckpointError, match=f"2 safetensors files and neither .*: {ONE}, {TWO}"):
        opened(folder)


def test_shards_that_are_not_there_are_all_named(tmp_path: Path) -> None:
    weight_map = {"a": ONE, "b": TWO, "c": "model-3.safetensors"}
    folder = sharded(tmp_path, weight_map, {ONE: {"a": torch.zeros(1)}})
    with pytest.raises(
        IncompleteError, match=f"3 shards, and 2 of them are not there: {TWO}, model-3.safetensors"
    ):
        opened(folder)


@pytest.mark.parametrize(
    "file",
    ["../x.safetensors", "/etc/x.safetensors", "a\\x.safetensors", "sub/x.safetensors",
     "..", "", 3, None, "x.bin", "x\0.safetensors"],
)  # fmt: skip
def test_an_index_that_points_out_of_its_folder_is_refused(tmp_path: Path, file: object) -> None:
    folder = sharded(tmp_path / "draft", {"a": file}, {})
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor 'a' is in .*, expected the name of a") as e:
        opened(folder)
    assert e.value.hint == "Do not use this checkpoint: its index points outside of its folder."


@pytest.mark.parametrize("weight_map", [None, [], {}, "x"])
def test_an_index_without_a_map_is_refused(tmp_path: Path, weight_map: object) -> None:
    with pytest.raises(CheckpointError, match="has no weight_map from tensor names to files"):
        opened(sharded(tmp_path, weight_map, {}))


def test_an_index_too_large_to_be_one_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path, {}, {})
    os.truncate(folder / "model.safetensors.index.json", 33 * 1024 * 1024)
    with pytest.raises(CheckpointError, match="has 34603008 bytes, expected at most 33554432"):
        opened(folder)


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    shards = {ONE: {"a": torch.zeros(1)}, TWO: {"b": torch.zeros(1)}}
    folder = sharded(tmp_path, {"a": ONE, "b": TWO, "c": TWO}, shards)
    with pytest.raises(CheckpointError, match=f"says that tensor 'c' is in {TWO}, where it is not"):
        opened(folder)
    folder = sharded(tmp_path, {"a": TWO, "b": ONE}, shards)
    with pytest.raises(CheckpointError, match=f"says that tensor 'a' is in {TWO}, where it is not"):
        opened(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards = {ONE: {"a": torch.zeros(1)}, TWO: {"a": torch.zeros(1), "b": torch.zeros(1)}}
    folder = sharded(tmp_path, {"a": ONE, "b": TWO}, shards)
    with pytest.raises(CheckpointError, match=f"draft: tensor 'a' is in {ONE} and again in {TWO}"):
        opened(folder)
