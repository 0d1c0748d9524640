"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eagle3_plugin.errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_json_atomic(path: Path, obj: Mapping[str, Any]) -> None:
    """Replaces `path` by `obj` as JSON; after a crash at any time it is the old or the new text."""
    data = json_bytes(obj, path.name)
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with output_errors(path, len(data)):
        try:
            write_file(temporary, data)
            temporary.replace(path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def json_bytes(obj: Mapping[str, Any], name: str) -> bytes:
    """`obj` as the text of a JSON file: UTF-8, indented, never NaN."""
    try:
        return (json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise OutputError(f"{name} cannot be written as JSON: {error}") from error


@contextlib.contextmanager
def new_folder(out: Path, *, force: bool, num_bytes: int) -> Iterator[Path]:
    """A temporary sibling of `out` to fill; it becomes `out` when the block ends well.

    If the block raises, the temporary is removed and `out` is as it was. `num_bytes` is what is
    going to be written: less free space is an OutputError before anything happens. An existing
    `out` is refused, or replaced with `force` if it is a checkpoint or empty.
    """
    out = Path(os.path.realpath(out))
    with output_errors(out, num_bytes):
        _check_parent(out)
        _clean_after_dead_writers(out)
        _check_out(out, force=force)
        _check_free_space(out.parent, out, num_bytes)
        temporary, lock = _locked_temporary(out)
        try:
            yield temporary
            fsync_folder(temporary)
            _swap_in(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(lock)


def write_file(path: Path, data: bytes) -> None:
    """Writes a new file through to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Makes the names in `folder` last through a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def output_errors(out: Path, num_bytes: int) -> Iterator[None]:
    """Turns the operating system's complaints about `out` into an OutputError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(out.parent, out, num_bytes) from error
        raise OutputError(
            f"{out} could not be written: {error.strerror or error}; nothing was changed"
        ) from error


def _check_parent(out: Path) -> None:
    if not out.parent.is_dir():
        raise OutputError(
            f"{out.parent} is not a folder, expected one to write {out.name!r} into",
            hint=f"Make it first: mkdir -p {out.parent}",
        )


def _check_out(out: Path, *, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputError(
            f"{out} exists, expected a name that is free",
            hint="Choose another name, or add --force to replace it.",
        )
    if not out.is_dir() or not _is_checkpoint_or_empty(out):
        raise OutputError(
            f"{out} is not a checkpoint folder (no config.json in it), so it is not replaced",
            hint="Choose another name, or remove it yourself.",
        )


def _is_checkpoint_or_empty(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return not names or "config.json" in names


def _check_free_space(folder: Path, out: Path, num_bytes: int) -> None:
    usage = shutil.disk_usage(folder)
    if usage.total and usage.free < num_bytes:  # some virtual file systems say 0 of everything
        raise _no_room(folder, out, num_bytes)


def _no_room(folder: Path, out: Path, num_bytes: int) -> OutputError:
    free = shutil.disk_usage(folder).free
    return OutputError(
        f"{out} needs {num_bytes} bytes and the file system of {folder} has {free} free, or less "
        f"by a quota or a limit on file sizes; nothing was changed",
        hint="Free some space there, or write to another disk.",
    )


def _locked_temporary(out: Path) -> tuple[Path, int]:
    """A new folder beside `out` and the lock that says that its writer lives."""
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    for _ in range(3):
        temporary.mkdir()
        lock = _try_lock(temporary)
        if lock is not None and temporary.is_dir():
            return temporary, lock
        if lock is not None:
            os.close(lock)
    raise OutputError(f"{temporary} is taken away again and again: another program cleans {out}")


def _try_lock(folder: Path) -> int | None:
    """The descriptor that holds the lock on `folder`, None if a living writer holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _clean_after_dead_writers(out: Path) -> None:
    """Removes what killed writers of `out` left, and brings back an `out` they had moved aside."""
    for kind in ("old", "tmp"):
        prefix = f".{out.name}.{kind}-"
        for folder in sorted(out.parent.iterdir()):
            if not folder.name.startswith(prefix) or not folder.name[len(prefix) :].isdigit():
                continue
            lock = _try_lock(folder)
            if lock is None:
                continue
            if kind == "old" and not out.exists():
                folder.rename(out)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _swap_in(temporary: Path, out: Path) -> None:
    """Moves the new folder in and removes the old one; if that fails, the old one is back."""
    aside = out.with_name(f".{out.name}.old-{os.getpid()}")
    try:
        if out.exists():
            out.rename(aside)
        temporary.rename(out)
        fsync_folder(out.parent)
    except BaseException:
        if not temporary.exists():
            out.rename(temporary)
        if aside.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
