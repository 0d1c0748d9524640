"""The files of a report: where they go, and that none is half-written or lost."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal

from eagle3_plugin.draft.atomic import fsync_folder, output_errors, write_file
from eagle3_plugin.errors import OutputError, UsageError
from eagle3_plugin.measuring.result import Result, read_result
from eagle3_plugin.report.build import page
from eagle3_plugin.report.html import html
from eagle3_plugin.report.loops_csv import loops_csv
from eagle3_plugin.report.markdown import markdown

Kind = Literal["html", "markdown", "csv", "json"]
SUFFIXES: Final[Mapping[Kind, str]] = {
    "html": ".html",
    "markdown": ".md",
    "csv": ".csv",
    "json": ".json",
}


def report_files(source: Path, out: Path | None, extra: Collection[Kind]) -> Mapping[Kind, Path]:
    """Where the report of this result goes: beside it, into a folder, or to a file by that name.

    A folder gets the result too, so that it can be handed on as it is.
    """
    kinds: set[Kind] = {"html", *extra}
    if out is None:
        base = source.with_suffix(".html")
    elif out.is_dir() or not out.suffix:
        base = out / source.with_suffix(".html").name
        kinds.add("json")
    elif out.suffix == SUFFIXES["html"]:
        base = out
    else:
        raise UsageError(
            f"--out is {str(out)!r}; expected a folder, or a file whose name ends in .html",
            hint="The other forms stand beside the page: add --markdown or --csv.",
        )
    files = {kind: base.with_suffix(suffix) for kind, suffix in SUFFIXES.items() if kind in kinds}
    return {
        kind: path for kind, path in files.items() if not (kind == "json" and _same(path, source))
    }


def write_report(source: Path, files: Mapping[Kind, Path], *, force: bool) -> Result:
    """Writes all of the files, or raises before the first; returns the result that they show."""
    result = read_result(source)
    for path in files.values():
        _check_free(path, source, force=force)
    made = page(result)
    for kind, path in files.items():
        if kind == "json":
            _write(path, source.read_bytes())
        elif kind == "html":
            _write(path, html(made).encode())
        else:
            text = markdown(made) if kind == "markdown" else loops_csv(result)
            _write(path, text.encode())
    return result


def _same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _check_free(path: Path, source: Path, *, force: bool) -> None:
    if _same(path, source):
        raise UsageError(
            f"the report would take the place of the result {source}; expected another name",
            hint="Name the page with --out.",
        )
    if path.is_dir() or (path.exists() and not force):
        raise OutputError(
            f"{path} exists, expected a name that is free",
            hint="Choose another name with --out, or add --force to replace a file.",
        )


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also where the machine stops in between."""
    with output_errors(path, len(data)):
        path.parent.mkdir(exist_ok=True)
        path = Path(os.path.realpath(path))
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        try:
            write_file(temporary, data)
            temporary.replace(path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
