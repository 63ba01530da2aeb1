"""The processors that this process may use, threads that share them, and work that threads do ahead of its use."""

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MAX_ON_WINDOWS = 61
"""The most threads that Windows waits for together."""
LIMIT = "LOKY_MAX_CPU_COUNT"
"""The variable of joblib that sets an upper limit."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of a container: in ``cpu.max``, or in two files in version 1."""


def count_processors(cgroup: Path = CGROUP) -> int:
    """The least of the processors of the machine, the affinity, the limit of the container, and `LIMIT`; at least 1.

    joblib counts them alike, but takes longer to import than numpy.
    """
    counts = [os.cpu_count() or 1, *_quota(cgroup)]
    if sys.platform == "win32":
        counts.append(MAX_ON_WINDOWS)
    elif sys.platform == "linux":
        counts.append(len(os.sched_getaffinity(0)))
    limit = os.environ.get(LIMIT, "")
    if limit.isdecimal():
        counts.append(int(limit))
    return max(1, min(counts))


def _quota(cgroup: Path) -> list[int]:
    """The processors of a container, rounded up; none without a limit."""
    with suppress(OSError, ValueError):
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        if int(quota) > 0:  # else "max", or -1
            return [math.ceil(int(quota) / int(period))]
    return []


class Processors:
    """A processor, as a context: a thread that decodes or computes waits for one while all are taken by others.

    Threads that decode images for the next step and threads that compute this one share the processors that this
    process may use. A thread that holds one must not ask for another.
    """

    _free = threading.Condition()
    _used = 0
    _limit = sys.maxsize

    @classmethod
    def set_limit(cls, count: int) -> None:
        """Sets the number of processors, from now on."""
        with cls._free:
            cls._limit = count
            cls._free.notify_all()

    @classmethod
    @contextmanager
    def shared_by(cls, processes: int) -> Iterator[None]:
        """Leaves a fair share of the processors to other processes inside the block."""
        before = cls._limit
        cls.set_limit(max(1, before // processes))
        try:
            yield
        finally:
            cls.set_limit(before)

    def __enter__(self) -> Self:
        with self._free:
            self._free.wait_for(lambda: Processors._used < Processors._limit)
            Processors._used += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._free:
            Processors._used -= 1
            self._free.notify()


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
