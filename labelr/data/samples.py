"""Reads the samples of image files that Pillow alone would lose, misread or refuse.

Those are colours of more than 8 bits (of JPEG 2000 in `jpeg2000`), and TIFF files of signed or large integers, with
bands that are neither colour nor transparency, with reversed grey, or with pixels that were not measured.
"""

import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelr.data.budget import Reservation, check_tiles
from labelr.data.strips import rows_of_strips
from labelr.errors import LabelrError, pluralize

TIFF_HEADS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})

BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, SAMPLES_PER_PIXEL, PLANAR = 258, 262, 274, 277, 284
EXTRA_SAMPLES, SAMPLE_FORMAT, NODATA = 338, 339, 42113
TAGS = {BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, SAMPLES_PER_PIXEL, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT, NODATA}
"""Tags of TIFF."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
SEPARATE_PLANES = 2
UNSIGNED, SIGNED = 1, 2
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA, COREL_ALPHA = 1, 2, 999
"""Values of these tags. The colours of associated alpha are multiplied by it."""
ABOVE_ALPHA = 0.01
"""The share of colours that may be above the alpha they are multiplied by, from resampling."""

EXPORT = "`gdal_translate -b 3 -b 2 -b 1 IN.tif OUT.tif`"
EXPORT_ONE = "`gdal_translate -b 2 IN.tif OUT.tif`"
INSTALL = "the decoder is missing: `pip install 'labelr[tiff]'`"
_OTHER_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

# both log damage that their exceptions tell as well; without a handler it would be printed
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("tifffile").addHandler(logging.NullHandler())


Reader = Callable[[int, int], NDArray[Any]]
"""Gives the rows of an image from one up to another, shape ``(H, W)`` or ``(H, W, C)``."""


class Rows(NamedTuple):
    """Some rows of an image.

    Attributes:
        values: Grey or RGB, shape ``(H, W)`` or ``(H, W, 3)``: uint8, other integers, or floats.
        alpha: The opacity from 0 to 255, shape ``(H, W)``; None for an opaque image.
    """

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None


class Samples(NamedTuple):
    """The samples of an image as they are stored.

    Attributes:
        size: Width and height in pixels.
        read: The rows from one up to another: no copy of all of them is made.
        nodata: The value of pixels that were not measured; None if there is none.
        mode: The pixel mode in the manner of Pillow, such as ``RGB;16``.
        note: What is not used of the file, for the user; empty if all is used.
        orientation: The EXIF orientation that is still to be applied.
        is_negative: Whether the lowest value is white.
    """

    size: tuple[int, int]
    read: Callable[[int, int], Rows]
    nodata: float | None = None
    mode: str = ""
    note: str = ""
    orientation: int = 1
    is_negative: bool = False

    @property
    def kind(self) -> np.dtype[Any]:
        """The type of the values."""
        return self.read(0, 1).values.dtype

    def strips(self, multiple: int = 1) -> Iterable[Rows]:
        """All rows in strips, whose heights but the last are multiples of a number."""
        return (self.read(top, end) for top, end in rows_of_strips(self.size, multiple=multiple))


class BandsError(Exception):
    """A file whose bands cannot be read as an image; its text is the reason and what to do."""


# --- opened by Pillow ------------------------------------------------------------------------------------------------


def read_samples(image: Image.Image, reopen: Callable[[], Image.Image]) -> Samples | None:
    """The samples of an image that is opened and not loaded yet; None if Pillow alone reads it right.

    Pillow keeps the high byte of colours of 16 bits only. With the other byte order in the name of the raw mode it
    reads the low byte, so the file is decoded twice: `reopen` opens it again.
    """
    tags, raw = _tags(image), _raw_mode(image)
    if raw == "LA;16B":  # grey with transparency, for which Pillow has no second byte order: four bytes a pixel
        octets = _load(image, "RGBA")
        return Samples(image.size, lambda top, end: _grey_of_octets(octets(top, end)), mode="LA;16")
    is_deep = is_read_twice(image)
    # Pillow divides the colours by associated alpha itself, with 8 bits, whether or not it is transparency
    raw = raw.replace("RGBa", "RGBA")
    if is_deep:
        high, low = _load(image, raw), _load(reopen(), raw[:-1] + _OTHER_BYTES[raw[-1]])

        def read(top: int, end: int) -> NDArray[Any]:
            return high(top, end).astype(np.uint16) << 8 | low(top, end)

        mode = f"{image.mode};16"
        if tags:
            return _select_bands(read, image.size, tags, mode)
        return Samples(image.size, lambda top, end: _deep_colours(image, read(top, end)), mode=mode)
    if _needs_bands(image.mode, tags):
        return _select_bands(_load(image, raw), image.size, tags, image.mode)
    return samples_of(image)


def is_read_twice(image: Image.Image) -> bool:
    """Whether `read_samples` decodes an opened image twice, since its colours have 16 bits."""
    return _raw_mode(image)[:-1] in ("RGB;16", "RGBX;16", "RGBA;16", "RGBa;16")


def _grey_of_octets(octets: NDArray[np.uint8]) -> Rows:
    deep = octets.astype(np.uint16)
    return Rows(deep[..., 0] << 8 | deep[..., 1], octets[..., 2])


def _deep_colours(image: Image.Image, values: NDArray[Any]) -> Rows:
    colours = values[..., :3]
    return Rows(colours, (values[..., 3] >> 8).astype(np.uint8) if values.shape[-1] == 4 else _opacity(image, colours))


def samples_of(image: Image.Image) -> Samples | None:
    """The samples of an image of one band that Pillow may have loaded already; None if Pillow alone reads it right."""
    tags = _tags(image)
    is_signed_byte = image.mode == "L" and _first(tags, SAMPLE_FORMAT, UNSIGNED) == SIGNED
    if not (image.mode.startswith("I") or image.mode == "F" or is_signed_byte):
        return None
    tiles = getattr(image, "tile", ())  # empty once it is loaded
    if tiles and tiles[0].codec_name == "libtiff":
        # it swaps the bytes of compressed files, which Pillow knows for unsigned integers only
        _load(image, re.sub(r"(?<=\d)B(?=[SF])", "N", _raw_mode(image)))
    rows, mode = _rows_of(image), image.mode
    kind: type[np.integer[Any]] | None = None
    if is_signed_byte:
        mode, kind = "1 x int8", np.int8
    elif mode == "I" and _first(tags, BITS_PER_SAMPLE) == 32 and _first(tags, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED:
        mode, kind = "1 x uint32", np.uint32

    def read(top: int, end: int) -> Rows:
        values = rows(top, end) if kind is None else rows(top, end).view(kind)
        return Rows(values, _opacity(image, values))

    image.load()
    return Samples(image.size, read, _nodata(tags), mode, is_negative=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)


def samples_of_array(array: NDArray[Any]) -> Samples:
    """The samples of an array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)``, or ``(H, W, 4)`` with transparency.

    Raises:
        LabelrError: If it has another shape, or does not hold real numbers.
    """
    shape = array.shape
    if array.dtype.kind not in "buif":
        raise LabelrError(f"cannot use an array of {array.dtype} as an image", "pass integers or floats")
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise LabelrError(
            f"expected an image of shape (H, W), (H, W, 3) or (H, W, 4), got {shape}", _hint_on_shape(shape)
        )
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    size = (shape[1], shape[0])
    if array.ndim == 2 or shape[2] == 1:
        grey = array.reshape(shape[:2])
        return Samples(size, lambda top, end: Rows(grey[top:end]))
    colours, alpha = array[..., :3], array[..., 3] if shape[2] == 4 and is_transparency([array[..., 3]]) else None
    return Samples(size, lambda top, end: Rows(colours[top:end], None if alpha is None else _as_bytes(alpha[top:end])))


def _hint_on_shape(shape: tuple[int, ...]) -> str:
    if len(shape) != 3 or 0 in shape:
        return ""
    if shape[0] in (1, 3, 4):
        return "move the channels to the end: `array.transpose(1, 2, 0)`"
    return "choose bands, such as one with `array[..., 0]`, or three with `array[..., [2, 1, 0]]`"


def is_misread(image: Image.Image) -> bool:
    """Whether Pillow opens a TIFF file that it then misreads, refuses, or prints messages about."""
    tags = _tags(image)
    if image.mode == "La" or image.info.get("compression") == "webp":  # libtiff prints that it lacks the decoder
        return True
    if tags.get(PLANAR) != SEPARATE_PLANES or tags.get(SAMPLES_PER_PIXEL, 1) == 1:
        return False
    has_alpha = ASSOCIATED_ALPHA in _extra_samples(tags) or image.mode.startswith("L")
    return max(tags.get(BITS_PER_SAMPLE, (8,))) > 8 or has_alpha


def without_false_alpha(image: Image.Image) -> Image.Image:
    """A TIFF image of 8 bits that Pillow has loaded, in mode RGB if its fourth band cannot be transparency."""
    if image.format != "TIFF" or image.mode != "RGBA" or is_transparency([np.asarray(image.getchannel("A"))]):
        return image
    return image.convert("RGB")


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF file that Pillow opened; none for other formats."""
    return getattr(image, "tag_v2", {})


