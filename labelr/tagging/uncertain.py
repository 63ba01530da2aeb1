"""Uncertainty sampling: images to label next, near the thresholds of all labels and without near-duplicates."""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr.data.duplicates import MAX_DISTANCE, PROBE_SIZE, fingerprint
from labelr.data.images import UnreadableError, read_pixels
from labelr.tagging.pipeline import LabelSelection, TaggedImage

OVERSAMPLING = 4
"""Candidates per image of a label, since near-duplicates are dropped."""


def most_uncertain(
    images: Iterable[TaggedImage], selection: LabelSelection, base: Path, count: int, *, max_pixels: int
) -> list[str]:
    """The images closest to their thresholds, one for each label in turn, near-duplicates only once.

    The distance is one of log-odds, so that it is comparable at low and medium thresholds. Images with more pixels
    than `max_pixels` are not compared with others.

    Returns:
        At most `count` names, in rounds of one image per label, the least certain of a round first.
    """
    num_labels = len(selection.labels)
    most = max(OVERSAMPLING * -(-count // num_labels), 2 * num_labels)
    thresholds = _log_odds(selection.thresholds)
    nearest: list[list[tuple[float, str]]] = [[] for _ in range(num_labels)]  # a heap per label, the farthest on top
    for image in images:
        for heap, distance in zip(nearest, np.abs(_log_odds(image.probs) - thresholds).tolist(), strict=True):
            item = (-distance, image.name)
            if len(heap) < most:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)
    return list(islice(_without_duplicates(_in_turn(nearest), base, max_pixels), count))


def _in_turn(nearest: list[list[tuple[float, str]]]) -> Iterator[str]:
    """The names in rounds of one image per label, each name once."""
    ordered = [sorted(heap, reverse=True) for heap in nearest]
    seen = set()
    for turn in range(max(map(len, ordered), default=0)):
        for _, name in sorted((images[turn] for images in ordered if turn < len(images)), reverse=True):
            if name not in seen:
                seen.add(name)
                yield name


def _without_duplicates(names: Iterable[str], base: Path, max_pixels: int) -> Iterator[str]:
    """The names whose images are not near-duplicates of an earlier one."""
    fingerprints: list[int] = []
    for name in names:
        new = None
        with suppress(UnreadableError):
            new = fingerprint(read_pixels(base / name, PROBE_SIZE, max_pixels=max_pixels, value_range="own"))
        if new is not None:
            if any((new ^ other).bit_count() <= MAX_DISTANCE for other in fingerprints):
                continue
            fingerprints.append(new)
        yield name


def _log_odds(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    clipped = np.clip(probs.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
