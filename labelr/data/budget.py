"""What decoders of images may take: memory in all threads together, and reads and parts of a file."""

import math
import threading
from typing import IO, Any, Self

from PIL import Image

MAX_BYTES_PER_PIXEL = 5
"""Of the largest image: 1 GB at the default of `--max-pixels`, in all threads together as well. Images that take more
bytes for each pixel may have fewer pixels."""

MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""The bytes of a pixel that Pillow holds, by mode; 4 in the others."""
DECODERS = {"WEBP": 12, "AVIF": 12, "HEIF": 12}
"""The bytes of a pixel that the decoder of a format holds besides, as measured."""
MAX_READS = 2**23
"""How often a decoder reads from a file: Pillow parses headers and blocks one by one, a million of them in a second."""
MAX_SCANS = 100
"""Of a JPEG file, each of which may take as long as a whole image; usual are up to ten."""
MAX_TILES = 2**18
"""Strips and tiles of a TIFF file."""
ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 278, 322, 323
"""Tags of TIFF."""


def decoding_bytes(image: Image.Image, full_size: tuple[int, int]) -> int:
    """The bytes that Pillow and its decoder hold while they decode an opened image, at the size to which it is set.

    The file is of `full_size`.
    """
    pixels, pixel_bytes = image.width * image.height, MODES.get(image.mode, 4)
    if image.format == "TIFF":
        return pixels * pixel_bytes + _segment_pixels(image) * pixel_bytes
    if image.format in ("JPEG", "MPO"):
        return pixels * pixel_bytes + _coefficients(image) * full_size[0] * full_size[1]
    return pixels * (pixel_bytes + DECODERS.get(image.format or "", 0))


def _segment_pixels(image: Image.Image) -> int:
    """The pixels of a strip or tile of a TIFF file, which libtiff unpacks in one piece."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    width, rows = tags.get(TILE_WIDTH, image.width), tags.get(TILE_LENGTH, tags.get(ROWS_PER_STRIP, image.height))
    return int(width) * min(int(rows), image.height)


def _coefficients(image: Image.Image) -> int:
    """The bytes of a pixel that a JPEG file of several scans holds as coefficients until the last one."""
    file, components = image.fp, image.layers  # type: ignore[attr-defined]
    position = file.tell()
    in_first_scan = file.read(3)[2:]
    is_in_one_scan = not image.info.get("progressive") and in_first_scan == bytes([components])
    scans = 1 if is_in_one_scan else 1 + file.read().partition(b"\xff\xd9")[0].count(b"\xff\xda")
    file.seek(position)
    if scans > MAX_SCANS:
        raise TooLargeError(f"damaged: it has {scans:,} scans, the limit is {MAX_SCANS}")
    if is_in_one_scan:
        return 0
    samples: list[int] = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]  # type: ignore[attr-defined]
    return math.ceil(2 * sum(samples) / max(1, *samples))


class TooLargeError(Exception):
    """An image whose decoding needs more memory than is allowed; its text is the reason and what to do."""


def check_tiles(count: int) -> None:
    """Raises TooLargeError if a TIFF file has too many strips or tiles."""
    if count > MAX_TILES:
        raise TooLargeError(f"damaged: it has {count:,} strips or tiles, the limit is {MAX_TILES:,}")


class LimitedReader:
    """An open file that refuses to be read in too many pieces. Raises TooLargeError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reads = 0

    def read(self, size: int = -1) -> bytes:
        """As the method of the file."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise TooLargeError("damaged: it consists of too many pieces")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Reservation:
    """The memory of one image that is decoded, as a context; the largest image has `max_pixels`."""

    _free = threading.Condition()
    _used = 0

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._own = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    @property
    def limit(self) -> int:
        """The bytes that all images together may take."""
        return MAX_BYTES_PER_PIXEL * self.max_pixels

    def check_pixels(self, size: tuple[int, int]) -> None:
        """Raises TooLargeError if an image has too many pixels."""
        if size[0] * size[1] > self.max_pixels:
            raise TooLargeError(
                f"too large: {size[0]} x {size[1]} pixels, the limit is {self.max_pixels:,} pixels; "
                f"`--max-pixels {size[0] * size[1]}` raises it"
            )

    def take(self, size: tuple[int, int], num_bytes: int) -> None:
        """Waits until the memory is free, in place of what was taken before. Raises TooLargeError for too much."""
        limit = self.limit
        if num_bytes > limit:
            needed = -(-num_bytes // MAX_BYTES_PER_PIXEL)
            raise TooLargeError(
                f"too large: {size[0]} x {size[1]} pixels take {num_bytes / 1e6:,.0f} MB of memory to decode, "
                f"the limit is {limit / 1e6:,.0f} MB; `--max-pixels {needed}` raises it"
            )
        self._release()
        with self._free:
            self._free.wait_for(lambda: not Reservation._used or Reservation._used + num_bytes <= limit)
            Reservation._used += num_bytes
            self._own = num_bytes

    def _release(self) -> None:
        with self._free:
            Reservation._used -= self._own
            self._own = 0
            self._free.notify_all()
