"""Decoding of image files of every kind and with every damage, and finding them."""

import base64
import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from conftest import case, cpu_limit
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from labelr.config import ResizeRule
from labelr.data.images import (
    Pixels,
    UnreadableError,
    decode,
    read_pixels,
    read_thumbnail,
    to_pixels,
)
from labelr.data.value_range import ValueRange
from labelr.data.walk import find_images

Colour = tuple[int, int, int]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels_of(path: Path, size: int = 16, rule: ResizeRule = "squish") -> Pixels:
    return read_pixels(path, size, rule=rule)


def reason_of(path: Path, max_pixels: int = 1_000_000) -> str:
    with pytest.raises(UnreadableError) as caught:
        read_pixels(path, 16, max_pixels=max_pixels)
    return str(caught.value)


def assert_plain(pixels: Pixels, colour: Sequence[int], tolerance: int = 0) -> None:
    """Whether every pixel is of one colour."""
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(colour, pixels.shape), rtol=0, atol=tolerance)


def plain(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (24, 20), colour)


def grey(value: float, dtype: str) -> Image.Image:
    return Image.fromarray(np.full((20, 24), value, dtype=dtype))


def dark_with_white_row(value: float, dtype: str, white: float) -> Image.Image:
    """A grey image whose last row is white."""
    values = np.full((200, 24), value, dtype=dtype)
    values[-1] = white
    return Image.fromarray(values)


def palette() -> Image.Image:
    """A palette image, all of colour 1, which is orange; colour 0 is black."""
    image = plain("P", 1)
    image.putpalette([0, 0, 0, 250, 130, 20])
    return image


# --- formats and modes -----------------------------------------------------------------------------------------------

