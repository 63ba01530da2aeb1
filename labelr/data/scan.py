"""Looks once at every image file: its content digest, and whether it opens."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labelr import files
from labelr.config import MAX_PIXELS
from labelr.data.images import Unreadable, decode, open_file
from labelr.progress import Track, untracked

PROBE_SIZE = 32
"""Edge of the image that is decoded to see whether the file opens, in pixels."""


@dataclass(frozen=True)
class Scanned:
    """What a look at an image file gave.

    Attributes:
        digest: SHA-256 of its content, in hexadecimal; empty where the file cannot be read.
        reason: Why it cannot be opened as an image; empty where it can.
    """

    digest: str
    reason: str


def scan_images(
    paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS, threads: int = 1, track: Track = untracked
) -> list[Scanned]:
    """The digest of each file, and the reason where it does not open, in the order of `paths`."""
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        results: Iterator[Scanned] = pool.map(partial(_scan, max_pixels=max_pixels), paths)
        try:
            return list(track(results, "reading images", len(paths)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _scan(path: Path, max_pixels: int) -> Scanned:
    file = open_file(path)
    if isinstance(file, Unreadable):
        return Scanned("", file.reason)
    with file:
        try:
            digest = files.digest(file)
        except OSError as error:  # a disk that fails while it is read
            return Scanned("", (error.strerror or str(error)).lower())
        file.seek(0)
        pixels = decode(file, PROBE_SIZE, max_pixels=max_pixels)
    return Scanned(digest, pixels.reason if isinstance(pixels, Unreadable) else "")
