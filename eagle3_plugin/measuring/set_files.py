"""Tables of questions: jsonl, json, csv, parquet, gzipped or in a zip; from the hub or a disk."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eagle3_plugin.errors import Eagle3Error, MissingExtraError, NotFoundError
from eagle3_plugin.hub_errors import translated

Row = Mapping[str, Any]

INSIDE: Final = "!"
"""Between the name of an archive and the pattern of files in it."""

HIDDEN: Final = "__MACOSX"
"""What macOS adds to archives."""


@dataclass(frozen=True)
class Table:
    """The rows of one file. name: of the file, for messages about it."""

    name: str
    rows: tuple[Row, ...]


def read_table(path: Path) -> Table:
    """The table in a file on the disk."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"the set's file {path} cannot be read: {error.strerror}; expected a table",
            hint=f"Files that are read: {', '.join(_READERS)}.",
        ) from error
    return _table(path.name, data)


def fetch_tables(repository: str, patterns: Sequence[str]) -> tuple[list[Table], str]:
    """The tables of a data set on Hugging Face, and the commit that they are of."""
    from huggingface_hub import HfApi, hf_hub_download

    with translated(repository, "the data set"):
        info = HfApi().dataset_info(repository)
    files = sorted(sibling.rfilename for sibling in info.siblings or ())
    revision = info.sha or "main"
    tables: list[Table] = []
    for pattern in patterns:
        outer, _, inner = pattern.partition(INSIDE)
        for file in fnmatch.filter(files, outer):
            with translated(repository, file):
                local = hf_hub_download(repository, file, repo_type="dataset", revision=revision)
            data = Path(local).read_bytes()
            tables += _inside(file, data, inner) if inner else [_table(file, data)]
    if not tables:
        raise NotFoundError(
            f"{repository} at {revision} has no file {' or '.join(patterns)}; it has "
            f"{', '.join(files[:8]) or 'no files at all'}",
            hint="Download it as it was, and give it as NAME=FILE.",
        )
    return tables, revision


def _inside(name: str, data: bytes, pattern: str) -> list[Table]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.startswith(HIDDEN)]
            members = sorted(fnmatch.filter(names, pattern))
            return [_table(member, archive.read(member)) for member in members]
    except zipfile.BadZipFile as error:
        raise _broken(name, str(error)) from error


def _table(name: str, data: bytes) -> Table:
    plain = name.removesuffix(".gz")
    reader = _READERS.get(Path(plain).suffix)
    if reader is None:
        raise Eagle3Error(
            f"{name} is no table that is read here; expected {', '.join(_READERS)}",
            hint="Convert it to jsonl.",
        )
    try:
        rows = reader(gzip.decompress(data) if plain != name else data)
    except (ValueError, OSError, EOFError) as error:
        raise _broken(name, str(error)) from error
    if not all(isinstance(row, dict) for row in rows):
        raise _broken(name, "not all of its rows are objects")
    return Table(name, tuple(rows))


def _jsonl(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.decode("utf-8-sig").split("\n") if line.strip()]


def _json(data: bytes) -> list[Any]:
    """A list of objects, or an object that has one list."""
    value = json.loads(data.decode("utf-8-sig"))
    lists = [v for v in value.values() if isinstance(v, list)] if isinstance(value, dict) else []
    return value if isinstance(value, list) else lists[0] if len(lists) == 1 else [value]


def _csv(data: bytes) -> list[Any]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def _parquet(data: bytes) -> list[Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(
            "this set is a parquet file, and pyarrow is not installed; expected it",
            hint="pip install eagle3-plugin[sets], or give the set as a jsonl: NAME=FILE",
        ) from error
    file = parquet.ParquetFile(pyarrow.BufferReader(data), pre_buffer=False)
    return list(file.read(use_threads=False).to_pylist())


def _broken(name: str, why: str) -> Eagle3Error:
    return Eagle3Error(
        f"{name} cannot be read: {why}; expected a whole table",
        hint="Download it again, or give another file as NAME=FILE.",
    )


_READERS: Final[Mapping[str, Callable[[bytes], list[Any]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
