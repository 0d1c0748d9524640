"""What a report says, whatever it is printed as: sections of text, tables and charts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eagle3_plugin.measuring.record import Estimate
from eagle3_plugin.report import numbers

Basis = Literal["measured", "card", "datasheet", "modelled"]
"""Where a number comes from: this run, what the draft's card prints, a maker, or a model."""


@dataclass(frozen=True)
class Cell:
    """One place of a table. exact: all digits, where `text` is rounded."""

    text: str
    exact: str = ""


@dataclass(frozen=True)
class Column:
    """basis: None where the column holds no measure. is_number: aligned right."""

    name: str
    basis: Basis | None = None
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """The first column names the row. note: a sentence beneath, or nothing."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Key:
    """An entry of a legend: the mark with this style says `text`."""

    style: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One small chart. title: what it is of. drawing: its SVG, with its own description."""

    title: str
    drawing: ET.Element


@dataclass(frozen=True)
class Figure:
    """Charts that share a legend; `table` has the same numbers."""

    title: str
    text: str
    basis: tuple[Basis, ...]
    keys: tuple[Key, ...]
    panels: tuple[Panel, ...]
    table: Table


Kind = Literal["good", "doubt", "bad"]


@dataclass(frozen=True)
class Notice:
    """A sentence that must not be missed, and its details."""

    kind: Kind
    text: str
    details: tuple[str, ...] = ()


Block = str | Table | Figure | Notice


@dataclass(frozen=True)
class Section:
    """is_folded: closed until somebody opens it."""

    title: str
    blocks: tuple[Block, ...]
    is_folded: bool = False


@dataclass(frozen=True)
class Tile:
    """One figure of the summary."""

    label: str
    value: Cell
    note: str
    basis: Basis


@dataclass(frozen=True)
class Page:
    """The whole report. lead: what was measured on what, and when."""

    title: str
    lead: str
    notices: tuple[Notice, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


def text(value: object) -> Cell:
    """A name, or a minus sign for None."""
    return Cell(numbers.NONE if value is None else str(value))


def number(value: float | None, form: Callable[[float | None], str] = numbers.short) -> Cell:
    """A rounded number that keeps its digits."""
    return Cell(form(value), numbers.exact(value))


def count(value: int | None) -> Cell:
    return Cell(numbers.count(value))


def estimate(found: Estimate | None, form: Callable[[float | None], str] = numbers.short) -> Cell:
    """A value with its interval, or a minus sign for None, which was not to be had."""
    if found is None:
        return Cell(numbers.NONE)
    return interval(found.value, found.low, found.high, form)


def interval(
    value: float | None,
    low: float | None,
    high: float | None,
    form: Callable[[float | None], str] = numbers.short,
) -> Cell:
    """A value with its interval: 1.92x (1.85x to 1.99x)."""
    if value is None or low is None or high is None:
        return number(value, form)
    return Cell(f"{form(value)} ({form(low)} to {form(high)})", f"{value!r} ({low!r} to {high!r})")
