"""From files to batches: decodes ahead on several threads and hands pixels out in order."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from labelr.config import MAX_PIXELS, ResizeRule
from labelr.data.images import Pixels, Unreadable, read_pixels
from labelr.data.labels import Targets
from labelr.errors import LabelrError
from labelr.progress import Track, untracked

T = TypeVar("T")


def decode_in_order(
    paths: Iterable[Path], size: int, *, rule: ResizeRule = "squish", max_pixels: int = MAX_PIXELS, threads: int = 1
) -> Iterator[Pixels | Unreadable]:
    """The pixels of each file, or the reason why there are none, in the order of `paths`.

    At most ``8 * threads`` images are held at a time, however many paths there are. Pillow decodes outside the
    interpreter's lock, so threads suffice.
    """
    read = partial(read_pixels, size=size, rule=rule, max_pixels=max_pixels)
    pending: deque[Future[Pixels | Unreadable]] = deque()
    remaining = iter(paths)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        pending.extend(pool.submit(read, path) for path in islice(remaining, 8 * threads))
        while pending:
            done = pending.popleft().result()
            pending.extend(pool.submit(read, path) for path in islice(remaining, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def decode_all(
    paths: Sequence[Path],
    size: int,
    *,
    rule: ResizeRule = "squish",
    max_pixels: int = MAX_PIXELS,
    threads: int = 1,
    track: Track = untracked,
) -> NDArray[np.uint8]:
    """The pixels of all files in memory, shape ``(N, size, size, 3)``.

    Raises:
        LabelrError: If one does not open (they were seen to do so before), or memory does not suffice.
    """
    try:
        pixels = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    except MemoryError as error:
        needed = len(paths) * size * size * 3 / 2**30
        raise LabelrError(f"no memory for {needed:.1f} GiB of pixels", "use a smaller `--image-size`") from error
    decoded = decode_in_order(paths, size, rule=rule, max_pixels=max_pixels, threads=threads)
    for row, image in enumerate(track(decoded, "decoding", len(paths))):
        if isinstance(image, Unreadable):
            raise LabelrError(f"{paths[row]} has changed since it was first read: {image.reason}", "run it again")
        pixels[row] = image
    return pixels


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def leave_signals_to_parent(worker: int) -> None:  # noqa: ARG001 - as DataLoader calls it
    """Lets a worker process ignore Ctrl-C, which its parent answers by ending it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Batch(NamedTuple):
    """What makes a batch: a seed for its random changes, and the rows it is of."""

    seed: int
    rows: NDArray[np.int64]


class TrainImages(Dataset[tuple[Tensor, Tensor]]):
    """Training images in memory, handed out in whole batches that have been changed at random.

    Args:
        pixels: N images a margin larger than the network sees them, uint8, shape ``(N, M, M, 3)``.
        targets: 1, 0 or NaN, shape ``(N, L)``.
        augment: Changes a batch ``(B, 3, M, M)`` to ``(B, 3, S, S)`` by torch's global random state.
    """

    def __init__(self, pixels: NDArray[np.uint8], targets: Targets, augment: Callable[[Tensor], Tensor]) -> None:
        self.pixels = torch.from_numpy(pixels)
        self.targets = torch.from_numpy(targets)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images ``(B, 3, S, S)``, uint8, and targets ``(B, L)``."""
        torch.manual_seed(batch.seed)
        rows = torch.from_numpy(batch.rows)
        return self.augment(self.pixels[rows].permute(0, 3, 1, 2)), self.targets[rows]
