"""What is on disk after a write that failed, was killed, interrupted, or met a full disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eagle3_plugin.draft import atomic
from eagle3_plugin.draft.checkpoint import (
    OutTensor,
    write_checkpoint,
    write_json_atomic,
)
from eagle3_plugin.errors import (
    OutputError,
)
from tests.checkpoint_files import (
    CONFIG,
    TENSORS,
    copies,
    draft_folder,
    opened,
)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return draft_folder(tmp_path / "draft")


def test_an_existing_name_is_refused_and_force_replaces_a_checkpoint(draft: Path) -> None:
    found = opened(draft)
    with pytest.raises(OutputError, match="draft exists, expected a name that is free") as caught:
        write_checkpoint(draft, {}, copies(found), {}, force=False)
    assert caught.value.hint == "Choose another name, or add --force to replace it."
    (draft / "extra.txt").write_text("old")
    tensors = [OutTensor("bf16", "BF16", (2, 2), (found, "bf16"))]
    write_checkpoint(draft, {"new": True}, tensors, {}, force=True)
    assert sorted(path.name for path in draft.iterdir()) == ["config.json", "model.safetensors"]
    assert opened(draft).config == {"new": True}
    assert torch.equal(load_file(draft / "model.safetensors")["bf16"], TENSORS["bf16"])
    assert [path.name for path in draft.parent.iterdir()] == ["draft"]


def test_force_never_removes_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "models" / "precious").mkdir(parents=True)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "empty").mkdir()
    for name in ("models", "file"):
        with pytest.raises(OutputError, match=f"{name} is not a checkpoint folder .* not replaced"):
            write_checkpoint(tmp_path / name, {}, [], {}, force=True)
    write_checkpoint(tmp_path / "empty", {}, [], {}, force=True)
    assert (tmp_path / "models" / "precious").is_dir()
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "empty" / "config.json").exists()


def test_a_link_is_followed_and_stays(draft: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(draft)
    write_checkpoint(tmp_path / "latest", {"new": 1}, [], {}, force=True)
    assert (tmp_path / "latest").is_symlink()
    assert opened(draft.parent / "draft").config == {"new": 1}


def test_a_parent_that_is_not_there_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no is not a folder, expected one to write 'out' into"):
        write_checkpoint(tmp_path / "no" / "out", {}, [], {}, force=False)


def test_a_folder_that_may_not_be_written_is_said_so() -> None:
    with pytest.raises(OutputError, match=r"could not be written: .*; nothing was changed"):
        write_checkpoint(Path("/proc/eagle3"), {}, [], {}, force=False)


def test_when_the_new_one_cannot_be_moved_in_the_old_one_comes_back(
    draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def broken(path: Path, target: Path) -> Path:
        if ".tmp-" in path.name:
            raise OSError(errno.EIO, "the disk is gone")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OutputError, match="could not be written: the disk is gone; nothing was"):
        write_checkpoint(draft, {"new": 1}, [], {}, force=True)
    assert opened(draft).config == CONFIG
    assert [path.name for path in draft.parent.iterdir()] == ["draft"]


def test_ctrl_c_after_the_new_one_was_moved_in_brings_the_old_one_back(
    draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        if folder == draft.parent:
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "fsync_folder", interrupted)
    for force, out in ((False, draft.parent / "out"), (True, draft)):
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(out, {"new": 1}, [], {}, force=force)
        assert opened(draft).config == CONFIG
        assert [path.name for path in draft.parent.iterdir()] == ["draft"]


def test_any_exception_while_writing_leaves_everything_as_it_was(draft: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(num_bytes: int) -> None:
        raise Stop

    for force, out in ((False, draft.parent / "out"), (True, draft)):
        with pytest.raises(Stop):
            write_checkpoint(out, {}, copies(opened(draft)), {}, force=force, progress=stop)
        assert opened(draft).config == CONFIG
        assert [path.name for path in draft.parent.iterdir()] == ["draft"]


WRITER = """
import sys, time
from pathlib import Path
from eagle3_plugin.draft.checkpoint import OutTensor, write_checkpoint
def progress(num_bytes):
    print("writing", flush=True)
    time.sleep(60)