def _first(tags: Mapping[int, Any], tag: int, default: int = 0) -> int:
    value = tags.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def unused_bands(image: Image.Image) -> str:
    """Which bands of an image that Pillow alone reads right are not used, for the user; empty if all are."""
    tags = _tags(image)
    used = {BLACK_IS_ZERO: 1, RGB: 3}.get(tags.get(PHOTOMETRIC, -1))
    return _describe_unused(tags.get(SAMPLES_PER_PIXEL, 1), used, None, is_used=False) if used else ""


def _needs_bands(mode: str, tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF file of 8 bits declares transparency, which may be none, or pixels that were not measured."""
    if tags.get(PHOTOMETRIC) not in (BLACK_IS_ZERO, RGB) or mode not in ("L", "LA", "RGB", "RGBA"):
        return False
    if max(tags.get(BITS_PER_SAMPLE, (8,))) != 8 or _first(tags, SAMPLE_FORMAT, UNSIGNED) != UNSIGNED:
        return False
    return _alpha_position(tags) is not None or NODATA in tags


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


def _load(image: Image.Image, raw_mode: str) -> Reader:
    """The rows of an image that Pillow reads in a raw mode."""
    if raw_mode != _raw_mode(image):
        image.tile = [  # type: ignore[attr-defined]
            tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
            for tile in image.tile  # type: ignore[attr-defined]
        ]
    image.load()
    return _rows_of(image)


def _rows_of(image: Image.Image) -> Reader:
    return lambda top, end: np.asarray(image.crop((0, top, image.width, end)))


# --- TIFF ------------------------------------------------------------------------------------------------------------


def is_transparency(parts: Iterable[NDArray[Any]]) -> bool:
    """Whether a band, in parts, is plausible as transparency: where it is not 0, it is mostly opaque or even.

    GDAL declares the fourth of four bands as transparency unless it is told otherwise, and it often is near infrared.
    """
    seen, opaque, low, high = 0, 0, math.inf, -math.inf
    for part in parts:
        values = part[part > 0]
        if values.size:
            seen += values.size
            opaque += int(np.count_nonzero(values == _opaque(part.dtype)))
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return opaque >= seen / 2 or low == high


def _opaque(kind: np.dtype[Any]) -> float:
    return float(np.iinfo(kind).max) if kind.kind in "ui" else 1.0


def read_tiff(file: IO[bytes], memory: Reservation) -> Samples:
    """The samples of a TIFF file that Pillow does not open: of the first three bands, or of the first of two.

    Raises:
        BandsError: If the file cannot be read as an image.
        TooLargeError: If it needs too much memory.
        Exception: Nearly any, if it is damaged.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        bands, kind = page.samplesperpixel, page.dtype
        described = f"{pluralize(bands, 'band')} of {kind}"
        if kind is None or kind.kind not in "uif" or page.imagedepth > 1 or page.photometric not in (0, 1, 2):
            raise BandsError(f"{described} cannot be read as an image: export three of them, such as with {EXPORT}")
        tags = {tag.code: tag.value for tag in page.tags if tag.code in TAGS}
        read = min(bands, max(3, (_alpha_position(tags) or 0) + 1))
        memory.check_pixels((page.imagewidth, page.imagelength))
        check_tiles(max(len(page.dataoffsets), math.prod(page.chunked)))
        size, segment = (page.imagewidth, page.imagelength), math.prod(page.chunks)
        memory.take(size, (size[0] * size[1] * read + 2 * segment) * kind.itemsize)
        values = np.zeros((size[1], size[0], read), kind)
        try:
            for part, (band, _, top, left, _), _ in page.segments(maxworkers=1):
                if part is not None and band < read:
                    _copy_segment(part[0], values[top:, left:, band:])
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            method = tifffile.COMPRESSION(page.compression).name
            raise BandsError(f"{described}, compressed with {method}: {INSTALL}") from error
    return _select_bands(lambda top, end: values[top:end], size, tags, f"{bands} x {kind.name}")


def _copy_segment(part: NDArray[Any], place: NDArray[Any]) -> None:
    """Copies a strip or tile, shape ``(H, W, C)``, to where it lies in the image, which may end before it."""
    height, width, bands = (min(lengths) for lengths in zip(part.shape, place.shape, strict=True))
    place[:height, :width, :bands] = part[:height, :width, :bands]


def _select_bands(read: Reader, size: tuple[int, int], tags: Mapping[int, Any], mode: str) -> Samples:
    """The bands, of shape ``(H, W, C)``, that are read as grey or colour, and transparency.

    Pillow gives no more than four of them, and shape ``(H, W)`` for one.
    """
    bands, alpha_at = tags.get(SAMPLES_PER_PIXEL, 1), _alpha_position(tags)
    used = 3 if (alpha_at or bands) >= 3 else 1

    def split(top: int, end: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        values = read(top, end)
        values = values if values.ndim == 3 else values[..., None]
        return values[..., :3] if used == 3 else values[..., 0], values[..., alpha_at] if alpha_at else None

    is_associated = bool(alpha_at) and _extra_samples(tags)[(alpha_at or 0) - bands] == ASSOCIATED_ALPHA
    is_used = bool(alpha_at) and _has_transparency(split, size, is_associated=is_associated)

    def select(top: int, end: int) -> Rows:
        chosen, alpha = split(top, end)
        if not is_used or alpha is None:
            return Rows(chosen)
        return Rows(_divided(chosen, alpha) if is_associated else chosen, _as_bytes(alpha))

    note, is_negative = _describe_unused(bands, used, alpha_at, is_used=is_used), tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    return Samples(size, select, _nodata(tags), mode, note, _first(tags, ORIENTATION, 1), is_negative)


def _has_transparency(
    split: Callable[[int, int], tuple[NDArray[Any], Any]], size: tuple[int, int], *, is_associated: bool
) -> bool:
    """Whether the band that is declared as transparency, the second of `split`, is plausible as such."""
    if not is_transparency(split(top, end)[1] for top, end in rows_of_strips(size)):
        return False
    if not is_associated:
        return True
    above = total = 0
    for top, end in rows_of_strips(size):
        colours, alpha = split(top, end)
        above += int(np.count_nonzero(colours.T > alpha.T))
        total += colours.size
    return above <= ABOVE_ALPHA * total


def _extra_samples(tags: Mapping[int, Any]) -> tuple[int, ...]:
    """What the last bands are declared as."""
    extra = tags.get(EXTRA_SAMPLES, ())
    if not extra and tags.get(PHOTOMETRIC) == RGB and tags.get(SAMPLES_PER_PIXEL) == 4:
        return (UNASSOCIATED_ALPHA,)
    return tuple(extra) if isinstance(extra, tuple) else (extra,)


def _alpha_position(tags: Mapping[int, Any]) -> int | None:
    """The index of the band that is declared as transparency; None if there is none."""
    extra = _extra_samples(tags)
    first = tags.get(SAMPLES_PER_PIXEL, 1) - len(extra)
    declared = (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA, COREL_ALPHA)
    return next((first + index for index, kind in enumerate(extra) if kind in declared and first > 0), None)


def _divided(colours: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """The colours, ``(H, W)`` or ``(H, W, 3)``, that were multiplied by alpha, ``(H, W)``."""
    opaque = _opaque(alpha.dtype)
    factors = opaque / np.where(alpha > 0, alpha, opaque)
    divided = (colours.T * factors.T).T.clip(None, opaque)
    return (np.rint(divided) if colours.dtype.kind in "ui" else divided).astype(colours.dtype)


def _as_bytes(alpha: NDArray[Any]) -> NDArray[np.uint8]:
    opaque = _opaque(alpha.dtype)
    return np.rint(alpha.clip(0, opaque) * (255 / opaque)).astype(np.uint8)


def _describe_unused(bands: int, used: int, alpha_at: int | None, *, is_used: bool) -> str:
    """Which bands are not used, for the user; empty if all are."""
    if bands <= used + is_used:
        return ""
    how = "three of {} bands are read as red, green and blue" if used == 3 else "of {} bands is read as grey"
    alpha = ""
    if alpha_at:
        name = f"band {alpha_at + 1}"
        alpha = f", and {name} as transparency" if is_used else f", since {name}, declared as transparency, is none"
    export = f"export three first, such as with {EXPORT}" if bands > 2 else f"export one, such as with {EXPORT_ONE}"
    return f"the first {how.format(bands)}{alpha}; to use others, {export}"


def _nodata(tags: Mapping[int, Any]) -> float | None:
    try:
        return float(str(tags.get(NODATA)).strip("\0 "))
    except ValueError:
        return None
