"""The page as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eagle3_plugin import __version__
from eagle3_plugin.planning.picture import DARK, DARK_LINES, DASHES, LIGHT, LIGHT_LINES
from eagle3_plugin.report.marks import OUTLINES, shape, style
from eagle3_plugin.report.markup import Node, element, printed
from eagle3_plugin.report.page import (
    Basis,
    Block,
    Cell,
    Column,
    Figure,
    Key,
    Notice,
    Page,
    Panel,
    Section,
    Table,
    Tile,
)
from eagle3_plugin.report.rows import PROMISE

STYLE: Final = Path(__file__).with_name("page.css")
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load: nothing but the style in the file."""

LONG: Final = 40
"""From this many letters on, a cell of a table is broken into lines anywhere."""

WORDY: Final = 16
"""From this many letters on, a cell of a table keeps some width on a phone."""

WIDE: Final = 10
"""Tables of more columns are printed in smaller letters."""

SIGNS: Final = {"good": "✓", "doubt": "i", "bad": "!"}
SAID: Final = {"good": "Good: ", "doubt": "Note: ", "bad": "Attention: "}


def html(page: Page) -> str:
    """The whole document."""
    body = element(
        "main",
        None,
        element("header", None, element("h1", None, page.title), element("p", None, page.lead)),
        *map(_notice, page.notices),
        *([element("div", {"class": "tiles"}, *map(_tile, page.tiles))] if page.tiles else ()),
        *map(_section, page.sections),
        element("footer", None, element("p", None, f"eagle3-plugin {__version__}")),
    )
    root = element("html", {"lang": "en"}, _head(page.title), element("body", None, body))
    return f"<!doctype html>\n{printed(root)}\n"


def _head(title: str) -> ET.Element:
    return element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", None, title),
        element("style", None, _colours() + STYLE.read_text(encoding="utf-8")),
    )


def _colours() -> str:
    """The colours of the plan's picture, as variables. Print is light whatever the scheme."""
    dashes = "".join(
        f".d{place} {{ stroke-dasharray: {dash}; }}\n" for place, dash in enumerate(DASHES)
    )
    dark = f":root {{ {_variables(DARK, DARK_LINES)} }}"
    return (
        f":root {{ {_variables(LIGHT, LIGHT_LINES)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ {dark} }}\n{dashes}"
    )


def _variables(inks: tuple[str, ...], lines: tuple[str, ...]) -> str:
    names = ("ink", "soft", "grid", "paper")
    pairs = [*zip(names, inks, strict=True), *((f"s{i}", line) for i, line in enumerate(lines))]
    return " ".join(f"--{name}: {colour};" for name, colour in pairs)


def _notice(notice: Notice) -> ET.Element:
    sign = element("span", {"class": "sign", "aria-hidden": "true"}, SIGNS[notice.kind])
    said = element("span", {"class": "unseen"}, SAID[notice.kind])
    items = [element("li", None, line) for line in notice.details]
    text = element("p", None, said, notice.text)
    inside = element("div", None, text, *([element("ul", None, *items)] if items else ()))
    return element("div", {"class": f"notice {notice.kind}", "role": "note"}, sign, inside)


def _tile(tile: Tile) -> ET.Element:
    return element(
        "div",
        {"class": "tile"},
        element("p", {"class": "label"}, tile.label),
        element("p", {"class": "value", "title": tile.value.exact or None}, tile.value.text),
        element("p", {"class": "label"}, tile.note, " ", _badge(tile.basis)),
    )


def _section(section: Section) -> ET.Element:
    inside = [node for block in section.blocks for node in _block(block)]
    title = element("h2", None, section.title)
    if section.is_folded:
        return element("details", {"class": "part"}, element("summary", None, title), *inside)
    return element("section", {"class": "part"}, title, *inside)


def _block(block: Block) -> Iterator[ET.Element]:
    if isinstance(block, str):
        yield element("p", None, block)
    elif isinstance(block, Notice):
        yield _notice(block)
    elif isinstance(block, Table):
        yield from _table(block)
    else:
        yield from _figure(block)


def _figure(figure: Figure) -> Iterator[ET.Element]:
    """The charts, and their numbers beneath."""
    title = element("h3", None, figure.title, " ", *_badges(figure.basis))
    text = element("p", None, figure.text)
    keys = element("ul", {"class": "keys", "aria-label": "legend"}, *map(_key, figure.keys))
    panels = element("div", {"class": "panels"}, *map(_panel, figure.panels))
    yield element("div", {"class": "figure"}, title, text, *([keys] if figure.keys else ()), panels)
    yield from _table(figure.table)


def _key(key: Key) -> ET.Element:
    index = None if key.style == PROMISE else int(key.style)
    classes = PROMISE if index is None else style(index)
    outline = OUTLINES["diamond" if index is None else shape(index)]
    parts: list[Node] = [element("path", {"d": outline, "class": "mark"})]
    if index is not None:
        parts.insert(0, element("line", {"x1": -13, "x2": 13, "class": f"line {classes}"}))
    group = element("g", {"class": classes}, *parts)
    frame = {"viewBox": "-14 -8 28 16", "width": 28, "height": 16, "aria-hidden": "true"}
    return element("li", None, element("svg", frame, group), key.text)


def _panel(panel: Panel) -> ET.Element:
    caption = element("figcaption", {"title": panel.title}, panel.title)
    return element("figure", {"class": "panel"}, caption, panel.drawing)


def _table(table: Table) -> Iterator[ET.Element]:
    """In a region of its own, which scrolls by finger, mouse or key where it is too wide."""
    head = element("tr", None, *map(_heading, table.columns))
    rows = [_row(table.columns, row) for row in table.rows]
    made = element(
        "table",
        None,
        element("caption", None, element("span", None, table.caption)),
        element("thead", None, head),
        element("tbody", None, *rows),
    )
    kind = "table wide" if len(table.columns) > WIDE else "table"
    region = {"class": kind, "role": "region", "tabindex": 0, "aria-label": table.caption}
    yield element("div", region, made)
    if table.note:
        yield element("p", {"class": "under"}, table.note)


def _heading(column: Column) -> ET.Element:
    classes = "number" if column.is_number else None
    badges = [element("br"), _badge(column.basis)] if column.basis else []
    return element("th", {"scope": "col", "class": classes}, column.name, *badges)


def _row(columns: tuple[Column, ...], cells: tuple[Cell, ...]) -> ET.Element:
    made = []
    for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        words = "long" if len(cell.text) > LONG else "wordy" if len(cell.text) > WORDY else None
        attributes = {
            "class": "number" if column.is_number else words,
            "title": cell.exact or None,
            "scope": None if place else "row",
        }
        made.append(element("td" if place else "th", attributes, cell.text))
    return element("tr", None, *made)


def _badges(bases: tuple[Basis, ...]) -> Iterator[Node]:
    for basis in bases:
        yield _badge(basis)
        yield " "


def _badge(basis: Basis) -> ET.Element:
    return element("span", {"class": f"badge {basis}"}, basis)
