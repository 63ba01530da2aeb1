"""Opens image files: the only decoder, shared by training, scoring and tagging."""

import hashlib
import stat
from functools import cache, lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from labelr.config import MAX_PIXELS, ResizeRule

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "JPEG2000")
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
        mode: The pixel mode as Pillow names it, such as ``RGB`` or ``L``.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    mode: str


def read_pixels(path: Path, size: int, *, rule: ResizeRule = "squish", max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of an image file, shape ``(S, S, 3)``, as training, scoring and tagging see it.

    EXIF orientation is applied, transparency is composited over white, 16-bit and float greyscale is scaled to 8 bits,
    and an embedded colour profile is converted to sRGB. A large JPEG is decoded at a reduced scale.

    Args:
        path: The file; it is opened for reading only.
        size: S, the edge of the square in pixels.
        rule: How a rectangle becomes a square: ``"squish"`` and ``"letterbox"`` keep the whole image, ``"crop"``
            keeps its centre.
        max_pixels: A larger image is refused before it is decoded (a guard against decompression bombs).

    Raises:
        UnreadableError: If the file cannot be read or decoded.
    """
    with open_file(path) as file:
        return decode(file, size, rule=rule, max_pixels=max_pixels).pixels


def read_thumbnail(path: Path, size: int, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A thumbnail of an image file, shape ``(H, W, 3)``: its aspect ratio is kept, its longer edge is `size` pixels.

    Raises:
        UnreadableError: If the file cannot be read or decoded.
    """
    with open_file(path) as file:
        decoded = decode(file, size, rule="letterbox", max_pixels=max_pixels)
    scale = size / max(decoded.width, decoded.height)
    width, height = (max(1, round(edge * scale)) for edge in (decoded.width, decoded.height))
    left, top = (size - width) // 2, (size - height) // 2
    return decoded.pixels[top : top + height, left : left + width]


def open_file(path: Path) -> BufferedReader:
    """The file opened for reading. Raises UnreadableError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a named pipe could block forever
            raise UnreadableError("not a regular file")
        return path.open("rb")
    except OSError as error:
        raise UnreadableError((error.strerror or str(error)).lower()) from error


def content_digest(file: BufferedReader) -> str:
    """The SHA-256 of an open file, which is rewound. Raises UnreadableError."""
    try:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    except OSError as error:  # a disk that fails during the read
        raise UnreadableError((error.strerror or str(error)).lower()) from error
    return digest


def decode(file: BufferedReader, size: int, *, rule: ResizeRule = "squish", max_pixels: int = MAX_PIXELS) -> Decoded:
    """The pixels and properties of an open image file; see `read_pixels`. Raises UnreadableError."""
    try:
        if not file.read(1):
            raise UnreadableError("empty file (0 bytes)")
        file.seek(0)
        with Image.open(file, formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                raise UnreadableError(
                    f"too large: {image.width} x {image.height} pixels, the limit is {max_pixels:,} pixels"
                )
            full_size, file_format, mode = image.size, image.format or "", image.mode
            image.draft(None, (2 * size, 2 * size))  # a JPEG: at 1/2, 1/4 or 1/8, but at least twice the target
            image.load()
            upright = _upright(image)
            # not judged by shape: at a reduced scale a nearly square image may become square, or the reverse
            turned = upright is not image and image.getexif().get(ExifTags.Base.Orientation) in range(5, 9)
            width, height = reversed(full_size) if turned else full_size
            return Decoded(to_pixels(upright, size, rule), width, height, file_format, mode)
    except UnreadableError:
        raise
    except MemoryError as error:
        raise UnreadableError("too large for this machine's memory") from error
    except UnidentifiedImageError as error:
        raise UnreadableError(_why_unidentified(file)) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = f"damaged or truncated: {error}" if str(error) else f"damaged: {type(error).__name__}"
        raise UnreadableError(reason) from error


def to_pixels(image: Image.Image, size: int, rule: ResizeRule = "squish") -> Pixels:
    """The pixels of an image opened by Pillow, shape ``(S, S, 3)``, sRGB."""
    profile = image.info.get("icc_profile")
    resized = _to_srgb(_resize(_to_eight_bits(_upright(image)), size, rule), profile)
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


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB or CMYK: deep greyscale scaled, palettes applied, transparency over white."""
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

    16 bits are divided by 257. 32-bit integers and floats do not declare their white level: it is the smallest common
    level (1 for floats, 255, 65535) that is not below the brightest pixel, or else the brightest pixel itself.
    """
    grey = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    brightest = float(grey.max(initial=0.0))
    if mode.startswith("I;16"):
        white = 65535.0
    else:
        levels = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        white = next((level for level in levels if brightest <= level), brightest)
    scaled: Pixels = np.rint(grey.clip(0.0, white) * (255.0 / white)).astype(np.uint8)
    return scaled


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


def _why_unidentified(file: BufferedReader) -> str:
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
        return "a HEIC image, for which the decoder is missing: `pip install 'labelr[heif]'`"
    return "not an image in a format that labelr reads, or damaged at its beginning"
