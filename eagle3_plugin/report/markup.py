"""HTML and SVG as trees: every text and attribute is escaped where the tree is printed."""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Mapping

Node = ET.Element | str

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Kinds of characters that show nothing, or turn the text around them: printed by their number."""


def element(
    name: str, attributes: Mapping[str, object] | None = None, *children: Node
) -> ET.Element:
    """An element; a text child is text whatever is in it. Attributes that are None are left out."""
    given = {k: visible(str(v)) for k, v in (attributes or {}).items() if v is not None}
    made = ET.Element(name, given)
    for child in children:
        if isinstance(child, ET.Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + visible(child)
        else:
            made.text = (made.text or "") + visible(child)
    return made


def printed(root: ET.Element) -> str:
    """The tree as HTML."""
    return ET.tostring(root, encoding="unicode", method="html")


def visible(text: str) -> str:
    """The text with a number in place of each character that could not be seen."""
    return "".join(c if _is_visible(c) else f"\\u{{{ord(c):x}}}" for c in text)


def _is_visible(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) not in HIDDEN
