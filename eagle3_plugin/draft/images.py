"""Images named in prompts: a file, an address or a data URI -> a data URI -> pixels.

A data URI holds the bytes as they are, so that whoever is given the prompt, an engine or the
oracle, sees the same image.
"""

from __future__ import annotations

import base64
import binascii
import io
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from eagle3_plugin.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MAX_IMAGE_BYTES = 64 * 2**20
TIMEOUT_S = 30.0


def image_data_uri(url: str, folder: Path) -> str:
    """`url` as a data URI with its bytes; raises ValueError if it is no image that can be shown.

    url: a path (from `folder`, or absolute), an http or https address, or a data URI.
    """
    data, name = _read(url, folder), _short(url)
    if len(data) > MAX_IMAGE_BYTES:
        raise ValueError(f"image {name} has more than {MAX_IMAGE_BYTES} bytes")
    kind = _decoded(data, name).get_format_mimetype()
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def open_image(data_uri: str) -> Image:
    """The RGB pixels of an image that `image_data_uri` gave, turned as its EXIF data say."""
    from PIL import ImageOps

    image = _decoded(_bytes_of(data_uri), "image")
    return ImageOps.exif_transpose(image).convert("RGB")


def _read(url: str, folder: Path) -> bytes:
    if url.startswith("data:"):
        return _bytes_of(url)
    if url.startswith(("http://", "https://")):
        return _fetch(url)
    if "://" in url:
        raise ValueError(f"image {_short(url)}, expected a path, an http(s) address or a data URI")
    try:
        return (folder / url).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the image {url}: {error.strerror}") from error


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError) as error:  # OSError: urllib's own, and those of the socket
        raise ValueError(f"cannot fetch the image {_short(url)}: {error}") from error
    return data


def _bytes_of(data_uri: str) -> bytes:
    head, comma, text = data_uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError(f"image {_short(data_uri)}, expected data:image/…;base64,…")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"image {_short(data_uri)} is not base64 ({error})") from error


def _decoded(data: bytes, name: str) -> ImageFile:
    pillow = _pillow()
    try:
        image: ImageFile = pillow.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"image {name} cannot be decoded: {error}") from error
    if image.has_transparency_data and any(image.convert("RGBA").getchannel("A").histogram()[:-1]):
        raise ValueError(
            f"image {name} is transparent in places, and every engine fills these with another "
            "colour; expected an opaque one"
        )
    return image


def _short(url: str) -> str:
    return url if len(url) <= 60 else url[:59] + "…"


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "images in prompts are read with pillow, which is not installed",
            hint="pip install pillow torchvision",
        ) from error
    return Image
