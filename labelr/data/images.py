"""Opens image files: the only decoder, shared by training, scoring and tagging."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from labelr import files
from labelr.config import MAX_PIXELS, ResizeRule
from labelr.data import damaged, jpeg2000, samples, strips, walk
from labelr.data.budget import LimitedReader, Reservation, TooLargeError, check_tiles, decoding_bytes
from labelr.data.samples import BandsError, Samples
from labelr.data.strips import Strips
from labelr.data.value_range import Interval, Levels, ValueRange, declared_interval, grid_step, is_valid, measure, scale

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "JPEG2000")
"""As Pillow names them; ``JPEG`` includes MPO, a JPEG of several images."""

MAX_PAGES = 1000
"""The pages of a TIFF file that are counted."""
SMALL_BYTES, QUALITIES_OF_SMALL = 16_000, (78, 55, 35, 15)
"""The bytes of a thumbnail in a page of many, which keep a page of noisy images small, too, and how it is encoded."""

Pixels = strips.Pixels

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


def encode_jpeg(pixels: Pixels, qualities: Sequence[int] = (85,)) -> bytes:
    """The pixels as JPEG in the first of some qualities that takes at most `SMALL_BYTES`, else in the last one."""
    content = b""
    for quality in qualities:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
        if len(content) <= SMALL_BYTES:
            break
    return content


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


@contextmanager
def opened_header(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An image file of which Pillow has read no pixels, only what is before them. Raises UnreadableError."""
    with open_file(path) as file:
        try:
            with Image.open(cast(IO[bytes], LimitedReader(file)), formats=_formats()) as image:
                yield image
        except Exception as error:  # as in `decode`
            raise UnreadableError(str(error) or type(error).__name__) from error


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
    with damaged.libtiff_errors() as errors:
        try:
            if not file.read(1):
                raise UnreadableError("empty file (0 bytes)")
            with Reservation(max_pixels) as memory:
                decoded = _decode(cast(IO[bytes], LimitedReader(file)), size, memory, rule, value_range)
        except UnreadableError:
            raise
        except MemoryError as error:
            raise UnreadableError("too large for this machine's memory") from error
        except (BandsError, TooLargeError) as error:
            raise UnreadableError(str(error)) from error
        except UnidentifiedImageError as error:
            raise UnreadableError(_why_unidentified(file)) from error
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            why = errors[0] if errors else str(error)
            raise UnreadableError(
                f"damaged or truncated: {why}" if why else f"damaged: {type(error).__name__}"
            ) from error
    damage = f"damaged in part: {errors[0]}" if errors else ""
    return decoded._replace(note="; ".join(filter(None, [decoded.note, damage])))


class _Opened(NamedTuple):
    """An image that is loaded: the image of Pillow, whose pixels do not count where `samples` are given."""

    image: Image.Image
    size: tuple[int, int]
    format: str
    mode: str
    orientation: int
    samples: Samples | None = None


def _count_pages(file: IO[bytes]) -> int:
    """Number of pages of a TIFF file after the first, up to `MAX_PAGES`, without masks and smaller copies of it."""
    import tifffile

    file.seek(0)
    count = 0
    with suppress(Exception), tifffile.TiffFile(file) as tiff:  # it raises nearly anything on damaged bytes
        first = tiff.pages.first
        for number in range(1, MAX_PAGES):
            page = tiff.pages[number].aspage()
            is_copy = 2 * page.imagewidth <= first.imagewidth + 1 and 2 * page.imagelength <= first.imagelength + 1
            count += not (is_copy or page.is_reduced or page.is_mask)
    return count


def _count_frames(opened: _Opened, file: IO[bytes]) -> int:
    """Number of frames of an animation after the first; they are not decoded."""
    if opened.format in ("PNG", "WEBP", "AVIF"):
        return int(getattr(opened.image, "n_frames", 1)) - 1
    if opened.format == "GIF":
        file.seek(0)
        with suppress(Exception):  # a GIF that is cut off after its first frame
            return int(getattr(Image.open(file, formats=("GIF",)), "n_frames", 1)) - 1
    return 0


def _open(file: IO[bytes], size: int, memory: Reservation) -> _Opened:
    """The image in a file, at a reduced scale of at least twice `size`; without metadata that Pillow refuses."""
    try:
        return _open_with_pillow(file, size, memory)
    except (UnreadableError, BandsError, TooLargeError, MemoryError):
        raise
    except Exception as error:
        file.seek(0)
        if isinstance(error, UnidentifiedImageError) and file.read(4) in samples.TIFF_HEADS:
            return _open_tiff(file, memory, error)
        plain = damaged.without_metadata(file)
        if plain is None:
            raise
        return _open_with_pillow(BytesIO(plain), size, memory)


