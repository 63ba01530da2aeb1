"""Images that are converted in strips become the same squares as when they are converted in full."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
from PIL import Image

from labelr.config import ResizeRule
from labelr.data.images import Pixels, read_pixels
from labelr.data.strips import STRIP_PIXELS, rows_of_strips
from labelr.data.value_range import ValueRange

WIDTH, HEIGHT = 1100, 701
"""More than a strip, and no multiple of the blocks over which an image is reduced."""
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
DETAIL = np.asarray(Image.fromarray(NOISE[:70, :110]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def in_full(image: Image.Image, size: int, rule: ResizeRule, gap: float | None = 3.0) -> Pixels:
    """An opaque image resized by Pillow in one piece."""
    target, box = (size, size), None
    if rule == "letterbox":
        target = (size, round(HEIGHT * size / WIDTH))
    elif rule == "crop":
        left = (WIDTH - HEIGHT) / 2
        box = (left, 0.0, left + HEIGHT, float(HEIGHT))
    resized = image.resize(target, Image.Resampling.BICUBIC, box, reducing_gap=gap).convert("RGB")
    square = Image.new("RGB", (size, size), "gray")
    square.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
    return np.asarray(square)


def over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def test_strips_cover_all_rows_in_multiples() -> None:
    strips = list(rows_of_strips((1000, 2001), 3, 7))
    assert [end for _, end in strips[:-1]] == [start for start, _ in strips[1:]]
    assert (strips[0][0], strips[-1][1]) == (3, 2001)
    assert all((end - start) % 7 == 0 and (end - start) * 1000 <= STRIP_PIXELS for start, end in strips[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("rule", get_args(ResizeRule))
@pytest.mark.parametrize("size", [16, 150], ids=["reduced", "not reduced"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_image_is_the_same_as_composited_in_full(
    mode: str, size: int, rule: ResizeRule, tmp_path: Path
) -> None:
    image, options = Image.fromarray(DETAIL), dict[str, Any]()
    if mode == "P":
        image, options = image.convert("RGB").quantize(64), {"transparency": bytes(range(0, 256, 4))}
    image.convert(mode).save(tmp_path / "a.png", compress_level=1, **options)
    with Image.open(tmp_path / "a.png") as saved:
        expected = in_full(over_white(saved), size, rule)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png", size, rule=rule), expected)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("shape", [(), (3,)], ids=["grey", "colour"])
def test_deep_image_is_the_same_as_scaled_in_full(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    plain = DETAIL[..., :3] if shape else DETAIL[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", plain.astype(dtype) + 1000, photometric="rgb" if shape else "minisblack")
    value_range = ValueRange(integers=(1000.0, 1255.0), floats=(1000.0, 1255.0))
    pixels = read_pixels(tmp_path / "a.tif", 16, value_range=value_range)
    np.testing.assert_array_equal(pixels, in_full(Image.fromarray(plain), 16, "squish"))


@pytest.mark.parametrize("rule", get_args(ResizeRule))
@pytest.mark.parametrize("orientation", [2, 5, 6])
def test_image_that_is_turned_after_the_resize_is_as_if_turned_before(
    orientation: int, rule: ResizeRule, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(DETAIL[..., :3])
    image.save(tmp_path / "turned.png", exif=exif, compress_level=1)
    how = {2: Image.Transpose.FLIP_LEFT_RIGHT, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270}
    image.transpose(how[orientation]).save(tmp_path / "before.png", compress_level=1)
    after, before = (
        read_pixels(tmp_path / f"{name}.png", 50, rule=rule).astype(float) for name in ("turned", "before")
    )
    exact = np.asarray(Image.fromarray(in_full(image, 50, rule, gap=None)).transpose(how[orientation]))
    # they differ in where the blocks begin over which an image is averaged first, and are as close to the exact pixels
    assert np.abs(after - exact).mean() < 1.05 * np.abs(before - exact).mean() + 0.01 < 3


@pytest.mark.parametrize("rule", get_args(ResizeRule))
def test_small_transparent_image_is_enlarged_as_an_opaque_one(rule: ResizeRule, tmp_path: Path) -> None:
    image = Image.fromarray(NOISE[:30, :48, :3])
    image.save(tmp_path / "rgb.png")
    image.convert("RGBA").save(tmp_path / "rgba.png")
    expected, found = (read_pixels(tmp_path / name, 224, rule=rule) for name in ("rgb.png", "rgba.png"))
    np.testing.assert_array_equal(found, expected)
