"""A picture in the terminal: two pixels a character."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.color import Color
from rich.style import Style
from rich.text import Text

from eagle3_plugin import console

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH = 32
"""Characters."""
UPPER_HALF = "▀"


def show_picture(image: Image) -> None:
    """Prints it WIDTH characters wide, in the colours that the terminal has."""
    if console.out.color_system is None:
        size = f"{image.width} x {image.height} pixels"
        console.out.print(f"(a picture of {size}; a terminal with colours shows it)")
    else:
        console.out.print(as_text(image))


def as_text(image: Image) -> Text:
    """Each character is the upper of two pixels, on a ground of the lower one's colour."""
    height = max(1, round(WIDTH * image.height / image.width / 2)) * 2
    pixels = image.convert("RGB").resize((WIDTH, height)).load()
    assert pixels is not None
    text = Text()
    for y in range(0, height, 2):
        for x in range(WIDTH):
            upper, lower = (Color.from_rgb(*pixels[x, row]) for row in (y, y + 1))  # type: ignore[misc]
            text.append(UPPER_HALF, Style(color=upper, bgcolor=lower))
        text.append("\n")
    return text