ORANGE = (250, 130, 20)
KINDS: dict[str, tuple[str, Image.Image, dict[str, object], Colour, int]] = {
    "jpeg": ("JPEG", plain("RGB", ORANGE), {"quality": 95}, ORANGE, 3),
    "jpeg_progressive": ("JPEG", plain("RGB", ORANGE), {"quality": 95, "progressive": True}, ORANGE, 3),
    "jpeg_grey": ("JPEG", plain("L", 77), {}, (77, 77, 77), 2),
    "jpeg_of_several": ("MPO", plain("RGB", ORANGE), {"save_all": True, "append_images": [plain("RGB", 0)]}, ORANGE, 3),
    "png": ("PNG", plain("RGB", ORANGE), {}, ORANGE, 0),
    "webp": ("WEBP", plain("RGB", ORANGE), {"lossless": True}, ORANGE, 0),
    "webp_lossy": ("WEBP", plain("RGB", ORANGE), {"quality": 95}, ORANGE, 8),
    "avif": ("AVIF", plain("RGB", ORANGE), {"quality": 95}, ORANGE, 6),
    "bmp": ("BMP", plain("RGB", ORANGE), {}, ORANGE, 0),
    "bmp_palette": ("BMP", palette(), {}, ORANGE, 0),
    "tiff": ("TIFF", plain("RGB", ORANGE), {}, ORANGE, 0),
    "tiff_lzw": ("TIFF", plain("RGB", ORANGE), {"compression": "tiff_lzw"}, ORANGE, 0),
    "gif": ("GIF", palette(), {}, ORANGE, 0),
    "jpeg2000": ("JPEG2000", plain("RGB", ORANGE), {}, ORANGE, 0),
    "jpeg2000_stream": ("JPEG2000", plain("L", 77), {"no_jp2": True}, (77, 77, 77), 0),
    "png_16_bit_grey": ("PNG", grey(25700, "uint16"), {}, (100, 100, 100), 0),
    "tiff_16_bit_grey": ("TIFF", grey(25700, "uint16"), {}, (100, 100, 100), 0),
    "png_1_bit_white": ("PNG", plain("1", 1), {}, WHITE, 0),
    "png_1_bit_black": ("PNG", plain("1", 0), {}, (0, 0, 0), 0),
    "tiff_fax": ("TIFF", plain("1", 1), {"compression": "group4"}, WHITE, 0),
    "png_grey_half_transparent_black": ("PNG", plain("LA", (0, 128)), {}, (127, 127, 127), 1),
    "png_half_transparent_black": ("PNG", plain("RGBA", (0, 0, 0, 128)), {}, (127, 127, 127), 1),
    "webp_half_transparent_black": ("WEBP", plain("RGBA", (0, 0, 0, 128)), {"lossless": True}, (127, 127, 127), 1),
    "tiff_half_transparent_black": ("TIFF", plain("RGBA", (0, 0, 0, 128)), {}, (127, 127, 127), 1),
    "png_fully_transparent_red": ("PNG", plain("RGBA", (255, 0, 0, 0)), {}, WHITE, 0),
    "png_opaque_red": ("PNG", plain("RGBA", (255, 0, 0, 255)), {}, RED, 0),
    "png_palette": ("PNG", palette(), {}, ORANGE, 0),
    "png_palette_transparent": ("PNG", palette(), {"transparency": 1}, WHITE, 0),
    "png_palette_other_colour_transparent": ("PNG", palette(), {"transparency": 0}, ORANGE, 0),
    "png_palette_half_transparent": ("PNG", palette(), {"transparency": bytes([255, 128])}, (252, 192, 137), 1),
    "gif_transparent": ("GIF", palette(), {"transparency": 1}, WHITE, 0),
    "png_one_colour_transparent": ("PNG", plain("RGB", ORANGE), {"transparency": ORANGE}, WHITE, 0),
    "jpeg_cmyk_without_ink": ("JPEG", plain("CMYK", (0, 0, 0, 0)), {}, WHITE, 0),
    "tiff_cmyk_without_ink": ("TIFF", plain("CMYK", (0, 0, 0, 0)), {}, WHITE, 0),
    "tiff_cmyk_cyan": ("TIFF", plain("CMYK", (255, 0, 0, 0)), {}, (0, 255, 255), 0),
    "jpeg_cmyk_black": ("JPEG", plain("CMYK", (0, 0, 0, 255)), {}, (0, 0, 0), 2),
    "tiff_lab_grey": ("TIFF", plain("LAB", (128, 128, 128)), {}, (119, 119, 119), 2),
}
"""Format, image, save options, expected colour and tolerance."""


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_image_has_the_expected_colour(kind: str, tmp_path: Path) -> None:
    file_format, image, options, colour, tolerance = KINDS[kind]
    image.save(tmp_path / "a.image", file_format, **options)
    assert_plain(pixels_of(tmp_path / "a.image"), colour, tolerance)


@pytest.mark.parametrize("value", [0, 1, 128, 129, 257, 25700, 40000, 65535])
def test_sixteen_bit_grey_is_scaled_not_clipped(value: int, tmp_path: Path) -> None:
    grey(value, "uint16").save(tmp_path / "a.png")
    assert_plain(pixels_of(tmp_path / "a.png"), [round(value / 257)] * 3)


@pytest.mark.parametrize(
    ("value", "white", "expected"), [(100, 255, 100), (25700, 65535, 100), (500_000, 1_000_000, 128), (-5, 255, 0)]
)
def test_thirty_two_bit_grey_uses_the_smallest_common_white(
    value: int, white: int, expected: int, tmp_path: Path
) -> None:
    dark_with_white_row(value, "int32", white).save(tmp_path / "a.tif")
    assert_plain(pixels_of(tmp_path / "a.tif", size=8)[:6], [expected] * 3)


@pytest.mark.parametrize(
    ("value", "white", "expected"), [(0.5, 1.0, 128), (100.0, 255.0, 100), (25700.0, 65535.0, 100), (-1.0, 1.0, 0)]
)
def test_float_grey_uses_the_smallest_common_white(value: float, white: float, expected: int, tmp_path: Path) -> None:
    dark_with_white_row(value, "float32", white).save(tmp_path / "a.tif")
    assert_plain(pixels_of(tmp_path / "a.tif", size=8)[:6], [expected] * 3)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_float_pixel_that_is_not_finite_does_not_change_the_others(hole: float, tmp_path: Path) -> None:
    values = np.full((200, 24), 0.5, dtype="float32")
    values[-1] = hole
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert_plain(pixels_of(tmp_path / "a.tif", size=8)[:6], (128, 128, 128))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_of_several_is_read(suffix: str, tmp_path: Path) -> None:
    first, second = plain("RGB", RED), plain("RGB", BLUE)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], lossless=True)
    assert_plain(pixels_of(tmp_path / f"a.{suffix}"), RED)


