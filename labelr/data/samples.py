"""Reads from image files what Pillow alone would lose or refuse.

That is the low byte of colours of 16 bits, TIFF files of many bands, and PNG files whose metadata is damaged or huge.
"""

import logging
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

# Pillow's own limit holds for the whole process too, and its 1 MB refuse the profiles of many printers and scanners.
PngImagePlugin.MAX_TEXT_CHUNK = 2**24

PNG_HEAD = b"\x89PNG"
TIFF_HEADS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})

PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""The chunks of a PNG file that its pixels depend on."""
COLOUR_CHUNKS = frozenset({b"iCCP", b"eXIf"})
"""Colour profile and orientation."""

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL, PLANAR, EXTRA_SAMPLES, NODATA = 258, 262, 277, 284, 338, 42113
"""Tags of TIFF."""
RGB, SEPARATE_PLANES, UNASSOCIATED_ALPHA = 2, 2, 2
"""Values of these tags."""
MAX_BYTES_PER_PIXEL = 8
"""Of the largest image; more bands are allowed in smaller ones."""

EXPORT = "`gdal_translate -b 3 -b 2 -b 1 IN.tif OUT.tif`"
NO_ALPHA = ", since the fourth, declared as transparency, is hardly anywhere opaque"
_OTHER_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

# both log damage that their exceptions tell as well; without a handler it would be printed
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Samples(NamedTuple):
    """The samples of an image as they are stored.

    Attributes:
        values: Grey or RGB, shape ``(H, W)`` or ``(H, W, 3)``: uint8, integers of more bits, or floats.
        alpha: The opacity from 0 to 255, shape ``(H, W)``; None for an opaque image.
        nodata: The value of pixels that were not measured; None if there is none.
        mode: The pixel mode in the manner of Pillow, such as ``RGB;16``.
        note: What is not used of the file, for the user; empty if all is used.
        orientation: The EXIF orientation that is still to be applied.
    """

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    nodata: float | None = None
    mode: str = ""
    note: str = ""
    orientation: int = 1


class BandsError(Exception):
    """A file whose bands cannot be read as an image; its text is the reason and what to do."""


# --- PNG -------------------------------------------------------------------------------------------------------------


def without_metadata(file: IO[bytes]) -> bytes:
    """A PNG file without its metadata, except a sound colour profile and orientation."""
    file.seek(0)
    png = file.read()
    return png[:8] + b"".join(chunk for chunk in _chunks(png) if _is_wanted(chunk))


def _chunks(png: bytes) -> Iterator[bytes]:
    start = 8
    while start + 12 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        yield png[start:end]
        start = end


def _is_wanted(chunk: bytes) -> bool:
    name = chunk[4:8]
    if name not in COLOUR_CHUNKS:
        return name in PIXEL_CHUNKS
    if struct.pack(">I", zlib.crc32(chunk[4:-4])) != chunk[-4:]:
        return False
    return name == b"eXIf" or _is_sound_profile(chunk[8:-4].partition(b"\0")[2])


def _is_sound_profile(content: bytes) -> bool:
    """Whether a profile, a byte for the method before it, can be unpacked and is not huge."""
    profile = zlib.decompressobj()
    try:
        profile.decompress(content[1:], PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return content.startswith(b"\0") and not profile.unconsumed_tail


# --- 16 bits a sample ------------------------------------------------------------------------------------------------


def read_deep(image: Image.Image, reopen: Callable[[], Image.Image]) -> Samples | None:
    """The samples of an image that is opened and not loaded yet, if it has more than 8 bits; else None.

    Pillow keeps the high byte of colours of 16 bits only. With the other byte order in the name of the raw mode it
    reads the low byte, so the file is decoded twice.

    Args:
        image: From Pillow.
        reopen: Opens the same file again.
    """
    nodata = _as_number(getattr(image, "tag_v2", {}).get(NODATA))
    if image.mode.startswith("I") or image.mode == "F":
        image.load()
        values = np.asarray(image)
        return Samples(values, _opacity(image, values), nodata, image.mode)
    raw = _raw_mode(image)
    if raw == "LA;16B":  # grey with transparency, for which Pillow has no second byte order: four bytes a pixel
        octets = _load(image, "RGBA").astype(np.uint16)
        return Samples(octets[..., 0] << 8 | octets[..., 1], octets[..., 2].astype(np.uint8), mode="LA;16")
    if raw[:-1] not in ("RGB;16", "RGBX;16", "RGBA;16"):
        return None
    high, low = _load(image, raw), _load(reopen(), raw[:-1] + _OTHER_BYTES[raw[-1]])
    values = high.astype(np.uint16) << 8 | low
    colours, mode = values[..., :3], f"{image.mode};16"
    if values.shape[-1] == 3:
        return Samples(colours, _opacity(image, colours), nodata, mode, unused_bands(image))
    note = unused_bands(image, values[..., 3])
    return Samples(colours, None if note else high[..., 3], nodata, mode, note)


def _opacity(image: Image.Image, values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The opacity of an image of which one value or colour is transparent, shape ``(H, W)``; None for another image."""
    transparent = image.info.get("transparency")
    if transparent is None:
        return None
    differs = values != np.array(transparent)
    return np.where(differs.any(axis=-1) if values.ndim == 3 else differs, 255, 0).astype(np.uint8)


