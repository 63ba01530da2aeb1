"""Opens image files: the only decoder, shared by training, scoring and tagging."""

import hashlib
from contextlib import suppress
from functools import cache, lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from labelr import files
from labelr.config import MAX_PIXELS, ResizeRule
from labelr.data import metadata, samples, walk
from labelr.data.samples import BandsError, Samples
from labelr.data.value_range import Levels, ValueRange, is_valid, measure, scale

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "JPEG2000")
"""As Pillow names them; ``JPEG`` includes MPO, a JPEG of several images."""

Pixels = NDArray[np.uint8]
"""One RGB image, ``(S, S, 3)``; thumbnails are ``(H, W, 3)``."""

# Pillow's own limit holds for the whole process and only warns; ours is checked before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


class UnreadableError(Exception):
    """A file that cannot be read or decoded; its text is the reason."""


class Decoded(NamedTuple):
    """A decoded image file.

    Attributes:
        pixels: Shape ``(S, S, 3)``.
        width: Of the original image after EXIF orientation, in pixels.
        height: Of the original image after EXIF orientation, in pixels.
        format: The file format, such as ``JPEG``.
        mode: The pixel mode as Pillow names it, such as ``RGB`` or ``L``, or in its manner ``RGB;16``, or for a TIFF
            that it does not read ``5 x float32``.
        note: What is not used of the file, for the user; empty if all is used.
        levels: The lowest and highest value of a deep image that is scaled by its own values; else None.
        pages: Number of further pages of a TIFF file, or frames of an animation, which are not read.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    mode: str
    note: str = ""
    levels: Levels | None = None
    pages: int = 0


RangeChoice = ValueRange | Literal["own"]
"""Which values of a deep image, of more than 8 bits a sample, become black and white: those of a data set, or for
``"own"`` the lowest and highest of the image itself."""
UNKNOWN_RANGE = ValueRange()


def read_pixels(
    path: Path,
    size: int,
    *,
    rule: ResizeRule = "squish",
    max_pixels: int = MAX_PIXELS,
    value_range: RangeChoice = UNKNOWN_RANGE,
) -> Pixels:
    """The pixels of an image file, shape ``(S, S, 3)``, as training, scoring and tagging see it.

    EXIF orientation is applied, transparency is composited over white, deep images are scaled to 8 bits, and an
    embedded colour profile is converted to sRGB. A large JPEG is decoded at a reduced scale. Of a TIFF of many bands
    the first three are read. Metadata that is damaged or huge is left out.

    Args:
        path: The file; it is opened for reading only.
        size: S, the edge of the square in pixels.
        rule: How a rectangle becomes a square: ``"squish"`` and ``"letterbox"`` keep the whole image, ``"crop"``
            keeps its centre.
        max_pixels: A larger image is refused before it is decoded (a guard against decompression bombs).
        value_range: Which values of a deep image become black and white.

    Raises:
        UnreadableError: If the file cannot be read or decoded.
    """
    with open_file(path) as file:
        return decode(file, size, rule=rule, max_pixels=max_pixels, value_range=value_range).pixels


def read_thumbnail(
    path: Path, size: int, *, max_pixels: int = MAX_PIXELS, value_range: RangeChoice = UNKNOWN_RANGE
) -> Pixels:
    """A thumbnail of an image file, shape ``(H, W, 3)``: its aspect ratio is kept, its longer edge is `size` pixels.

    Raises:
        UnreadableError: If the file cannot be read or decoded.
    """
    with open_file(path) as file:
        decoded = decode(file, size, rule="letterbox", max_pixels=max_pixels, value_range=value_range)
    scale = size / max(decoded.width, decoded.height)
    width, height = (max(1, round(edge * scale)) for edge in (decoded.width, decoded.height))
    left, top = (size - width) // 2, (size - height) // 2
    return decoded.pixels[top : top + height, left : left + width]


def open_file(path: Path) -> BufferedReader:
    """The file opened for reading. Raises UnreadableError, also for a raw file: only its small preview would open."""
    if walk.has_other_suffix(path.name):
        ending = path.suffix.strip().lower()
        raise UnreadableError(f"labelr does not read {ending} files: export as JPEG, PNG or TIFF")
    try:
        return files.open_regular(path)
    except OSError as error:
        files.raise_if_exhausted(error)
        raise UnreadableError((error.strerror or str(error)).lower()) from error


def content_digest(file: BufferedReader) -> str:
    """The SHA-256 of an open file, which is rewound. Raises UnreadableError."""
    try:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    except OSError as error:  # a disk that fails during the read
        raise UnreadableError((error.strerror or str(error)).lower()) from error
    return digest


def decode(
    file: IO[bytes],
    size: int,
    *,
    rule: ResizeRule = "squish",
    max_pixels: int = MAX_PIXELS,
    value_range: RangeChoice = UNKNOWN_RANGE,
) -> Decoded:
    """The pixels and properties of an open image file; see `read_pixels`. Raises UnreadableError."""
    try:
        if not file.read(1):
            raise UnreadableError("empty file (0 bytes)")
        return _decode(_open(file, size, max_pixels), size, rule, value_range)
    except UnreadableError:
        raise
    except MemoryError as error:
        raise UnreadableError("too large for this machine's memory") from error
    except BandsError as error:
        raise UnreadableError(str(error)) from error
    except UnidentifiedImageError as error:
        raise UnreadableError(_why_unidentified(file)) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = f"damaged or truncated: {error}" if str(error) else f"damaged: {type(error).__name__}"
        raise UnreadableError(reason) from error


class _Opened(NamedTuple):
    """An image that is loaded: the image of Pillow, whose pixels do not count where `samples` are given."""

    image: Image.Image
    size: tuple[int, int]
    format: str
    mode: str
    samples: Samples | None = None
    note: str = ""
    pages: int = 0


def _open(file: IO[bytes], size: int, max_pixels: int) -> _Opened:
    """The image in a file, at a reduced scale of at least twice `size`."""
    opened = _open_any(file, size, max_pixels)
    note = opened.samples.note if opened.samples else samples.unused_bands(opened.image)
    pages = samples.count_pages(file) if opened.format == "TIFF" else _count_frames(opened, file)
    return opened._replace(note=note, pages=pages)


def _count_frames(opened: _Opened, file: IO[bytes]) -> int:
    """Number of frames of an animation after the first; they are not decoded."""
    if opened.format in ("PNG", "WEBP", "AVIF"):
        return int(getattr(opened.image, "n_frames", 1)) - 1
    if opened.format == "GIF":
        file.seek(0)
        with suppress(Exception):  # a GIF that is cut off after its first frame
            return int(getattr(Image.open(file, formats=("GIF",)), "n_frames", 1)) - 1
    return 0


def _open_any(file: IO[bytes], size: int, max_pixels: int) -> _Opened:
    """The image in a file, read in the way that suits it; without metadata that Pillow refuses."""
    try:
        return _open_with_pillow(file, size, max_pixels)
    except (UnreadableError, BandsError, MemoryError):
        raise
    except Exception as error:
        file.seek(0)
        if isinstance(error, UnidentifiedImageError) and file.read(4) in samples.TIFF_HEADS:
            return _open_tiff(file, max_pixels, error)
        plain = metadata.without_metadata(file)
        if plain is None:
            raise
        return _open_with_pillow(BytesIO(plain), size, max_pixels)


def _open_with_pillow(file: IO[bytes], size: int, max_pixels: int) -> _Opened:
    image = Image.open(file, formats=_formats())
    if image.width * image.height > max_pixels:
        raise UnreadableError(f"too large: {image.width} x {image.height} pixels, the limit is {max_pixels:,} pixels")
    full_size, file_format, mode = image.size, image.format or "", image.mode
    if samples.is_misread(image):
        raise UnidentifiedImageError("misread by Pillow")
    deep = samples.read_jpeg2000(file) if file_format == "JPEG2000" else None
    deep = deep or samples.read_samples(image, lambda: Image.open(file, formats=_formats()))
    if deep is None:
        image.draft(None, (2 * size, 2 * size))  # a JPEG: at 1/2, 1/4 or 1/8, but at least twice the target
        image.load()
    return _Opened(image, full_size, file_format, deep.mode if deep else mode, deep)


def _open_tiff(file: IO[bytes], max_pixels: int, error: UnidentifiedImageError) -> _Opened:
    """A TIFF file that Pillow does not open, or misreads. Raises `error` if it is damaged."""
    try:
        bands = samples.read_tiff(file, max_pixels)
    except (BandsError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - tifffile raises nearly anything on damaged bytes
        raise error from None
    height, width = bands.values.shape[:2]
    image = Image.new("1", (width, height))
    image.getexif()[ExifTags.Base.Orientation] = bands.orientation
    return _Opened(image, image.size, "TIFF", bands.mode, bands)


def _decode(opened: _Opened, size: int, rule: ResizeRule, value_range: RangeChoice) -> Decoded:
    image, levels = opened.image, None
    if opened.samples is not None:
        image, levels = _eight_bits_of(opened.samples, image, value_range)
    upright = _upright(image)
    # not judged by shape: at a reduced scale a nearly square image may become square, or the reverse
    turned = upright is not image and image.getexif().get(ExifTags.Base.Orientation) in range(5, 9)
    width, height = reversed(opened.size) if turned else opened.size
    pixels = _to_square(upright, size, rule)
    return Decoded(pixels, width, height, opened.format, opened.mode, opened.note, levels, opened.pages)


def to_pixels(
    image: Image.Image, size: int, rule: ResizeRule = "squish", value_range: RangeChoice = UNKNOWN_RANGE
) -> Pixels:
    """The pixels of an image of Pillow, shape ``(S, S, 3)``, sRGB.

    One that is not loaded yet is read from its file, since Pillow loses much of some files.

    Raises:
        UnreadableError: If its file cannot be decoded.
    """
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "tile", None) and image.tell() == 0:
        position = file.tell()
        file.seek(0)
        pixels = decode(file, size, rule=rule, value_range=value_range).pixels
        file.seek(position)
        return pixels
    own = samples.samples_of(image)
    if own is not None:
        image, _ = _eight_bits_of(own, image, value_range)
    return _to_square(_upright(samples.without_false_alpha(image)), size, rule)


def array_to_pixels(
    array: NDArray[Any], size: int, rule: ResizeRule = "squish", value_range: RangeChoice = UNKNOWN_RANGE
) -> Pixels:
    """The pixels of an array, shape ``(S, S, 3)``; see `samples_of_array`. Raises LabelrError."""
    image, _ = _eight_bits_of(samples.samples_of_array(array), Image.new("1", (1, 1)), value_range)
    return _to_square(image, size, rule)


def _to_square(image: Image.Image, size: int, rule: ResizeRule) -> Pixels:
    profile = image.info.get("icc_profile")
    resized = _to_srgb(_resize(_to_plain_mode(image), size, rule), profile)
    if resized.size == (size, size):
        return np.asarray(resized)
    square = Image.new("RGB", (size, size), "gray")
    square.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
    return np.asarray(square)


def _upright(image: Image.Image) -> Image.Image:
    """The image with its EXIF orientation applied; unchanged where the EXIF block is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a damaged EXIF block does not affect the pixels
        return image