def test_format_is_found_by_content_not_by_suffix(tmp_path: Path) -> None:
    plain("RGB", ORANGE).save(tmp_path / "a.jpg", "PNG")
    assert_plain(pixels_of(tmp_path / "a.jpg"), ORANGE)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_value_range_of_a_data_set_becomes_black_to_white(dtype: str, tmp_path: Path) -> None:
    grey(1051, dtype).save(tmp_path / "a.tif")
    value_range = ValueRange(integers=(1000.0, 1255.0), floats=(1000.0, 1255.0))
    assert_plain(read_pixels(tmp_path / "a.tif", 16, value_range=value_range), (51, 51, 51))
    with Image.open(tmp_path / "a.tif") as image:
        assert_plain(to_pixels(image, 16, value_range=value_range), (51, 51, 51))


def test_eight_bit_image_is_not_scaled_by_the_value_range(tmp_path: Path) -> None:
    plain("RGB", ORANGE).save(tmp_path / "a.png")
    assert_plain(read_pixels(tmp_path / "a.png", 16, value_range=ValueRange(integers=(0.0, 128.0))), ORANGE)


def test_image_scaled_by_its_own_values_says_which(tmp_path: Path) -> None:
    dark_with_white_row(300, "uint16", 400).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        decoded = decode(file, 8, value_range="own")
    assert decoded.levels == (300.0, 400.0, "integers")
    assert_plain(decoded.pixels[:6], (0, 0, 0))


def test_opened_image_has_the_pixels_of_its_file(tmp_path: Path) -> None:
    image = gradient(40, 30)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(to_pixels(image, 16), pixels_of(tmp_path / "a.png"))


# --- orientation -----------------------------------------------------------------------------------------------------

TOP_LEFT, TOP_RIGHT, BOTTOM_RIGHT, BOTTOM_LEFT = (0, 0), (0, -1), (-1, -1), (-1, 0)
ORIENTATIONS = {
    1: (TOP_LEFT, TOP_RIGHT),
    2: (TOP_RIGHT, TOP_LEFT),
    3: (BOTTOM_RIGHT, BOTTOM_LEFT),
    4: (BOTTOM_LEFT, BOTTOM_RIGHT),
    5: (TOP_LEFT, BOTTOM_LEFT),
    6: (TOP_RIGHT, BOTTOM_RIGHT),
    7: (BOTTOM_RIGHT, TOP_RIGHT),
    8: (BOTTOM_LEFT, TOP_LEFT),
}
"""Where the corners that are stored at the top left and at the top right are to be seen, by the EXIF standard."""


