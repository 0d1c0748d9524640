"""The page as Markdown: the same sentences and tables, without the charts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from eagle3_plugin.report.markup import visible
from eagle3_plugin.report.page import Block, Column, Figure, Notice, Page, Section, Table, Tile

SAID: Final = {"good": "Good", "doubt": "Note", "bad": "Attention"}
SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def markdown(page: Page) -> str:
    """The whole document (CommonMark with tables)."""
    parts = [f"# {_text(page.title)}", _text(page.lead), *map(_notice, page.notices)]
    if page.tiles:
        parts.append(_tiles(page.tiles))
    parts += [part for section in page.sections for part in _section(section)]
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """One line in which nothing is markup."""
    return SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def _notice(notice: Notice) -> str:
    lines = [f"**{SAID[notice.kind]}:** {_text(notice.text)}"]
    if notice.details:
        lines += ["", *(f"- {_text(detail)}" for detail in notice.details)]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _tiles(tiles: tuple[Tile, ...]) -> str:
    rows = [(tile.label, tile.value.text, f"{tile.note} ({tile.basis})") for tile in tiles]
    return _grid(("summary", "value", "of"), (False, True, False), rows)


def _section(section: Section) -> Iterator[str]:
    yield f"## {_text(section.title)}"
    for block in section.blocks:
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, str):
        yield _text(block)
    elif isinstance(block, Notice):
        yield _notice(block)
    elif isinstance(block, Table):
        yield from _table(block)
    else:
        yield from _figure(block)


def _figure(figure: Figure) -> Iterator[str]:
    yield f"### {_text(figure.title)} ({', '.join(figure.basis)})"
    yield _text(figure.text)
    yield from _table(figure.table)


def _table(table: Table) -> Iterator[str]:
    yield f"**{_text(table.caption)}**"
    names = tuple(map(_heading, table.columns))
    numeric = tuple(column.is_number for column in table.columns)
    yield _grid(names, numeric, [tuple(cell.text for cell in row) for row in table.rows])
    if table.note:
        yield _text(table.note)


def _heading(column: Column) -> str:
    return f"{column.name} ({column.basis})" if column.basis else column.name


def _grid(names: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if is_number else "---" for is_number in numeric]
    lines = [list(map(_text, names)), rule, *(list(map(_text, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
