"""Resizes images to squares, in strips of rows: what is converted first is never copied at full size."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from labelr.config import ResizeRule

Pixels = NDArray[np.uint8]
"""One RGB image, ``(S, S, 3)``; thumbnails are ``(H, W, 3)``."""
Box = tuple[float, float, float, float]

STRIP_PIXELS = 2**19
"""The pixels of a strip, at least one row: few enough that its copies stay in the cache of a processor."""
REDUCING_GAP = 3.0
"""The ratio of an image's size to that of the square down to which it is averaged over blocks before the resize."""
BICUBIC_SUPPORT = 1.5
"""How far beyond the box Pillow's bicubic filter reaches, in pixels of the square."""
ENLARGING_SUPPORT = 2.0
"""How far it reaches at least, in pixels of the image."""
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image is set upright, by its EXIF orientation."""


class Strips(NamedTuple):
    """An image that is read in strips.

    Attributes:
        size: Width and height in pixels.
        read: The rows from one up to another, at full width, in mode L, RGB or CMYK.
    """

    size: tuple[int, int]
    read: Callable[[int, int], Image.Image]


def rows_of_strips(size: tuple[int, int], top: int = 0, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """The first row and the end of each strip of an image from row `top` on; its height is a multiple of `multiple`."""
    width, height = size
    rows = multiple * max(1, STRIP_PIXELS // (width * multiple))
    return ((start, min(start + rows, height)) for start in range(top, height, rows))


def in_plain_mode(image: Image.Image) -> Image.Image | Strips:
    """The image in mode L, RGB or CMYK: palettes applied, transparency over white."""
    if image.mode in ("L", "RGB", "CMYK") and not image.has_transparency_data:
        return image
    return Strips(image.size, lambda top, end: to_plain_mode(image.crop((0, top, image.width, end))))


def to_plain_mode(image: Image.Image) -> Image.Image:
    """A copy of the image in mode L, RGB or CMYK: palettes applied, transparency over white."""
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def to_square(
    image: Image.Image | Strips, size: int, rule: ResizeRule, *, orientation: int = 1, profile: bytes | None = None
) -> Pixels:
    """The pixels of an image, shape ``(S, S, 3)``, sRGB.

    Args:
        image: In mode L, RGB or CMYK.
        size: S.
        rule: How a rectangle becomes a square.
        orientation: The EXIF orientation that is still to be applied.
        profile: Its ICC profile; one that is damaged or of another colour space is ignored.
    """
    resized = _to_srgb(_resize(image, size, rule), profile)
    if orientation in TRANSPOSE:
        resized = resized.transpose(TRANSPOSE[orientation])
    if resized.size == (size, size):
        return np.asarray(resized)
    square = Image.new("RGB", (size, size), "gray")
    square.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
    return np.asarray(square)


def _resize(image: Image.Image | Strips, size: int, rule: ResizeRule) -> Image.Image:
    """The image resized with antialiasing to a square of edge `size`; for ``"letterbox"`` one edge may be shorter."""
    width, height = image.size
    target, box = (size, size), (0.0, 0.0, float(width), float(height))
    if rule == "letterbox":
        scale = size / max(image.size)
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
    elif rule == "crop":
        edge = min(image.size)
        left, top = (width - edge) / 2, (height - edge) / 2
        box = (left, top, left + edge, top + edge)
    if isinstance(image, Strips):
        image, box = _reduce(image, target, box)
    return image.resize(target, Image.Resampling.BICUBIC, box, reducing_gap=REDUCING_GAP)


def _reduce(strips: Strips, target: tuple[int, int], box: Box) -> tuple[Image.Image, Box]:
    """The part of an image that is resized, and the box in it, as `Image.resize` reduces a whole image."""
    scale_x, scale_y = (box[2] - box[0]) / target[0], (box[3] - box[1]) / target[1]
    factor_x, factor_y = (max(1, int(scale / REDUCING_GAP)) for scale in (scale_x, scale_y))
    support_x, support_y = (max(BICUBIC_SUPPORT * scale, ENLARGING_SUPPORT) for scale in (scale_x, scale_y))
    left, top = max(0, int(box[0] - support_x)), max(0, int(box[1] - support_y))
    right = min(strips.size[0], math.ceil(box[2] + support_x))
    bottom = min(strips.size[1], math.ceil(box[3] + support_y))
    parts = [
        (start, strips.read(start, end).reduce((factor_x, factor_y), (left, 0, right, end - start)))
        for start, end in rows_of_strips((strips.size[0], bottom), top, factor_y)
    ]
    reduced = Image.new(parts[0][1].mode, (parts[0][1].width, math.ceil((bottom - top) / factor_y)))
    for start, part in parts:
        reduced.paste(part, (0, (start - top) // factor_y))
    x0, x1 = ((x - left) / factor_x for x in (box[0], box[2]))
    y0, y1 = ((y - top) / factor_y for y in (box[1], box[3]))
    return reduced, (x0, y0, x1, y1)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in mode RGB, converted to sRGB if it has an ICC profile."""
    transform = _profile_transform(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    converted = Image.new("RGB", image.size)
    transform.apply(image, converted)
    return converted


@lru_cache(maxsize=32)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion from an ICC profile to sRGB; None if the profile is damaged or of another colour space."""
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