def save_turned(path: Path, orientation: int, **options: Any) -> None:
    """A wide JPEG, stored with red at the top left, green at the top right, and white elsewhere."""
    image = Image.new("RGB", (96, 48), "white")
    image.paste(RED, (0, 0, 24, 24))
    image.paste(GREEN, (72, 0, 96, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, quality=95, exif=exif, **options)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    save_turned(tmp_path / "a.jpg", orientation)
    pixels = pixels_of(tmp_path / "a.jpg", size=12)
    where_red, where_green = ORIENTATIONS[orientation]
    assert_plain(pixels[where_red], RED, tolerance=6)
    assert_plain(pixels[where_green], GREEN, tolerance=6)


def test_orientation_of_a_jpeg_of_several_images_is_applied(tmp_path: Path) -> None:
    save_turned(tmp_path / "a.jpg", 6, format="MPO", save_all=True, append_images=[plain("RGB", BLUE)])
    pixels = pixels_of(tmp_path / "a.jpg", size=12)
    where_red, where_green = ORIENTATIONS[6]
    assert_plain(pixels[where_red], RED, tolerance=6)
    assert_plain(pixels[where_green], GREEN, tolerance=6)


def test_orientation_is_applied_before_the_aspect_is_kept(tmp_path: Path) -> None:
    save_turned(tmp_path / "a.jpg", 6)
    pixels = pixels_of(tmp_path / "a.jpg", rule="letterbox")
    assert_plain(pixels[:, 0], (128, 128, 128))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_size_is_after_orientation_though_the_image_is_nearly_square(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (1008, 1001), ORANGE).save(tmp_path / "a.jpg", exif=exif)
    with (tmp_path / "a.jpg").open("rb") as file:
        decoded = decode(file, 32)
    assert (decoded.width, decoded.height) == ((1001, 1008) if orientation >= 5 else (1008, 1001))


def test_damaged_exif_block_does_not_affect_the_pixels(tmp_path: Path) -> None:
    plain("RGB", ORANGE).save(tmp_path / "a.jpg", quality=95, exif=b"Exif\0\0no such thing")
    assert_plain(pixels_of(tmp_path / "a.jpg"), ORANGE, tolerance=3)


# --- colour profiles -------------------------------------------------------------------------------------------------

SRGB_PRIMARIES = {"r": (0.4361, 0.2225, 0.0139), "g": (0.3851, 0.7169, 0.0971), "b": (0.1431, 0.0606, 0.7141)}
"""X, Y and Z of sRGB's red, green and blue under D50, as its own profile states them."""


def icc_profile(gamma: float, channels: str = "rgb") -> bytes:
    """A matrix profile with sRGB's primaries, `channels` naming those of its three channels in order."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    content = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
    for channel, primary in zip("rgb", channels, strict=True):
        content[f"{channel}XYZ".encode()] = xyz(*SRGB_PRIMARIES[primary])
        content[f"{channel}TRC".encode()] = curve
    table, body = struct.pack(">I", len(content)), b""
    start = 128 + 4 + 12 * len(content)
    for tag, value in content.items():
        table += tag + struct.pack(">II", start + len(body), len(value))
        body += value
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return header + bytes(128 - len(header)) + table + body


def test_colours_of_an_embedded_profile_are_converted_to_srgb(tmp_path: Path) -> None:
    plain("RGB", RED).save(tmp_path / "a.png", icc_profile=icc_profile(2.2, "grb"))
    assert_plain(pixels_of(tmp_path / "a.png"), GREEN, tolerance=3)


def test_brightness_of_a_linear_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    plain("RGB", (128, 128, 128)).save(tmp_path / "a.jpg", quality=95, icc_profile=icc_profile(1.0))
    assert_plain(pixels_of(tmp_path / "a.jpg"), (188, 188, 188), tolerance=2)


def test_profile_of_a_palette_image_is_applied(tmp_path: Path) -> None:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / "a.png", icc_profile=icc_profile(2.2, "grb"))
    assert_plain(pixels_of(tmp_path / "a.png"), GREEN, tolerance=3)


def test_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain("RGB", ORANGE).save(tmp_path / "a.png", icc_profile=profile)
    assert_plain(pixels_of(tmp_path / "a.png"), ORANGE, tolerance=1)


def test_profile_of_more_than_a_megabyte_is_applied(tmp_path: Path) -> None:
    profile = icc_profile(2.2, "grb") + np.random.default_rng(0).bytes(1_300_000)
    plain("RGB", RED).save(tmp_path / "a.png", icc_profile=struct.pack(">I", len(profile)) + profile[4:])
    assert_plain(pixels_of(tmp_path / "a.png"), GREEN, tolerance=3)


@pytest.mark.parametrize("damage", [b"damaged", icc_profile(1.0)[:200], bytes(500)], ids=["text", "cut", "zeros"])
def test_damaged_profile_is_ignored(damage: bytes, tmp_path: Path) -> None:
    plain("RGB", ORANGE).save(tmp_path / "a.png", icc_profile=damage)
    assert_plain(pixels_of(tmp_path / "a.png"), ORANGE)


def test_profile_of_another_colour_space_is_ignored(tmp_path: Path) -> None:
    plain("L", 100).save(tmp_path / "a.png", icc_profile=icc_profile(1.0))
    assert_plain(pixels_of(tmp_path / "a.png"), (100, 100, 100))


# --- how an image becomes a square ------------------------------------------------------------------------------------


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, and blue is fine detail."""
    rows, columns = np.mgrid[:height, :width]
    channels = (columns * 255 / (width - 1), rows * 255 / (height - 1), (rows + columns) % 7 * 40)
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def thirds() -> Image.Image:
    """An image of a red, a green and a blue square side by side."""
    image = Image.new("RGB", (90, 30), GREEN)
    image.paste(RED, (0, 0, 30, 30))
    image.paste(BLUE, (60, 0, 90, 30))
    return image


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of 1600 x 1200 pixels with detail of every size."""
    rng = np.random.default_rng(0)
    values = np.zeros((1200, 1600, 3))
    for cells in (4, 16, 64, 256):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        values += np.asarray(noise.resize((1600, 1200), Image.Resampling.BICUBIC), dtype=float) / 4
    path = tmp_path_factory.mktemp("photograph") / "a.jpg"
    Image.fromarray(values.astype(np.uint8)).save(path, quality=90)
    return path


def resized_in_full(path: Path, size: int) -> Pixels:
    """The pixels from a full decode."""
    with Image.open(path) as image:
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))


@pytest.mark.parametrize("size", [64, 160, 224])
def test_large_jpeg_is_close_to_a_full_decode(size: int, photograph: Path) -> None:
    expected = resized_in_full(photograph, size).astype(float)
    assert np.abs(pixels_of(photograph, size) - expected).mean() < 0.01 * 255


def test_large_jpeg_takes_less_time_than_a_full_decode(tmp_path: Path) -> None:
    thirds().resize((4000, 3000)).save(tmp_path / "a.jpg")
    spent: dict[Callable[[Path, int], object], list[float]] = {read_pixels: [], resized_in_full: []}
    for work in 5 * list(spent):  # in turns, and the shortest counts: other processes only ever add time
        started = time.thread_time()
        work(tmp_path / "a.jpg", 64)
        spent[work].append(time.thread_time() - started)
    assert min(spent[read_pixels]) < 0.5 * min(spent[resized_in_full])  # a fifth on a quiet machine


def test_squish_keeps_the_whole_image(tmp_path: Path) -> None:
    thirds().save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", size=30, rule="squish")
    for column, colour in ((3, RED), (15, GREEN), (26, BLUE)):
        assert_plain(pixels[:, column], colour)


def test_crop_keeps_the_centre(tmp_path: Path) -> None:
    thirds().save(tmp_path / "a.png")
    assert_plain(pixels_of(tmp_path / "a.png", size=30, rule="crop"), GREEN)


def test_letterbox_keeps_the_aspect_ratio_between_grey_bars(tmp_path: Path) -> None:
    thirds().save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", size=30, rule="letterbox")
    for bar in (pixels[:10], pixels[20:]):
        assert_plain(bar, (128, 128, 128))
    for start, colour in ((0, RED), (10, GREEN), (20, BLUE)):
        assert_plain(pixels[11:19, start + 2 : start + 8], colour, tolerance=12)


@pytest.mark.parametrize("rule", get_args(ResizeRule))
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_any_aspect_ratio_fits_the_square(shape: tuple[int, int], rule: ResizeRule, tmp_path: Path) -> None:
    Image.new("RGB", shape, RED).save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", size=7, rule=rule)
    assert pixels.shape == (7, 7, 3)
    assert_plain(pixels[3, 3], RED)


def test_small_image_is_enlarged(tmp_path: Path) -> None:
    gradient(8, 8).save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", size=64)
    assert pixels.shape == (64, 64, 3)
    assert (np.diff(pixels[:, :, 0].mean(axis=0)) >= 0).all()


# --- what gives no pixels --------------------------------------------------------------------------------------------


def encoded(file_format: str, image: Image.Image | None = None, **options: object) -> bytes:
    content = io.BytesIO()
    (image or gradient(40, 30)).save(content, file_format, **options)
    return content.getvalue()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_reason_of_half_a_file_is_truncated(file_format: str, tmp_path: Path) -> None:
    content = encoded(file_format, gradient(200, 200))
    (tmp_path / "a.img").write_bytes(content[: len(content) // 2])
    assert "truncated" in reason_of(tmp_path / "a.img")


def test_reason_of_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert reason_of(tmp_path / "a.jpg") == "empty file (0 bytes)"


def test_reason_of_a_missing_file(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "a.jpg") == "no such file or directory"


def test_text_with_an_image_suffix_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not an image\n")
    assert "not an image" in reason_of(tmp_path / "a.jpg")


def test_unsupported_format_is_not_an_image_that_labelr_reads(tmp_path: Path) -> None:
    plain("RGB", ORANGE).save(tmp_path / "a.jpg", "PCX")
    assert "format" in reason_of(tmp_path / "a.jpg")


def test_reason_of_too_many_pixels_has_both_numbers(tmp_path: Path) -> None:
    gradient(60, 50).save(tmp_path / "a.png")
    reason = reason_of(tmp_path / "a.png", max_pixels=2999)
    assert reason == "too large: 60 x 50 pixels, the limit is 2,999 pixels; `--max-pixels 3000` raises it"


def test_image_at_the_pixel_limit_is_read(tmp_path: Path) -> None:
    gradient(60, 50).save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png", 16, max_pixels=3000).shape == (16, 16, 3)


def test_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">2I5B", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT")
    assert "too large: 30000 x 30000 pixels" in reason_of(tmp_path / "a.png")


def test_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    reasons: list[str] = []
    reader = threading.Thread(target=lambda: reasons.append(reason_of(tmp_path / "a.jpg")), daemon=True)
    reader.start()
    reader.join(timeout=5)
    assert reasons == ["not a regular file"]


def test_folder_with_an_image_suffix_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    assert reason_of(tmp_path / "a.jpg") == "not a regular file"


def test_link_to_itself_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    assert "symbolic links" in reason_of(tmp_path / "a.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    gradient(8, 8).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    assert reason_of(tmp_path / "a.png") == "permission denied"


EXIF = Image.Exif()
EXIF[0x0112] = 6
SMALL_FILES = {
    "jpeg": encoded("JPEG", exif=EXIF),
    "jpeg_progressive": encoded("JPEG", progressive=True, icc_profile=icc_profile(1.0)),
    "png": encoded("PNG", icc_profile=icc_profile(1.0)),
    "png_palette": encoded("PNG", palette(), transparency=1),
    "webp": encoded("WEBP", exif=EXIF),
    "webp_lossless": encoded("WEBP", lossless=True),
    "gif": encoded("GIF", save_all=True, append_images=[plain("RGB", RED)]),
    "tiff": encoded("TIFF"),
    "tiff_lzw": encoded("TIFF", compression="tiff_lzw"),
    "bmp": encoded("BMP"),
    "avif": encoded("AVIF"),
}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(list(SMALL_FILES)),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    header_only=st.booleans(),
)
@example(kind="png", kept=1.0, changes=[], header_only=False)
@example(kind="tiff", kept=0.9, changes=[], header_only=False)
@example(kind="jpeg", kept=0.04, changes=[], header_only=False)
def test_damaged_file_gives_pixels_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    kept: float,
    changes: list[tuple[float, int]],
    header_only: bool,
) -> None:
    content = bytearray(SMALL_FILES[kind])
    del content[round(len(content) * kept) :]
    for place, value in changes:
        end = min(len(content), 64) if header_only else len(content)
        if end:
            content[int(place * (end - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content)
    started = time.process_time()
    try:
        result: Pixels | str = read_pixels(path, 16, max_pixels=10_000_000)
    except UnreadableError as error:
        result = str(error)
    assert result.strip() if isinstance(result, str) else result.shape == (16, 16, 3)
    assert time.process_time() - started < cpu_limit(1)
    assert path.read_bytes() == content


NAMES = ("a\nb.jpg", 'it\'s "q".jpg', "[a-z]*?.jpg", "=1+1.jpg", "-rf.jpg", "UPPER.JPG", " b .jpeg", "日本.png")


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"caf\xe9.jpg")], ids=ascii)
def test_any_name_is_found_and_read(name: str, tmp_path: Path) -> None:
    try:
        plain("RGB", ORANGE).save(tmp_path / name, "PNG")
    except OSError:
        pytest.skip("this file system refuses the name")
    paths = list(find_images(tmp_path))
    assert [path.name for path in paths] == [name]
    assert_plain(pixels_of(paths[0]), ORANGE)


def test_link_to_itself_is_found_and_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    (path,) = find_images(tmp_path)
    assert "symbolic links" in reason_of(path)


# A HEIC file of 64 x 64 pixels, the left half red and the right half blue.
HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABegABAAAAAAAAAC4AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAA"
    "AAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkA"
    "AAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAA"
    "QAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAADZtZGF0AAAAKigBrwngIzaiP//70X3//tzHof61tLSf/62DH3+pLB"
    "//yCsdWPSv/7f/4A=="
)


@pytest.fixture
def heic(tmp_path: Path) -> Path:
    path = tmp_path / "photo.HEIC"
    path.write_bytes(base64.b64decode(HEIC))
    return path


def test_heic_opens_with_its_decoder(heic: Path) -> None:
    pixels = read_pixels(heic, 8)
    np.testing.assert_allclose(pixels[:, :3], np.broadcast_to([255, 0, 0], (8, 3, 3)), atol=4)
    np.testing.assert_allclose(pixels[:, 5:], np.broadcast_to([0, 0, 255], (8, 3, 3)), atol=4)


def test_heic_without_its_decoder_names_the_command_that_installs_it(heic: Path) -> None:
    code = (
        "import sys\nsys.modules['pi_heif'] = None\nfrom pathlib import Path\n"
        "from labelr.data.images import UnreadableError, read_pixels\n"
        "try:\n    read_pixels(Path(sys.argv[1]), 8)\nexcept UnreadableError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, heic], capture_output=True, text=True, check=True)
    assert done.stdout == "a HEIC image, for which the decoder is missing: `pip install 'labelr[heif]'`\n"


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 100), (24, 72)), ((100, 300), (72, 24)), ((10, 10), (72, 72)), ((900, 2), (1, 72))]
)
def test_thumbnail_keeps_the_aspect_ratio_without_bars(
    size: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    pixels = read_thumbnail(tmp_path / "a.png", 72)
    assert pixels.shape == (*expected, 3)
    assert (pixels == (255, 0, 0)).all()


def test_thumbnail_of_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no such file or directory"):
        read_thumbnail(tmp_path / "gone.png", 72)


def test_images_of_browsers_and_cameras_open() -> None:
    pytest.importorskip("pi_heif")
    for path in find_images(case("jfif-hif-skipped") / "inbox"):
        assert pixels_of(path).shape == (16, 16, 3)


# --- frames ----------------------------------------------------------------------------------------------------------


def animation(path: Path, colours: Sequence[Colour] = (RED, GREEN, BLUE)) -> Path:
    first, *others = (plain("RGB", colour) for colour in colours)
    first.save(path, save_all=True, append_images=others, lossless=True)
    return path


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_frames_after_the_first_are_counted_and_not_read(ending: str, tmp_path: Path) -> None:
    with animation(tmp_path / f"a.{ending}").open("rb") as file:
        decoded = decode(file, 16)
    assert decoded.pages == 2
    assert_plain(decoded.pixels, RED, tolerance=1)


def test_image_without_frames_has_no_pages(tmp_path: Path) -> None:
    for ending in ("gif", "webp", "png", "jpg", "tif"):
        plain("RGB", RED).save(tmp_path / f"a.{ending}")
        with (tmp_path / f"a.{ending}").open("rb") as file:
            assert decode(file, 16).pages == 0


def test_animation_that_is_cut_off_in_a_later_frame_opens(tmp_path: Path) -> None:
    content = animation(tmp_path / "a.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(content[:-10])
    assert_plain(pixels_of(tmp_path / "cut.gif"), RED, tolerance=1)
