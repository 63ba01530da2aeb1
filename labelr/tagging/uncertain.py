"""Which images are worth labelling next: those that the model is least certain of, of all labels, and no two alike."""

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr.data.duplicates import MAX_DISTANCE, PROBE_SIZE, fingerprint
from labelr.data.images import Unreadable, read_pixels
from labelr.tagging.choice import Choice
from labelr.tagging.writers import Tagged

UNCERTAIN_FILE = "uncertain.csv"
CANDIDATES = 4
"""For each label so many times as many images are looked at as it may get, since copies fall out."""


def most_uncertain(images: Iterable[Tagged], choice: Choice, base: Path, count: int, *, max_pixels: int) -> list[str]:
    """The images that lie nearest to their thresholds, one for each label in turn, near-duplicates only once.

    Nearness is the distance of log-odds, so that it means the same at a low threshold and in the middle.

    Args:
        images: Those to choose from; gone through once, so that there may be any number.
        choice: Their labels and thresholds.
        base: The folder that their names are relative to.
        count: How many are wanted.
        max_pixels: A picture with more pixels is like no other.

    Returns:
        Names, at most `count`, the least certain of each round first.
    """
    num_labels = len(choice.labels)
    share = -(-count // num_labels)
    thresholds = _log_odds(choice.thresholds)
    nearest: list[list[tuple[float, str]]] = [
        [] for _ in range(num_labels)
    ]  # of each label a heap, the farthest on top
    for image in images:
        for column, distance in enumerate(np.abs(_log_odds(image.probs) - thresholds).tolist()):
            _keep_nearest(nearest[column], (-distance, image.result.name), max(CANDIDATES * share, 2 * num_labels))
    return list(_first_unlike(_in_turn(nearest), base, count, max_pixels))


def _keep_nearest(heap: list[tuple[float, str]], item: tuple[float, str], most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, item)
    elif item > heap[0]:
        heapq.heapreplace(heap, item)


def _in_turn(nearest: list[list[tuple[float, str]]]) -> Iterator[str]:
    """The names of all labels' images, round after round one of each label, the nearest first in a round."""
    ordered = [sorted(heap, reverse=True) for heap in nearest]
    seen = set()
    for turn in range(max(map(len, ordered), default=0)):
        for _, name in sorted((images[turn] for images in ordered if turn < len(images)), reverse=True):
            if name not in seen:
                seen.add(name)
                yield name


def _first_unlike(names: Iterable[str], base: Path, count: int, max_pixels: int) -> Iterator[str]:
    """The first names whose images are not near-duplicates of one before."""
    taken: list[int] = []
    for name in names:
        if count == 0:
            return
        pixels = read_pixels(base / name, PROBE_SIZE, max_pixels=max_pixels)
        print_ = None if isinstance(pixels, Unreadable) else fingerprint(pixels)
        if print_ is not None and any((print_ ^ other).bit_count() <= MAX_DISTANCE for other in taken):
            continue
        if print_ is not None:
            taken.append(print_)
        count -= 1
        yield name


def _log_odds(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    clipped = np.clip(probs.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
