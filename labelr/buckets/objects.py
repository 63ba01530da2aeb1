"""The content of objects: brought when it is opened, ahead of that on threads, kept within a limit, released after use.

The content of a stand-in is kept by its path, size and time, which stand for the address, size and etag of its object.
"""

import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from labelr import files
from labelr.buckets.addresses import MIRROR, THREADS, Address, address_of, call, connect, root

T = TypeVar("T")

MAX_AHEAD, MAX_AHEAD_BYTES = 2 * THREADS, 2**28
"""How many objects, and about how many bytes, are read before they are needed."""
MIN_BYTES = 4 * MAX_AHEAD_BYTES
"""The lowest limit of what is kept: less could be deleted before it is opened."""
RESERVED_BYTES = 2**30
"""Disk space that is always left free."""
OLD_SECONDS = 86_400
"""After this time, an unfinished file is of a process that was killed."""
_SHARE_AFTER_TRIM = 0.9
"""Which share of the limit is in use after the least recently used contents were deleted."""


class Store:
    """The folder of contents, how large it is, and the `limit` of bytes that are kept."""

    def __init__(self) -> None:
        self.limit = 20 * 10**9
        self._size: int | None = None
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """The folder, with a folder for each first byte of a digest."""
        return root("objects")

    def take(self, size: int) -> None:
        """Makes room for `size` bytes that are about to be written: the least recently used contents are deleted."""
        with self._lock:
            if self._size is None:
                self._size = files.folder_size(self.folder)
            free = shutil.disk_usage(files.make_folder(self.folder)).free
            self._size += size
            if self._size > self.limit or free - size < RESERVED_BYTES:
                self._trim(min(int(self.limit * _SHARE_AFTER_TRIM), self._size - (RESERVED_BYTES + size - free)))

    def _trim(self, limit: int) -> None:
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):  # another process has deleted it
                status = path.stat()
                if not files.is_draft(path) or time.time() - status.st_mtime > OLD_SECONDS:
                    found.append((status.st_mtime_ns, status.st_size, path))
        for _, size, path in sorted(found):
            if self._size is None or self._size <= limit:
                break
            with suppress(OSError):
                path.unlink()
            self._size -= size

    def delete(self, path: Path) -> None:
        """Deletes a content, if it is there."""
        with suppress(OSError), self._lock:
            size = path.stat().st_size
            path.unlink()
            self._size = max(0, (self._size or 0) - size)


STORE = Store()


def limit_to(num_bytes: float) -> None:
    """Sets how many bytes of contents are kept, but to no less than are read ahead."""
    STORE.limit = max(round(num_bytes), MIN_BYTES)


def kept() -> list[Path]:
    """The contents that are kept on this machine, the least recently used first."""
    found = (path for path in STORE.folder.glob("*/*") if not files.is_draft(path))
    return sorted(found, key=lambda path: path.stat().st_mtime)


_ahead: dict[Path, Future[Path]] = {}
"""The contents that are being brought ahead of their use, by their stand-ins."""
_fresh: set[Path] = set()
"""The contents that this process has brought."""


def bring(path: Path) -> Path:
    """The file with the content of the object that a stand-in stands for.

    Raises:
        OSError: If the object cannot be read; its text is the reason.
        LabelrError: If there is no space for it.
    """
    future = _ahead.pop(path, None)
    if future is not None:
        with suppress(CancelledError):
            found = future.result()
            if found.exists():  # else it was deleted to make room
                return found
    return _bring(path)


def _bring(path: Path) -> Path:
    place, size = _place_of(path), path.stat().st_size
    address = address_of(path)
    if place.exists() or address is None:
        with suppress(OSError):
            os.utime(place)  # the least recently used ones are deleted first
        return place
    STORE.take(size)
    save(address, place, size)
    _fresh.add(place)
    return place


def save(address: Address, place: Path, size: int) -> None:
    """Saves an object of some bytes as a file, which is replaced as a whole.

    Raises:
        OSError: If the object cannot be read; its text is the reason.
        LabelrError: If the file cannot be written.
    """
    with files.writing(files.home()):  # messages would show the address in place of the file
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=files.DRAFT_PREFIX, suffix=files.DRAFT_SUFFIX, dir=place.parent)
        os.close(handle)
    draft = Path(name)

    def download() -> None:
        system, key = connect(address)
        system.get_file(key, name)
        received = draft.stat().st_size
        if received != size:
            raise OSError(f"{received:,} of {size:,} bytes received")

    try:
        call(download)
        with files.writing(files.home()):
            draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


def _place_of(path: Path) -> Path:
    status = path.stat()
    key = f"{path.relative_to(root(MIRROR)).as_posix()} {status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()
    return STORE.folder / digest[:2] / digest[2:40]


def release(path: Path) -> None:
    """Deletes the content of a stand-in that this process has brought, and that is not needed again."""
    if files.is_elsewhere(path):
        with suppress(OSError):
            place = _place_of(path)
            if place in _fresh:
                _fresh.discard(place)
                STORE.delete(place)


def read_ahead(items: Iterable[T], path_of: Callable[[T], Path | None]) -> Iterator[T]:
    """The items, while the contents of the next ones are brought on threads.

    `path_of` gives the file that is opened for an item; None if none is.
    """
    if not files.contents:
        yield from items
        return
    waiting: deque[tuple[T, int]] = deque()
    num_bytes = 0
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
    is_done = False
    try:
        for item in items:
            path, size = path_of(item), 0
            if path is not None and files.is_elsewhere(path) and path not in _ahead:
                with suppress(OSError):  # it is gone
                    size = path.stat().st_size
                _ahead[path] = pool.submit(_bring, path)
            waiting.append((item, size))
            num_bytes += size
            while waiting and (len(waiting) > MAX_AHEAD or num_bytes > MAX_AHEAD_BYTES):
                first, taken = waiting.popleft()
                num_bytes -= taken
                yield first
        yield from (item for item, _ in waiting)
        is_done = True
    finally:
        pool.shutdown(wait=False, cancel_futures=not is_done)
