"""Names become folders; what looks like neither folder nor repository is said so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eagle3_plugin.errors import (
    IncompleteError,
    NotFoundError,
    OfflineError,
    SourceError,
    UsageError,
)
from eagle3_plugin.hub import CachedSource, FolderSource, is_plain_name, resolve


def test_a_folder_lists_its_top_level_files_and_reads_ranges(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"0123456789")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(b"x")
    source = resolve(str(tmp_path))
    assert source == FolderSource(tmp_path, str(tmp_path))
    assert source.revision is None
    assert source.sizes() == {"config.json": 10}
    assert source.read("config.json") == b"0123456789"
    assert source.read("config.json", 3, 4) == b"3456"
    assert source.read("config.json", 8, 100) == b"89"
    assert source.path("config.json") == source.local("config.json") == tmp_path / "config.json"


def test_a_folder_in_the_current_one_wins_over_a_repository_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name@v1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name@v1") == FolderSource(Path("org/name@v1"), "org/name@v1")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "draft").mkdir()
    assert resolve("~/draft") == FolderSource(tmp_path / "draft", "~/draft")


@pytest.mark.parametrize(
    "file", ["../secret", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a\0", "x" * 256]
)
def test_only_plain_file_names_are_read(tmp_path: Path, file: str) -> None:
    source = FolderSource(tmp_path, "draft")
    assert not is_plain_name(file)
    for read in (source.read, source.path, source.local):
        with pytest.raises(SourceError, match="is not a plain file name; nothing outside"):
            read(file)


def test_a_file_that_a_folder_does_not_have_is_named_with_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(NotFoundError, match=r"draft has no file 'x'; it has config\.json$"):
        FolderSource(tmp_path, "draft").read("x")
    with pytest.raises(OfflineError, match="'x' of org/name is not in the cache"):
        CachedSource(tmp_path, "org/name").read("x")


def test_links_to_nothing_are_an_incomplete_download(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(IncompleteError, match=r"draft: model\.safetensors point to files that"):
        FolderSource(tmp_path, "draft").sizes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./draft", r"there is no folder './draft' \(read as a path"),
        ("/no/such", r"there is no folder '/no/such'"),
        ("~/no-such", r"there is no folder '~/no-such'"),
        ("a/b/c", r"there is no folder 'a/b/c'"),
        ("org/name/", r"there is no folder 'org/name/'"),
        ("draft", r"'draft' is neither a folder that exists nor written org/name"),
        ("", r"'' is neither a folder"),
        ("org/", r"'org/' is neither a folder"),
        ("org/name@", r"'org/name@' is neither a folder"),
        ("~no-such-user/draft", r"there is no folder '~no-such-user/draft'"),
        ("/" + "x" * 5000, r"there is no folder '/xxx"),
        ("modelscope:name", r"'modelscope:name' is neither a folder"),
    ],
)
def test_a_name_that_can_be_neither_is_said_to_be_so(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=message) as caught:
        resolve(name)
    assert caught.value.hint is not None


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(NotFoundError, match="is a file, expected a folder") as caught:
        resolve(str(tmp_path / "model.safetensors"))
    assert caught.value.hint == f"Name the folder that it is in: {tmp_path}"


def test_a_revision_of_a_folder_and_two_revisions_are_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, which has no revision 'v1'"):
        resolve(str(tmp_path), revision="v1")
    with pytest.raises(UsageError, match="two revisions are asked for: 'v1' in the name and 'v2'"):
        resolve("org/name@v1", revision="v2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may read less")
def test_what_may_not_be_read_is_said_so(tmp_path: Path) -> None:
    source = FolderSource(tmp_path, "draft")
    (tmp_path / "config.json").touch(mode=0)
    os.seteuid(65534)
    try:
        with pytest.raises(SourceError, match="cannot be read: Permission denied"):
            source.sizes()
        with pytest.raises(SourceError, match="cannot be read: Permission denied"):
            source.read("config.json")
        with pytest.raises(NotFoundError, match="there is no folder"):
            resolve(str(tmp_path))
    finally:
        os.seteuid(0)