def _eight_bits_of(deep: Samples, source: Image.Image, value_range: RangeChoice) -> tuple[Image.Image, Levels | None]:
    """The image of some samples, with the metadata of `source`, and its levels if it is scaled by its own values."""
    values, levels = deep.values, None
    if values.dtype == np.uint8:
        values = 255 - values if deep.is_negative else values
        if deep.nodata is not None:
            values = np.where(is_valid(deep.values, deep.nodata), values, np.uint8(0))
    else:
        if isinstance(value_range, ValueRange):
            interval = value_range.floats if values.dtype.kind == "f" else value_range.integers
        else:
            levels = measure(values, nodata=deep.nodata)
            interval = (levels.low, levels.high) if levels and levels.low < levels.high else None
        values = scale(values, interval, nodata=deep.nodata, is_negative=deep.is_negative)
    image = Image.fromarray(values)
    if deep.alpha is not None:
        image.putalpha(Image.fromarray(deep.alpha))
    image.info = {name: value for name, value in source.info.items() if name != "transparency"}
    with suppress(Exception):  # a damaged EXIF block
        image.getexif()[ExifTags.Base.Orientation] = source.getexif().get(ExifTags.Base.Orientation, 1)
    return image, levels


def _to_plain_mode(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB or CMYK: palettes applied, transparency over white."""
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _resize(image: Image.Image, size: int, rule: ResizeRule) -> Image.Image:
    """The image resized with antialiasing to a square of edge `size`; for ``"letterbox"`` one edge may be shorter."""
    target, box = (size, size), None
    if rule == "letterbox":
        scale = size / max(image.size)
        target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    elif rule == "crop":
        edge = min(image.size)
        left, top = (image.width - edge) / 2, (image.height - edge) / 2
        box = (left, top, left + edge, top + edge)
    return image.resize(target, Image.Resampling.BICUBIC, box, reducing_gap=3.0)


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


@cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow may open; HEIF only where its decoder is installed."""
    try:
        import pi_heif
    except ImportError:
        return FORMATS
    pi_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _why_unidentified(file: IO[bytes]) -> str:
    file.seek(0)
    head = file.read(12)
    if head[:4] in samples.TIFF_HEADS:
        return "damaged or truncated, or a kind of TIFF that labelr does not read"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
        return "a HEIC image, for which the decoder is missing: `pip install 'labelr[heif]'`"
    return "not an image in a format that labelr reads, or damaged at its beginning"