def _raw_mode(image: Image.Image) -> str:
    if not image.tile:  # type: ignore[attr-defined]
        return ""
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    return str(arguments if isinstance(arguments, str) else arguments[0])


def _load(image: Image.Image, raw_mode: str) -> NDArray[np.uint8]:
    """The bytes of an image, shape ``(H, W, C)``, that Pillow reads in a raw mode."""
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    image.load()
    return np.asarray(image)


# --- TIFF ------------------------------------------------------------------------------------------------------------


def is_planar(image: Image.Image) -> bool:
    """Whether the bands of a TIFF file of more than 8 bits are stored one after another, which Pillow misreads."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(PLANAR) == SEPARATE_PLANES and max(tags.get(BITS_PER_SAMPLE, (8,))) > 8


def unused_bands(image: Image.Image, alpha: NDArray[Any] | None = None) -> str:
    """Which bands of a TIFF file opened by Pillow are not used, for the user; empty if all are.

    Args:
        image: From Pillow.
        alpha: The band that is declared as transparency, shape ``(H, W)``; None if there is none.
    """
    tags = getattr(image, "tag_v2", {})
    bands = tags.get(SAMPLES_PER_PIXEL, 1)
    if tags.get(PHOTOMETRIC) != RGB:
        return ""
    if alpha is None:
        return _describe_unused(bands, 3)
    declared = (tags.get(EXTRA_SAMPLES) or (UNASSOCIATED_ALPHA,))[0] == UNASSOCIATED_ALPHA
    return _describe_unused(bands, 3, NO_ALPHA) if declared and not is_transparency(alpha) else ""


def is_transparency(alpha: NDArray[Any]) -> bool:
    """Whether a band, shape ``(H, W)``, is plausible as transparency: where it is not 0, it is mostly opaque or even.

    GDAL declares the fourth of four bands as transparency unless it is told otherwise, and it often is near infrared.
    """
    seen = alpha[alpha > 0]
    return not seen.size or bool((seen == _opaque(alpha.dtype)).mean() >= 0.5 or (seen == seen[0]).all())


def _opaque(kind: np.dtype[Any]) -> float:
    return float(np.iinfo(kind).max) if kind.kind in "ui" else 1.0


def _describe_unused(bands: int, used: int, reason: str = "") -> str:
    if bands <= used:
        return ""
    how = (
        "first three of {} bands are read as red, green and blue" if used == 3 else "first of {} bands is read as grey"
    )
    return f"the {how.format(bands)}{reason}; to use others, export three first, such as with {EXPORT}"


def read_tiff(file: IO[bytes], max_pixels: int) -> Samples:
    """The samples of a TIFF file that Pillow does not open: of the first three bands, or of the first of two.

    Raises:
        BandsError: If the file cannot be read as an image.
        Exception: Nearly any, if it is damaged.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        bands, kind = page.samplesperpixel, page.dtype
        described = f"{bands} band{'s' if bands > 1 else ''} of {kind}"
        if page.imagewidth * page.imagelength > max_pixels or page.nbytes > MAX_BYTES_PER_PIXEL * max_pixels:
            raise BandsError(
                f"too large: {page.imagewidth} x {page.imagelength} pixels, {described}; "
                f"the limit is {max_pixels:,} pixels and {MAX_BYTES_PER_PIXEL * max_pixels:,} bytes"
            )
        if kind is None or kind.kind not in "uif" or page.imagedepth > 1 or page.photometric not in (0, 1, 2):
            raise BandsError(f"{described} cannot be read as an image: export three of them, such as with {EXPORT}")
        try:
            values = page.asarray(maxworkers=1)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            method = tifffile.COMPRESSION(page.compression).name
            raise BandsError(
                f"{described}, compressed with {method}: the decoder is missing: `pip install 'labelr[tiff]'`"
            ) from error
        if bands > 1 and page.planarconfig == SEPARATE_PLANES:
            values = np.moveaxis(values, 0, -1)
        tags = {tag.code: tag.value for tag in page.tags}
    return _select_bands(values.reshape(*values.shape[:2], bands), tags)


def _select_bands(values: NDArray[Any], tags: dict[int, Any]) -> Samples:
    """The bands, shape ``(H, W, C)``, that are read as grey or colour, and transparency."""
    bands = values.shape[-1]
    used = 3 if bands >= 3 else 1
    extra = tags.get(EXTRA_SAMPLES, ())
    declared = (extra if isinstance(extra, tuple) else (extra,))[:1] == (UNASSOCIATED_ALPHA,)
    alpha, note = None, _describe_unused(bands, used, NO_ALPHA if declared and used == 3 else "")
    if declared and is_transparency(values[..., used]):
        opaque = _opaque(values.dtype)
        alpha = np.rint(values[..., used].clip(0, opaque) * (255 / opaque)).astype(np.uint8)
        note = _describe_unused(bands - 1, used)
    chosen = values[..., :3] if used == 3 else values[..., 0]
    mode = f"{bands} x {values.dtype.name}"
    return Samples(chosen, alpha, _as_number(tags.get(NODATA)), mode, note, int(tags.get(274, 1)))


def _as_number(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None
