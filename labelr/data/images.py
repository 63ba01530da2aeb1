"""Opens images: the one way from a file to pixels, for training, scoring and tagging alike."""

import stat
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from labelr import files
from labelr.config import MAX_PIXELS, ResizeRule

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF")

Pixels = NDArray[np.uint8]
"""One RGB image, ``(S, S, 3)``: square, but for thumbnails."""

# Pillow's own limit holds for the whole process and only warns; ours is checked before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Unreadable:
    """Why a file gave no pixels: a result like any other, never an exception."""

    reason: str


class Decoded(NamedTuple):
    """An image file as pixels.

    Attributes:
        pixels: Shape ``(S, S, 3)``.
        width: Of the whole picture, turned as it is seen, in pixels.
        height: Likewise.
        format: Of the file, such as ``JPEG``.
        mode: Of its pixels as Pillow calls it, such as ``RGB`` and ``L``.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    mode: str


def read_pixels(
    path: Path, size: int, *, rule: ResizeRule = "squish", max_pixels: int = MAX_PIXELS
) -> Pixels | Unreadable:
    """The image in a file as labelr sees it, in training, scoring and tagging.

    EXIF orientation is applied, transparency is laid over white, 16-bit and float greyscale is scaled to 8 bits, and
    an embedded colour profile is taken to sRGB. A large JPEG is decoded at a reduced scale.

    Args:
        path: The file; it is opened for reading only.
        size: S, the edge of the square in pixels.
        rule: How a picture that is not square becomes one: ``"squish"`` and ``"letterbox"`` keep all of it, ``"crop"``
            keeps its centre.
        max_pixels: A larger picture is refused before it is decoded (a guard against decompression bombs).

    Returns:
        Pixels of shape ``(S, S, 3)``, or the reason why there are none.
    """
    file = open_file(path)
    if isinstance(file, Unreadable):
        return file
    with file:
        decoded = decode(file, size, rule=rule, max_pixels=max_pixels)
    return decoded if isinstance(decoded, Unreadable) else decoded.pixels


def read_thumbnail(path: Path, size: int, *, max_pixels: int = MAX_PIXELS) -> Pixels | Unreadable:
    """The picture in a file in its true proportions, its longer edge `size` pixels, to be looked at.

    Returns:
        Pixels of shape ``(H, W, 3)``, or the reason why there are none; see `read_pixels`.
    """
    file = open_file(path)
    if isinstance(file, Unreadable):
        return file
    with file:
        decoded = decode(file, size, rule="letterbox", max_pixels=max_pixels)
    if isinstance(decoded, Unreadable):
        return decoded
    scale = size / max(decoded.width, decoded.height)
    width, height = (max(1, round(edge * scale)) for edge in (decoded.width, decoded.height))
    left, top = (size - width) // 2, (size - height) // 2
    return decoded.pixels[top : top + height, left : left + width]


def open_file(path: Path) -> BufferedReader | Unreadable:
    """The file opened for reading, or the reason why it cannot be."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would be waited for without end
            return Unreadable("not a regular file")
        return path.open("rb")
    except OSError as error:
        return Unreadable((error.strerror or str(error)).lower())


def content_digest(file: BufferedReader) -> str | Unreadable:
    """The SHA-256 of an open file, which is at its beginning again, or the reason why it cannot be read."""
    try:
        digest = files.digest(file)
        file.seek(0)
    except OSError as error:  # a disk that fails while it is read
        return Unreadable((error.strerror or str(error)).lower())
    return digest


def decode(
    file: BufferedReader, size: int, *, rule: ResizeRule = "squish", max_pixels: int = MAX_PIXELS
) -> Decoded | Unreadable:
    """The pixels of an open image file, and the size of its picture; see `read_pixels`."""
    try:
        if not file.read(1):
            return Unreadable("empty file (0 bytes)")
        file.seek(0)
        with Image.open(file, formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                return Unreadable(
                    f"too large: {image.width} x {image.height} pixels, the limit is {max_pixels:,} pixels"
                )
            whole, kind, mode = image.size, image.format or "", image.mode
            image.draft(None, (2 * size, 2 * size))  # a JPEG: at 1/2, 1/4 or 1/8, but twice the target at least
            image.load()
            upright = _upright(image)
            # not by its shape: what is nearly square may be square, or the other way, at a reduced scale
            turned = upright is not image and image.getexif().get(ExifTags.Base.Orientation) in range(5, 9)
            width, height = reversed(whole) if turned else whole
            return Decoded(to_pixels(upright, size, rule), width, height, kind, mode)
    except MemoryError:
        return Unreadable("too large for this machine's memory")
    except UnidentifiedImageError:
        return Unreadable(_why_unidentified(file))
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged bytes: the file is at fault
        return Unreadable(f"damaged or truncated: {error}" if str(error) else f"damaged: {type(error).__name__}")


def to_pixels(image: Image.Image, size: int, rule: ResizeRule = "squish") -> Pixels:
    """The pixels of an image that Pillow has opened, shape ``(S, S, 3)``, sRGB."""
    profile = image.info.get("icc_profile")
    fitted = _to_srgb(_fit(_eight_bit(_upright(image)), size, rule), profile)
    if fitted.size == (size, size):
        return np.asarray(fitted)
    square = Image.new("RGB", (size, size), "gray")
    square.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return np.asarray(square)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; as it is where the EXIF block is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a damaged EXIF block does not spoil the pixels beside it
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB or CMYK: deep greyscale scaled, palettes looked up, transparency over white."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_deep(np.asarray(image), image.mode))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _scale_deep(values: NDArray[np.generic], mode: str) -> Pixels:
    """Greyscale of more than 8 bits scaled to 8, shape ``(H, W)``.

    16 bits are divided by 257. 32 bits and floats do not say where white is: the smallest of the usual whites (1 for
    floats, 255, 65535) that holds the brightest pixel is taken, and beyond these the brightest pixel itself.
    """
    grey = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    brightest = float(grey.max(initial=0.0))
    if mode.startswith("I;16"):
        white = 65535.0
    else:
        usual = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        white = next((level for level in usual if brightest <= level), brightest)
    scaled: Pixels = np.rint(grey.clip(0.0, white) * (255.0 / white)).astype(np.uint8)
    return scaled


def _fit(image: Image.Image, size: int, rule: ResizeRule) -> Image.Image:
    """The image resized, antialiased, to fit a square of edge `size`; shorter on one edge for ``"letterbox"``."""
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
    """The image in mode RGB, its colours taken to sRGB where `profile` says what they are."""
    transform = _profile_transform(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    converted = Image.new("RGB", image.size)
    transform.apply(image, converted)
    return converted


@lru_cache(maxsize=32)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """A conversion from an embedded profile to sRGB; None where the profile is damaged or of another colour space."""
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow may open: the usual ones, and HEIF where its decoder is installed."""
    try:
        import pi_heif
    except ImportError:
        return FORMATS
    pi_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _why_unidentified(file: BufferedReader) -> str:
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
        return "a HEIC image, for which the decoder is missing: `pip install 'labelr[heif]'`"
    return "not an image in a format that labelr reads, or damaged at its beginning"