def _open_with_pillow(file: IO[bytes], size: int, memory: Reservation) -> _Opened:
    image = Image.open(file, formats=_formats())
    full_size, file_format, mode = image.size, image.format or "", image.mode
    memory.check_pixels(full_size)
    check_tiles(len(getattr(image, "tile", ())))
    if samples.is_misread(image):
        raise UnidentifiedImageError("misread by Pillow")
    deep = jpeg2000.read(file, full_size, memory) if file_format == "JPEG2000" else None
    if deep is None:
        image.draft(None, (2 * size, 2 * size))  # a JPEG: at 1/2, 1/4 or 1/8, but at least twice the target
        if file_format == "JPEG2000":
            num_bytes = jpeg2000.fit(image, file, size, memory.limit)
        else:
            num_bytes = decoding_bytes(image, full_size) * (1 + samples.is_read_twice(image))
        memory.take(full_size, num_bytes)
        deep = samples.read_samples(image, lambda: Image.open(file, formats=_formats()))
        image.load()
    return _Opened(image, full_size, file_format, deep.mode if deep else mode, _orientation(image), deep)


def _open_tiff(file: IO[bytes], memory: Reservation, error: UnidentifiedImageError) -> _Opened:
    """A TIFF file that Pillow does not open, or misreads. Raises `error` if it is damaged."""
    try:
        bands = samples.read_tiff(file, memory)
    except (BandsError, TooLargeError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - tifffile raises nearly anything on damaged bytes
        raise error from None
    return _Opened(Image.new("1", (1, 1)), bands.size, "TIFF", bands.mode, bands.orientation, bands)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image; 1 where the EXIF block is damaged."""
    with suppress(Exception):
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in strips.TRANSPOSE else 1
    return 1


def _decode(file: IO[bytes], size: int, memory: Reservation, rule: ResizeRule, value_range: RangeChoice) -> Decoded:
    opened = _open(file, size, memory)
    note = opened.samples.note if opened.samples else samples.unused_bands(opened.image)
    pages = _count_pages(file) if opened.format == "TIFF" else _count_frames(opened, file)
    source, levels = _source_of(opened.image, opened.samples, value_range)
    profile = opened.image.info.get("icc_profile")
    pixels = strips.to_square(source, size, rule, orientation=opened.orientation, profile=profile)
    width, height = reversed(opened.size) if opened.orientation >= 5 else opened.size
    return Decoded(pixels, width, height, opened.format, opened.mode, note, levels, pages)


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
    image.load()
    source, _ = _source_of(image if own else samples.without_false_alpha(image), own, value_range)
    profile = image.info.get("icc_profile")
    return strips.to_square(source, size, rule, orientation=_orientation(image), profile=profile)


def array_to_pixels(
    array: NDArray[Any], size: int, rule: ResizeRule = "squish", value_range: RangeChoice = UNKNOWN_RANGE
) -> Pixels:
    """The pixels of an array, shape ``(S, S, 3)``; see `samples_of_array`. Raises LabelrError."""
    source, _ = _eight_bits_of(samples.samples_of_array(array), value_range)
    return strips.to_square(source, size, rule)


def _source_of(
    image: Image.Image, own: Samples | None, value_range: RangeChoice
) -> tuple[Image.Image | Strips, Levels | None]:
    """An image of 8 bits a sample, and its levels if it is scaled by its own values."""
    return _eight_bits_of(own, value_range) if own else (strips.in_plain_mode(image), None)


def _eight_bits_of(deep: Samples, value_range: RangeChoice) -> tuple[Strips, Levels | None]:
    """The image of some samples, and its levels if it is scaled by its own values."""
    interval, levels = (0.0, 255.0), None
    if deep.kind != np.uint8:
        interval, levels = _interval_of(deep, value_range)

    def read(top: int, end: int) -> Image.Image:
        values, alpha = deep.read(top, end)
        if values.dtype != np.uint8:
            scaled = scale(values, interval, nodata=deep.nodata, is_negative=deep.is_negative)
        else:
            scaled = 255 - values if deep.is_negative else values
            if deep.nodata is not None:
                scaled = np.where(is_valid(values, deep.nodata), scaled, np.uint8(0))
        image = Image.fromarray(scaled)
        if alpha is not None:
            image.putalpha(Image.fromarray(alpha))
        return strips.to_plain_mode(image)

    return Strips(deep.size, read), levels


def _interval_of(deep: Samples, value_range: RangeChoice) -> tuple[Interval, Levels | None]:
    """What becomes black and white, and the levels of the image if these are meant."""
    interval, levels = None, None
    if isinstance(value_range, ValueRange):
        interval = value_range.floats if deep.kind.kind == "f" else value_range.integers
    else:
        step = grid_step(deep.size)
        grid = np.concatenate([part.values[::step, ::step] for part in deep.strips(step)])
        levels = measure(grid, nodata=deep.nodata)
        interval = (levels.low, levels.high) if levels and levels.low < levels.high else None
    if interval is None:
        interval = declared_interval((part.values for part in deep.strips()), deep.kind, deep.nodata)
    return interval, levels


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
