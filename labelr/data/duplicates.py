"""Groups images that belong to one split: copies, near-duplicates, and groups named in the label file."""

import logging
from collections.abc import Iterator, Sequence
from itertools import combinations, count, pairwise

import numpy as np
from numpy.typing import NDArray

from labelr.data.images import Pixels
from labelr.errors import pluralize

PROBE_SIZE = 32
"""Edge in pixels of the image from which a fingerprint is computed."""
MAX_DISTANCE = 6
"""Images whose fingerprints differ in at most this many of 64 bits are near-duplicates.

Among 2,800 photographs all pairs up to distance 6 were copies or shots of one scene; at distance 8 some were not.
"""
FEW, MANY = 30_000, 5_000_000
"""From these numbers of fingerprints on, two or three bands of their bits must agree, not one; see `_masks`."""
MAX_SHARE = 0.05
"""A chain of near-duplicates longer than this share of the images is not copies of one image, and is not merged."""
ALWAYS_MERGED = 8
"""A chain of at most this many images is always merged."""

log = logging.getLogger(__name__)


_ANGLES = np.pi * np.outer(np.arange(9), np.arange(PROBE_SIZE) + 0.5) / PROBE_SIZE
_COSINES = np.cos(_ANGLES) * np.sqrt(2 / PROBE_SIZE)
"""The first 9 rows of the discrete cosine transform (type II), shape ``(9, 32)``; the constant one is not used."""
_MAX_PAIRS = 2**20  # of links kept at a time, or as many as there are images: bounds the memory
_MIN_CONTRAST = 10.0
"""Below this standard deviation of its coefficients an image is nearly one colour; its fingerprint would be noise.

Among 2,800 photographs, a limit of 10 finds no more pairs than one of 20, which left out 24 of them. Below 10,
compression changes the fingerprint: with a JPEG quality of 60, 2 of 5 are found again, and all 19 from 10 to 20.
"""


def fingerprint(pixels: Pixels) -> int | None:
    """A perceptual hash of 64 bits (pHash, Zauner 2010), similar for copies of another size, compression or brightness.

    Args:
        pixels: Shape ``(32, 32, 3)``.

    Returns:
        One bit for each of the 8 x 8 lowest frequencies without the constant ones: whether it is above their median.
        None for an image of nearly one colour.
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
    """The group number of each image, shape ``(N,)``; all images of a group belong in the same split.

    Args:
        digests: Content digests; exact copies are one group.
        fingerprints: From `fingerprint`; near-duplicates are one group, unless their chain is too long.
        given: Groups of the user, such as a patient or a scene; empty for an image without one.
    """
    copies = _link_equal(digests)
    near = near_duplicates(fingerprints)
    chains = _components(np.concatenate([copies, near], axis=1), len(digests))
    sizes = np.bincount(chains)
    too_long = sizes > max(ALWAYS_MERGED, MAX_SHARE * len(digests))
    for chain in np.unique(chains[near[0]]):
        if too_long[chain]:
            log.warning(
                "%s look alike, too many to be copies of one; they are not kept together",
                pluralize(int(sizes[chain]), "image"),
            )
    links = [copies, near[:, ~too_long[chains[near[0]]]]]
    if given is not None:
        links.append(_link_equal([value or f"\0{row}" for row, value in enumerate(given)]))
    log.debug("%s look like an earlier one", pluralize(near.shape[1], "image"))
    return _components(np.concatenate(links, axis=1), len(digests))


def belongs_to(
    digests: Sequence[str], fingerprints: Sequence[int | None], others: tuple[Sequence[str], Sequence[int | None]]
) -> NDArray[np.bool_]:
    """Whether each of N images is a copy or near-duplicate of one of M others, shape ``(N,)``; see `group_images`.

    `others` are the digests and the fingerprints of the M others.
    """
    groups = group_images([*others[0], *digests], [*others[1], *fingerprints])
    return np.isin(groups[len(others[0]) :], groups[: len(others[0])])


def _components(links: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The connected component of each of `count` rows under `links`, shape ``(2, P)``; shape ``(count,)``."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(links.shape[1], dtype=bool), (links[0], links[1])), shape=(count, count))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def near_duplicates(fingerprints: Sequence[int | None]) -> NDArray[np.int64]:
    """Links, shape ``(2, P)``, between rows whose fingerprints differ in at most ``MAX_DISTANCE`` bits.

    Only a spanning forest of them: among many images that all look alike, all pairs would not fit into memory.
    """
    rows = np.array([row for row, value in enumerate(fingerprints) if value is not None], dtype=np.int64)
    values = np.array([value for value in fingerprints if value is not None], dtype=np.uint64)
    unique, first = np.unique(values, return_index=True)
    links, num_links = [rows[_link_equal(values.tolist())]], 0
    for mask in _masks(len(unique)):
        for pairs in _near_pairs(unique, mask):
            links.append(rows[first[pairs]])
            num_links += pairs.shape[1]
            if num_links > max(_MAX_PAIRS, len(fingerprints)):
                links, num_links = [_spanning_forest(links, len(fingerprints))], 0
    return _spanning_forest(links, len(fingerprints))


def _masks(count: int) -> Iterator[np.uint64]:
    """Masks of bits such that fingerprints which differ in at most ``MAX_DISTANCE`` agree under one of them.

    With ``MAX_DISTANCE`` more bands than must agree. Under one band of 9 bits, the number of pairs to compare grows
    with the square of the number of fingerprints; under two bands of 8 bits a 100th of them agree, but there are 28
    masks rather than 7. So the time is nearly proportional to the number: 0.5 s for 100,000 and 10 s for a million.
    """
    wanted = 1 if count < FEW else 2 if count < MANY else 3
    bands = MAX_DISTANCE + wanted
    edges = [64 * band // bands for band in range(bands + 1)]
    masks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return (np.uint64(sum(chosen)) for chosen in combinations(masks, wanted))


def _near_pairs(values: NDArray[np.uint64], mask: np.uint64) -> Iterator[NDArray[np.int64]]:
    """The pairs of values that agree under a mask and differ in at most ``MAX_DISTANCE`` bits, in parts ``(2, P)``."""
    order = np.argsort(values & mask)
    ordered = values[order]
    starts = np.arange(len(values))
    for step in count(1):  # each with its next one in order, then with the one after that, while they agree
        starts = starts[: np.searchsorted(starts, len(values) - step)]
        differences = ordered[starts] ^ ordered[starts + step]
        agree = differences & mask == 0
        starts, differences = starts[agree], differences[agree]
        if not len(starts):
            return
        near = starts[np.bitwise_count(differences) <= MAX_DISTANCE]
        yield np.stack([order[near], order[near + step]])


def _spanning_forest(links: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """Fewer than `count` links, shape ``(2, P)``, with the same connected components as `links`."""
    return _link_equal(_components(np.concatenate(links, axis=1), count).tolist())


def _link_equal(values: Sequence[object]) -> NDArray[np.int64]:
    """Links from each row to the next row with an equal value, shape ``(2, P)``."""
    last: dict[object, int] = {}
    links = []
    for row, value in enumerate(values):
        if value in last:
            links.append((last[value], row))
        last[value] = row
    return np.array(links, dtype=np.int64).reshape(-1, 2).T
