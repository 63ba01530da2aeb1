"""The pixels of a data set in batches: from the pixel cache where they are in it, else decoded on demand."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from labelr import files
from labelr.buckets.objects import read_ahead
from labelr.config import ReadOptions, ResizeRule
from labelr.data import pixel_cache
from labelr.data.images import UNKNOWN_RANGE, Pixels, UnreadableError, content_digest, decode, open_file
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError, pluralize_part
from labelr.processors import Processors, map_ahead
from labelr.progress import Track, untracked

DECODER = 4
"""Increased whenever labelr decodes a file to other pixels than before."""

Rows = Sequence[int] | NDArray[np.int64]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Decoder:
    """Decodes files to squares of one size."""

    size: int
    rule: ResizeRule
    max_pixels: int
    value_range: ValueRange

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3

    @property
    def num_bytes(self) -> int:
        return self.size * self.size * 3

    @property
    def store(self) -> Path:
        """Where such pixels are cached; another version of Pillow may decode differently."""
        kind = f"{self.rule}-{self.size}px-{DECODER}-pillow-{PIL.__version__}{self.value_range.key}"
        return pixel_cache.cache_folder() / kind

    def __call__(self, source: tuple[str, str]) -> Pixels:
        """The pixels of a file, given its path and digest.

        Raises:
            LabelrError: If its content no longer has that digest: it has changed since the data set was loaded.
        """
        path, digest = source
        try:
            with Processors(), open_file(Path(path)) as file:
                if content_digest(file) != digest:
                    raise UnreadableError("its content differs")
                return decode(
                    file, self.size, rule=self.rule, max_pixels=self.max_pixels, value_range=self.value_range
                ).pixels
        except UnreadableError as error:
            raise LabelrError(
                f"{path} has changed since it was first read: {error}", "run the command again"
            ) from error


@dataclass(frozen=True, eq=False)
class PixelSet:
    """The pixels of N images, in batches."""

    _sources: Sequence[tuple[str, str]]
    _decoder: _Decoder
    _segments: Sequence[Path]
    _places: pixel_cache.Places
    _threads: int

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, S, S, 3)``."""
        return len(self), *self._decoder.shape

    @property
    def digests(self) -> list[str]:
        """The SHA-256 of each image file."""
        return [digest for _, digest in self._sources]

    @property
    def kind(self) -> str:
        """How the images are decoded, as a valid file name."""
        return self._decoder.store.name

    @property
    def num_cached(self) -> int:
        """How many of the images are in the cache."""
        return int((self._places[:, 0] >= 0).sum())

    def subset(self, rows: NDArray[np.int64]) -> "PixelSet":
        """The pixels of some of the images, in the order of `rows`."""
        return replace(self, _sources=[self._sources[row] for row in rows], _places=self._places[rows])

    def take(self, rows: Rows) -> NDArray[np.uint8]:
        """The pixels of some images, shape ``(B, S, S, 3)``, in the order of `rows`.

        Raises:
            LabelrError: If a file that is not in the cache has changed since it was first read.
        """
        batch = np.empty((len(rows), *self._decoder.shape), np.uint8)
        absent = np.flatnonzero(~pixel_cache.read(self._segments, self._places[np.asarray(rows, np.int64)], batch))
        if len(absent):
            with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
                sources = [self._sources[rows[position]] for position in absent.tolist()]
                for position, pixels in zip(absent, pool.map(self._decoder, sources), strict=True):
                    batch[position] = pixels
        return batch

    def batches(self, batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order; the next batch is loaded while the current one is in use."""
        starts = range(0, len(self), batch_size)
        rows = (range(start, min(start + batch_size, len(self))) for start in starts)
        return map_ahead(self.take, rows, threads=1, ahead=2)


def open_pixels(
    paths: Sequence[Path],
    digests: Sequence[str],
    size: int,
    *,
    rule: ResizeRule = "squish",
    value_range: ValueRange = UNKNOWN_RANGE,
    options: ReadOptions | None = None,
    threads: int = 1,
    track: Track = untracked,
) -> PixelSet:
    """The pixels of image files that are known to open, given the SHA-256 of each, as squares of `size` pixels.

    Those that are not cached are decoded into the cache as far as there is room. Of the options, `max_pixels` and
    `cache_limit` apply.

    Raises:
        LabelrError: If a file has changed since it was first read.
    """
    options = options or ReadOptions()
    decoder = _Decoder(size, rule, options.max_pixels, value_range)
    sources = list(zip(map(str, paths), digests, strict=True))  # a `Path` takes three times the memory
    segments, places = pixel_cache.find(decoder.store, digests, decoder.num_bytes)
    if (places < 0).any() and options.cache_limit:
        try:
            with pixel_cache.writing(decoder.store):
                _fill(decoder, sources, options, threads, track)
        except OSError as error:
            files.raise_if_exhausted(error)
            log.warning("the pixel cache cannot be written: %s", error.strerror or error)
        segments, places = pixel_cache.find(decoder.store, digests, decoder.num_bytes)
    pixels = PixelSet(sources, decoder, segments, places, threads)
    if pixels.num_cached < len(pixels):
        log.info(
            "%s not in the pixel cache, and decoded whenever needed (see `--cache-limit`)",
            pluralize_part(len(pixels) - pixels.num_cached, len(pixels), "image"),
        )  # fmt: skip
    return pixels


def _fill(
    decoder: _Decoder, sources: Sequence[tuple[str, str]], options: ReadOptions, threads: int, track: Track
) -> None:
    """Decodes images into the cache as far as there is room."""
    # another run may have filled it while this one waited for the lock
    used, places = pixel_cache.find(decoder.store, [digest for _, digest in sources], decoder.num_bytes)
    missing = {digest: path for (path, digest), (segment, _) in zip(sources, places, strict=True) if segment < 0}
    needed, limit = len(missing) * decoder.num_bytes, round(options.cache_limit * 1e9)
    room = pixel_cache.make_room(needed, limit, keep=used)
    digests = list(missing)[: room // decoder.num_bytes]
    sources_ahead = read_ahead([(missing[digest], digest) for digest in digests], lambda source: Path(source[0]))
    decoded = map_ahead(decoder, sources_ahead, threads=threads, ahead=8 * threads)
    images = iter(track(decoded, "decoding images", len(digests)))
    pixel_cache.write(decoder.store, digests, images, decoder.num_bytes)
