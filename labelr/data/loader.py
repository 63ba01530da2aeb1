"""Work done ahead on threads and handed out in order: files decoded, batches gathered."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from labelr.config import MAX_PIXELS, ResizeRule
from labelr.data.images import Pixels, Unreadable, read_pixels

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """The function's result for each item, in the order of the items.

    At most `ahead` results are held or under way at a time, however many items there are. What is called should leave
    the interpreter's lock alone most of the time, as Pillow does while it decodes.
    """
    pending: deque[Future[R]] = deque()
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        pending.extend(pool.submit(function, item) for item in islice(remaining, ahead))
        while pending:
            done = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def decode_in_order(
    paths: Iterable[Path], size: int, *, rule: ResizeRule = "squish", max_pixels: int = MAX_PIXELS, threads: int = 1
) -> Iterator[Pixels | Unreadable]:
    """The pixels of each file, or the reason why there are none, in the order of `paths`."""
    read = partial(read_pixels, size=size, rule=rule, max_pixels=max_pixels)
    return map_ahead(read, paths, threads=threads, ahead=8 * threads)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
