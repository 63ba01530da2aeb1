"""Groups images that belong together: copies, near-duplicates, and what the label file says belongs together."""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labelr.data.images import Pixels

PROBE_SIZE = 32
"""Edge of the image that a fingerprint is made of, in pixels."""
MAX_DISTANCE = 6
"""Fingerprints that differ in at most this many of 64 bits are of near-duplicates.

Among 2,800 photographs all pairs up to 6 were copies or shots of one scene, and of those at 8 some were not.
"""
BANDS = 7
"""With at most six bits different, two fingerprints agree in at least one whole band of seven."""
MAX_SHARE = 0.05
"""A chain of near-duplicates longer than this share of the images is no photograph's copies, and is not merged."""
ALWAYS_MERGED = 8
"""A chain of at most this many images is merged, however few images there are."""

Fingerprints = NDArray[np.uint64]

log = logging.getLogger(__name__)


def _cosines(count: int, size: int) -> NDArray[np.float64]:
    """The first `count` rows of the orthonormal discrete cosine transform (type II), shape ``(count, size)``."""
    angles = np.pi * np.outer(np.arange(count), np.arange(size) + 0.5) / size
    waves = np.cos(angles) * np.sqrt(2 / size)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves)


_COSINES = _cosines(9, PROBE_SIZE)
_MOST_PAIRS = 2**20  # compared, and kept, at a time, so that memory is bounded
_MIN_CONTRAST = 20.0
"""Below this spread of its coefficients an image is nearly one colour, and its fingerprint would be noise."""


def fingerprint(pixels: Pixels) -> int | None:
    """A perceptual hash of 64 bits (pHash, Zauner 2010): alike for copies of other size, compression or brightness.

    Args:
        pixels: Shape ``(32, 32, 3)``.

    Returns:
        The signs of the 8 x 8 lowest frequencies about their median, leaving out the constant ones; None for an image
        of nearly one colour.
    """
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    frequencies = (_COSINES @ grey @ _COSINES.T)[1:, 1:].ravel()  # (64,)
    if frequencies.std() < _MIN_CONTRAST:
        return None
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def group_images(
    digests: Sequence[str], fingerprints: Sequence[int | None], given: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """A group number for each image, shape ``(N,)``: images that no split may divide have the same one.

    Args:
        digests: Content digests; copies byte for byte are one group.
        fingerprints: Of `fingerprint`; near-duplicates are one group, unless a chain of them grows too long.
        given: What the user says belongs together, such as a patient or a scene; empty for an image on its own.
    """
    copies = _same(digests)
    near = near_duplicates(fingerprints)
    chains = _components(np.concatenate([copies, near], axis=1), len(digests))
    sizes = np.bincount(chains)
    too_long = sizes > max(ALWAYS_MERGED, MAX_SHARE * len(digests))
    for chain in np.unique(chains[near[0]]):
        if too_long[chain]:
            log.warning("%d images look alike, too many to be copies of one; they may be divided", sizes[chain])
    links = [copies, near[:, ~too_long[chains[near[0]]]]]
    if given is not None:
        links.append(_same([value or f"\0{row}" for row, value in enumerate(given)]))
    log.debug("%d images look like one before them", near.shape[1])
    return _components(np.concatenate(links, axis=1), len(digests))


def _components(links: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """A number for each of `count` rows, the same for rows that `links`, shape ``(2, P)``, connect; shape ``(N,)``."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(links.shape[1], dtype=bool), (links[0], links[1])), shape=(count, count))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def near_duplicates(fingerprints: Sequence[int | None]) -> NDArray[np.int64]:
    """Links, shape ``(2, P)``, that connect rows whose fingerprints differ in at most ``MAX_DISTANCE`` bits.

    As few as connect the same rows, directly or over others: of many images that are all alike, each with each would be
    more than memory holds.
    """
    rows = np.array([row for row, one in enumerate(fingerprints) if one is not None], dtype=np.int64)
    values = np.array([one for one in fingerprints if one is not None], dtype=np.uint64)
    unique, first = np.unique(values, return_index=True)
    links, num_links = [rows[_same(values.tolist())]], 0
    edges = [64 * band // BANDS for band in range(BANDS + 1)]
    for low, high in pairwise(edges):
        for bucket in _buckets((unique >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)):
            step = max(1, _MOST_PAIRS // len(bucket))
            for start in range(0, len(bucket), step):
                block = bucket[start : start + step]
                near = np.bitwise_count(unique[block][:, None] ^ unique[bucket]) <= MAX_DISTANCE
                one, other = np.nonzero(near)
                above = block[one] < bucket[other]
                links.append(np.stack([rows[first[block[one][above]]], rows[first[bucket[other][above]]]]))
                num_links += links[-1].shape[1]
                if num_links > _MOST_PAIRS:
                    links, num_links = [_fewest(links, len(fingerprints))], 0
    return _fewest(links, len(fingerprints))


def _fewest(links: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """As few links as connect the same of `count` rows as these do, shape ``(2, P)``, P being less than `count`."""
    return _same(_components(np.concatenate(links, axis=1), count).tolist())


def _same(values: Sequence[object]) -> NDArray[np.int64]:
    """Links each row to the next one with the same value, shape ``(2, P)``."""
    last: dict[object, int] = {}
    links = []
    for row, value in enumerate(values):
        if value in last:
            links.append((last[value], row))
        last[value] = row
    return np.array(links, dtype=np.int64).reshape(-1, 2).T


def _buckets(keys: Fingerprints) -> Iterator[NDArray[np.int64]]:
    """The rows of each key that more than one row has."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    return (bucket for bucket in np.split(order, edges) if len(bucket) > 1)
