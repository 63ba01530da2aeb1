"""Prefetching: a function mapped over items on threads, ahead of their use and in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """The function's result for each item, in the order of the items.

    At most `ahead` results are pending or held at a time. The function should release the GIL most of the time, as
    Pillow does while it decodes.
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


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`; the last may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
