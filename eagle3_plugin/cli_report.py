"""`eagle3 report`: a result of `eagle3 bench` as a page that can be looked at and handed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eagle3_plugin import console

if TYPE_CHECKING:
    from eagle3_plugin.report.write import Kind


def report(
    result: Annotated[Path, typer.Argument(help="What eagle3 bench --out wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page (.html), or a folder for it and the result.",
            show_default="beside the result",
        ),
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown too.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The loops as CSV too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Make one HTML file of a result: charts, tables, what is missing, where it comes from."""
    from eagle3_plugin.report.write import report_files, write_report
    from eagle3_plugin.show_report import show_result

    extra: list[Kind] = []
    if as_markdown:
        extra.append("markdown")
    if as_csv:
        extra.append("csv")
    files = report_files(result, out, extra)
    show_result(write_report(result, files, force=force))
    for path in files.values():
        console.out.print(f"wrote {console.shown(path)}", markup=False)
