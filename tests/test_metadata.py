"""Metadata that is damaged or huge does not affect the pixels of a JPEG or PNG file."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from labelr.data.images import Decoded, UnreadableError, decode

SIZE = 16
NOISE = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def decoded(path: Path) -> Decoded:
    with path.open("rb") as file:
        return decode(file, SIZE)


def pixels_of(path: Path) -> NDArray[np.uint8]:
    return decoded(path).pixels


# --- PNG -------------------------------------------------------------------------------------------------------------


def png_of(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def insert(png: bytes, extra: bytes, before: bytes = b"IDAT") -> bytes:
    """A PNG file with further chunks before those of a name."""
    position = png.index(before) - 4
    return png[:position] + extra + png[position:]


LARGE = b"\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1))
"""Of an unpacked size above the limit."""
METADATA = {
    "large text": chunk(b"zTXt", b"workflow" + LARGE),
    "large profile": chunk(b"iCCP", b"icc" + LARGE),
    "unknown profile compression": chunk(b"iCCP", b"icc\0\7" + LARGE[2:100]),
    "damaged profile": chunk(b"iCCP", b"icc\0\0no zlib"),
    "short profile": chunk(b"iCCP", b"icc"),
    "wrong checksum": chunk(b"tEXt", b"title\0picture")[:-1] + b"!",
    "short density": chunk(b"pHYs", b"\0"),
    "short white point": chunk(b"cHRM", b"\0\0"),
    "damaged exif": chunk(b"eXIf", b"no exif"),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"], ids=["first", "last"])
@pytest.mark.parametrize("kind", METADATA)
def test_metadata_that_is_large_or_damaged_does_not_affect_the_pixels(kind: str, before: bytes, tmp_path: Path) -> None:
    png = png_of(Image.fromarray(NOISE))
    (tmp_path / "a.png").write_bytes(insert(png, METADATA[kind], before))
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), NOISE)


def test_orientation_is_kept_without_the_other_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    png = png_of(Image.new("RGB", (40, 20)), exif=exif)
    (tmp_path / "a.png").write_bytes(insert(png, METADATA["large text"]))
    assert decoded(tmp_path / "a.png")[1:3] == (20, 40)


def test_truncated_pixels_are_damaged_whatever_the_metadata(tmp_path: Path) -> None:
    png = insert(png_of(Image.fromarray(NOISE)), METADATA["large text"])
    (tmp_path / "a.png").write_bytes(png[: png.index(b"IDAT") + 100])
    with pytest.raises(UnreadableError, match=r"^damaged"):
        decoded(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"\0"])
def test_transparent_grey_of_the_wrong_length_is_left_out(content: bytes, tmp_path: Path) -> None:
    grey = NOISE[..., 0]
    (tmp_path / "a.png").write_bytes(insert(png_of(Image.fromarray(grey)), chunk(b"tRNS", content)))
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png")[..., 0], grey)


# --- JPEG ------------------------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


SEGMENTS = {
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "short jfif": segment(0xE0, b"JFIF\0\1"),
    "short adobe": segment(0xEE, b"Adobe\0d"),
    "short photoshop": segment(0xED, b"Photoshop 3.0\x008BIM"),
}


def jpeg_of(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).resize((40, 20)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", SEGMENTS)
def test_short_segment_of_a_jpeg_does_not_affect_its_pixels(kind: str, tmp_path: Path) -> None:
    jpeg = jpeg_of()
    (tmp_path / "a.jpg").write_bytes(jpeg)
    (tmp_path / "b.jpg").write_bytes(jpeg[:2] + SEGMENTS[kind] + jpeg[2:])
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.jpg"), pixels_of(tmp_path / "a.jpg"))


def test_orientation_of_a_jpeg_is_kept_without_the_damaged_segment(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    jpeg = jpeg_of(exif=exif)
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + SEGMENTS["short profile"] + jpeg[2:])
    assert decoded(tmp_path / "a.jpg")[1:3] == (20, 40)


def test_colours_of_a_jpeg_in_cmyk_are_kept_without_the_damaged_segment(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (SIZE, SIZE), (200, 0, 0, 0)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(jpeg)
    (tmp_path / "b.jpg").write_bytes(jpeg[:2] + SEGMENTS["short profile"] + jpeg[2:])
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.jpg"), pixels_of(tmp_path / "a.jpg"))


def test_truncated_jpeg_is_damaged_whatever_its_metadata(tmp_path: Path) -> None:
    jpeg = jpeg_of()
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + SEGMENTS["short profile"] + jpeg[2:-200])
    with pytest.raises(UnreadableError, match=r"^damaged or truncated"):
        decoded(tmp_path / "a.jpg")
