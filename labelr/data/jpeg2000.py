"""Reads JPEG 2000 files: colours of more than 8 bits, which Pillow rounds, and large images at a reduced scale."""

import math
from typing import IO

import numpy as np
from PIL import Image

from labelr.data.budget import Reservation
from labelr.data.samples import INSTALL, BandsError, Rows, Samples

MAX_HEAD = 2**20
"""The bytes of a file before its pixels."""
SAMPLE_BYTES = 6
"""The bytes that the decoder holds of each sample of a tile, as measured."""


def read(file: IO[bytes], size: tuple[int, int], memory: Reservation) -> Samples | None:
    """The samples of a JPEG 2000 file of colours of more than 8 bits; None for another one.

    Pillow rounds such colours to 8 bits, and white overflows to black.

    Raises:
        BandsError: If the decoder is not installed.
        TooLargeError: If it needs too much memory.
    """
    header = _header(file)
    channels = int.from_bytes(header[38:40], "big")
    bits = max(((precision & 0x7F) + 1 for precision in header[40 : 40 + 3 * channels : 3]), default=8)
    if channels < 2 or bits <= 8:
        return None
    try:
        import imagecodecs
    except ImportError as error:
        raise BandsError(f"colours of {bits} bits in JPEG 2000: {INSTALL}, or convert it to TIFF or PNG") from error
    memory.take(size, size[0] * size[1] * channels * (SAMPLE_BYTES + 2))
    file.seek(0)
    values = imagecodecs.jpeg2k_decode(file.read())

    def read_rows(top: int, end: int) -> Rows:
        rows = values[top:end] << (16 - bits)  # as Pillow does for grey
        alpha = (rows[..., -1] >> 8).astype(np.uint8) if channels in (2, 4) else None
        return Rows(rows[..., :3] if channels >= 3 else rows[..., 0], alpha)

    return Samples(size, read_rows, mode=f"{'RGB' if channels >= 3 else 'L'};16")


def fit(image: Image.Image, file: IO[bytes], size: int, limit: int) -> int:
    """The bytes that decoding of a JPEG 2000 file takes, if need be at a reduced scale of at least twice `size`.

    At full scale the pixels are the better ones: they are averaged, not of the wavelet's low frequencies.
    """
    header = _header(file)
    tile = (
        min(image.width, int.from_bytes(header[22:26], "big")),
        min(image.height, int.from_bytes(header[26:30], "big")),
    )
    num_bytes = 4 * math.prod(image.size) + SAMPLE_BYTES * int.from_bytes(header[38:40], "big") * math.prod(tile)
    _, _, style = header.partition(b"\xff\x52")  # the marker COD
    scale, levels = 0, style[7] if len(style) > 7 else 0
    while num_bytes >> 2 * scale > limit and scale < levels and min(image.size) >> scale + 1 >= 2 * size:
        scale += 1
    image.reduce = scale  # type: ignore[assignment]
    return num_bytes >> 2 * scale


def _header(file: IO[bytes]) -> bytes:
    """A JPEG 2000 file from the marker SIZ on, which begins the codestream."""
    file.seek(0)
    head = file.read(MAX_HEAD)
    return head[head.find(b"\xff\x4f\xff\x51") + 2 :]
