"""The pixel cache on disk: segments of decoded images, found by digest, kept within a limit, listed and cleared.

A store is a folder for one way to make pixels. Its segments are folders that appear in one piece and never change:
``pixels.bin`` holds images one after the other, ``digests.txt`` a line for each, the SHA-256 of the file it came from.
So a reader needs no lock, a killed writer leaves a draft that nobody reads, and whole segments can be thrown away.
"""

import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from labelr import files

PIXELS_FILE, DIGESTS_FILE, LOCK_FILE = "pixels.bin", "digests.txt", ".lock"
DRAFT = ".draft-"
SEGMENT_BYTES = 2**26
"""A writer that is killed loses at most so much of its work."""
SPARED_BYTES = 2**30
"""So much of the disk is left to others."""

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where the stores are."""
    return files.home() / "pixels"


class Segment:
    """The images of one segment, mapped into memory when one is first asked for.

    Args:
        folder: The segment.
        shape: Of one image.
        count: How many it holds.

    Raises:
        OSError: If its file is not there or not of the length that it should have.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], count: int) -> None:
        self.folder = folder
        with (folder / PIXELS_FILE).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._map) != count * int(np.prod(shape)):
            raise OSError(f"{folder} is damaged")
        self.images = np.frombuffer(self._map, dtype=np.uint8).reshape(count, *shape)

    def release(self) -> None:
        """Lets the system take back the memory of what was read, so that a run needs no more for more images."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def find(
    store: Path, digests: Iterable[str], shape: tuple[int, ...]
) -> tuple[list[Segment], dict[str, tuple[int, int]]]:
    """The segments of a store that hold some of these images, and for each digest found its segment and row there."""
    wanted = set(digests)
    segments: list[Segment] = []
    places: dict[str, tuple[int, int]] = {}
    for folder in _segments(store):
        with suppress(OSError, ValueError):  # cleared meanwhile, or damaged: as good as not there
            held = (folder / DIGESTS_FILE).read_text(encoding="ascii").split()
            rows = {digest: row for row, digest in enumerate(held) if digest in wanted and digest not in places}
            if rows:
                segment = Segment(folder, shape, len(held))
                places.update((digest, (len(segments), row)) for digest, row in rows.items())
                segments.append(segment)
                os.utime(folder)  # used now: the last to go
    return segments, places


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """The one right to write into the cache; waits for it, and clears away what killed writers have left.

    Raises:
        OSError: If the cache cannot be written.
    """
    store.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache_folder() / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another run that is filling the pixel cache")
        lock.acquire()
    try:
        for draft in cache_folder().glob(f"*/{DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)
        yield
    finally:
        lock.release()


def write(store: Path, digests: Sequence[str], images: Iterator[NDArray[np.uint8]], image_bytes: int) -> None:
    """Writes images as new segments. Only inside of `writing`.

    Args:
        store: The store.
        digests: Of the files that the images came from.
        images: As many, all of one shape.
        image_bytes: The size of each.

    Raises:
        OSError: If the disk is full or gone; whole segments stay.
    """
    each = max(1, SEGMENT_BYTES // image_bytes)
    for start in range(0, len(digests), each):
        chunk = digests[start : start + each]
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=store))
        try:
            with (draft / PIXELS_FILE).open("wb") as file:
                for _, image in zip(chunk, images, strict=False):  # `images` goes on in the next segment
                    file.write(image.data)
                file.flush()
                os.fsync(file.fileno())
            (draft / DIGESTS_FILE).write_text("\n".join(chunk), encoding="ascii")
            draft.rename(store / draft.name.removeprefix(DRAFT))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def make_room(needed: int, limit: int, *, spared: Iterable[Path] = ()) -> int:
    """How many bytes may be written, after segments were thrown away that were not used for longest.

    Args:
        needed: The bytes wanted.
        limit: The bytes that the whole cache may have.
        spared: Segments that must stay.
    """
    kept = set(spared)
    sizes = {folder: _size(folder) for store in _stores() for folder in _segments(store)}
    room = min(limit - sum(sizes.values()), shutil.disk_usage(cache_folder()).free - SPARED_BYTES)
    for folder in sorted((folder for folder in sizes if folder not in kept), key=_last_used):
        if room >= needed:
            break
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            room += sizes[folder]
    return max(0, room)


def describe() -> list[dict[str, Any]]:
    """The stores: name, number of images, bytes, and when each was last used, the oldest first."""
    rows = []
    for store in _stores():
        segments = list(_segments(store))
        used = max(map(_last_used, segments), default=_last_used(store))
        rows.append({
            "name": store.name,
            "images": sum(_count(folder) for folder in segments),
            "bytes": sum(map(_size, segments)),
            "used": datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds"),
        })  # fmt: skip
    return sorted(rows, key=lambda row: str(row["used"]))


def clear() -> Mapping[str, int]:
    """Throws all stores away; runs that read them now keep what they have opened.

    Returns:
        How many ``images`` and ``bytes`` there were.

    Raises:
        LabelrError: If something cannot be deleted.
    """
    rows = describe()
    if rows:
        with files.writing(cache_folder()), writing(cache_folder()):
            for store in _stores():
                files.remove_folder(store)
    return {key: sum(row[key] for row in rows) for key in ("images", "bytes")}


def _stores() -> list[Path]:
    folder = cache_folder()
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _segments(store: Path) -> list[Path]:
    if not store.is_dir():
        return []
    return sorted(path for path in store.iterdir() if path.is_dir() and not path.name.startswith(DRAFT))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _count(segment: Path) -> int:
    try:
        return len((segment / DIGESTS_FILE).read_text(encoding="ascii").split())
    except (OSError, ValueError):  # a process was killed while it deleted the segment, or it is damaged
        return 0


def _last_used(folder: Path) -> float:
    return folder.stat().st_mtime
