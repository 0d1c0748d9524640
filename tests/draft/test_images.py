from __future__ import annotations

import base64
import http.server
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from eagle3_plugin.draft import images
from eagle3_plugin.draft.images import image_data_uri, open_image
from eagle3_plugin.errors import MissingExtraError

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A PNG of one red pixel."""


@pytest.fixture
def red(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(base64.b64decode(DOT))
    return tmp_path / "red.png"


@pytest.fixture
def address(red: Path) -> Iterator[str]:
    """A server of the folder that holds red.png."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(red.parent))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_path_is_taken_from_the_folder_or_absolute(red: Path, tmp_path: Path) -> None:
    expected = f"data:image/png;base64,{DOT}"

    assert image_data_uri("red.png", tmp_path) == expected
    assert image_data_uri(str(red), Path("elsewhere")) == expected


def test_an_address_is_fetched(address: str, tmp_path: Path) -> None:
    assert image_data_uri(f"{address}/red.png", tmp_path) == f"data:image/png;base64,{DOT}"


def test_a_data_uri_says_what_it_holds(tmp_path: Path) -> None:
    mistaken = f"data:image/jpeg;base64,{DOT}"

    assert image_data_uri(mistaken, tmp_path) == f"data:image/png;base64,{DOT}"


def test_the_pixels_are_those_of_the_file() -> None:
    image = open_image(f"data:image/png;base64,{DOT}")

    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (1, 1), (255, 0, 0))


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was held at 90 degrees."""
    photo = Image.new("RGB", (4, 2))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif)

    assert open_image(image_data_uri("photo.jpg", tmp_path)).size == (2, 4)


def test_grey_and_palette_images_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 7).save(tmp_path / "grey.png")
    Image.new("P", (2, 2)).save(tmp_path / "palette.gif")

    assert open_image(image_data_uri("grey.png", tmp_path)).getpixel((0, 0)) == (7, 7, 7)
    assert open_image(image_data_uri("palette.gif", tmp_path)).mode == "RGB"


def test_an_opaque_alpha_channel_is_dropped(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (1, 2, 3, 255)).save(tmp_path / "opaque.png")

    assert open_image(image_data_uri("opaque.png", tmp_path)).getpixel((0, 0)) == (1, 2, 3)


def test_a_transparent_image_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (1, 2, 3, 254)).save(tmp_path / "glass.png")

    with pytest.raises(ValueError, match=r"image glass.png is transparent in places, and"):
        image_data_uri("glass.png", tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("none.png", "cannot read the image none.png: No such file or directory"),
        (".", "cannot read the image .: Is a directory"),
        ("ftp://host/a.png", "image ftp://host/a.png, expected a path, an http"),
        ("data:image/png,AAAA", "image data:image/png,AAAA, expected data:image/…;base64,…"),
        ("data:image/png;base64", "image data:image/png;base64, expected data:image/…;base64"),
        ("data:image/png;base64,A", "image data:image/png;base64,A is not base64 ("),
        ("data:image/png;base64,AAAA", "image data:image/png;base64,AAAA cannot be decoded: can"),
        ("http://127.0.0.1:1/a.png", "cannot fetch the image http://127.0.0.1:1/a.png: <urlopen"),
        ("http://[/a.png", "cannot fetch the image http://[/a.png: Invalid IPv6 URL"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(ValueError, match="image") as caught:
        image_data_uri(url, tmp_path)

    assert str(caught.value).startswith(message)


def test_an_address_without_the_image_is_named(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot fetch the image .*/none.png: HTTP Error 404"):
        image_data_uri(f"{address}/none.png", tmp_path)


def test_a_cut_off_image_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[:1000])

    with pytest.raises(ValueError, match=r"image half.png cannot be decoded: "):
        image_data_uri("half.png", tmp_path)


def test_a_file_without_end_is_refused(
    red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 40)

    with pytest.raises(ValueError, match=r"image red.png has more than 40 bytes"):
        image_data_uri("red.png", tmp_path)


def test_a_long_data_uri_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be decoded") as caught:
        image_data_uri("data:image/png;base64," + "A" * 4000, tmp_path)

    assert len(str(caught.value)) < 200


def test_without_pillow_it_is_named(
    red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MissingExtraError, match="read with pillow, which is not inst") as caught:
        image_data_uri("red.png", tmp_path)

    assert caught.value.hint == "pip install pillow torchvision"