try:
    write_checkpoint(Path(sys.argv[1]), {}, [OutTensor("x", "U8", (9,), bytes(9))], {}, force=True,
                     progress=progress)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def writer(tmp_path: Path, repository: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing `tmp_path / "out"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(repository)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_killed_writer_leaves_no_output_and_the_next_one_cleans_up(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    writer.kill()
    writer.wait()
    assert [path.name for path in tmp_path.iterdir()] == [f".out.tmp-{writer.pid}"]
    write_checkpoint(tmp_path / "out", {}, [], {}, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_writer_that_lives_is_left_alone(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "out", {}, [], {}, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".out.tmp-{writer.pid}", "out"]


def test_an_interrupted_writer_removes_what_it_had_written(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    writer.send_signal(signal.SIGINT)
    assert writer.wait(timeout=20) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_a_killed_writer_had_moved_aside_comes_back(draft: Path) -> None:
    draft.rename(draft.with_name(".draft.old-4000000"))
    with pytest.raises(OutputError, match="draft exists"):
        write_checkpoint(draft, {}, [], {}, force=False)
    assert opened(draft).config == CONFIG
    draft.with_name(".draft.old-4000000").mkdir()
    draft.with_name(".draft.tmp-not-ours").mkdir()
    write_checkpoint(draft, {"new": 1}, [], {}, force=True)
    names = sorted(path.name for path in draft.parent.iterdir())
    assert names == [".draft.tmp-not-ours", "draft"]


def test_the_same_output_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    def again(num_bytes: int) -> None:
        write_checkpoint(tmp_path / "out", {}, [], {}, force=False)

    with pytest.raises(OutputError, match="out could not be written: File exists"):
        write_checkpoint(
            tmp_path / "out",
            {},
            [OutTensor("x", "U8", (1,), b"a")],
            {},
            force=False,
            progress=again,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs rights that this machine does not give")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_too_small_is_refused_before_anything_is_written(small_disk: Path) -> None:
    big = [OutTensor("x", "U8", (3_000_000,), bytes(3_000_000))]
    with pytest.raises(OutputError, match=r"out needs 3000\d+ bytes and .* has \d+ free") as caught:
        write_checkpoint(small_disk / "out", {}, big, {}, force=False)
    assert caught.value.hint == "Free some space there, or write to another disk."
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_writing_leaves_the_old_checkpoint(small_disk: Path) -> None:
    write_checkpoint(small_disk / "out", {"old": 1}, [], {}, force=False)
    pages = {f"{number}.txt": b"x" for number in range(600)}
    with pytest.raises(OutputError, match=r"out needs \d+ bytes and .* nothing was changed"):
        write_checkpoint(small_disk / "out", {}, [], pages, force=True)
    assert opened(small_disk / "out").config == {"old": 1}
    assert [path.name for path in small_disk.iterdir()] == ["out"]


def test_a_limit_on_file_sizes_is_reported_like_a_full_disk(
    tmp_path: Path, repository: Path
) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from eagle3_plugin.draft.checkpoint import OutTensor, write_checkpoint
from eagle3_plugin.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
big = [OutTensor("x", "U8", (200_000,), bytes(200_000))]
try:
    write_checkpoint(Path(sys.argv[1]), {}, big, {}, force=False)
except OutputError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "or less by a quota or a limit on file sizes; nothing was changed" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "eagle3.json"
    write_json_atomic(path, {"schema": 1, "name": "ü"})
    assert path.read_bytes() == '{\n  "schema": 1,\n  "name": "ü"\n}\n'.encode()
    with pytest.raises(OutputError, match=r"eagle3\.json cannot be written as JSON: Object of"):
        write_json_atomic(path, {"a": object()})

    def broken(path: Path, data: bytes) -> None:
        path.write_bytes(data[:3])
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(atomic, "write_file", broken)
    with pytest.raises(OutputError, match="could not be written: the disk is gone; nothing was"):
        write_json_atomic(path, {"schema": 2})
    assert json.loads(path.read_text()) == {"schema": 1, "name": "ü"}
    assert [path.name for path in tmp_path.iterdir()] == ["eagle3.json"]
