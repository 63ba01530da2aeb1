"""The cache on disk: segments of decoded images, or of their features, found by file digest, limited, listed, cleared.

A store is a folder for one way to decode images. Its segments are folders that appear atomically and never change:
``pixels.bin`` holds the images one after another, ``digests.txt`` one line per image with the SHA-256 of its file. So
readers need no lock, a killed writer leaves a draft that nobody reads, and whole segments can be deleted at any time.
Thumbnails are in a database beside the stores.
"""

import logging
import os
import shutil
import sqlite3
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
from labelr.buckets import mirror, results
from labelr.locks import LOCK_FILE, delete_lock

PIXELS_FILE, DIGESTS_FILE = "pixels.bin", "digests.txt"
DRAFT = ".draft-"
FEATURES_PREFIX = "features-"
"""Names of stores that hold features of a backbone start like this; the others hold pixels."""
SEGMENT_BYTES = 2**26
"""Segment size, and so the most work that a killed writer loses."""
RESERVED_BYTES = 2**30
"""Disk space that is always left free."""
KINDS = ("pixels", "features", "thumbnails", "objects", "listed", "results")
"""What is in the cache."""
ABSENT = (-1, -1)
"""The place of an image that is not in the cache."""
MAX_THUMBNAIL_BYTES = 2**30
"""Size of the database of thumbnails; when it is exceeded, the oldest ones are deleted."""
DELETED_AT_ONCE = 1000
_locked: set[Path] = set()
"""Databases that could not be locked in time, as on a network drive without locks: they are not waited for again."""

Places = NDArray[np.int64]
"""The segment and the row of each of N images, shape ``(N, 2)``."""

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of the stores."""
    return files.home() / "pixels"


def find(store: Path, digests: Sequence[str], image_bytes: int) -> tuple[list[Path], Places]:
    """The segments of a store that hold some of these images, and the segment and row of each image.

    Raises:
        LabelrError: If too many files are open.
    """
    wanted, found = set(digests), dict[str, tuple[int, int]]()
    segments: list[Path] = []
    for folder in _segments(store):
        try:
            stored = _read_digests(folder)
            if (folder / PIXELS_FILE).stat().st_size != len(stored) * image_bytes:
                continue  # damaged: treated as missing
        except OSError as error:
            files.raise_if_exhausted(error)
            continue  # deleted meanwhile
        rows = {digest: row for row, digest in enumerate(stored) if digest in wanted and digest not in found}
        if rows:
            found.update((digest, (len(segments), row)) for digest, row in rows.items())
            segments.append(folder)
            _mark_used(folder)
    return segments, np.array([found.get(digest, ABSENT) for digest in digests], np.int64).reshape(-1, 2)


def read(segments: Sequence[Path], places: Places, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Reads cached images into the first axis of `images`; which of them were there.

    A single segment is open at a time: a large cache has more than a process may have files open.

    Raises:
        LabelrError: If too many files are open.
    """
    present = np.zeros(len(images), np.bool_)
    numbers, rows = places.T
    for number in set(numbers[numbers >= 0].tolist()):
        positions = np.flatnonzero(numbers == number)
        try:
            with files.open_regular(segments[number] / PIXELS_FILE) as file:
                for position in positions.tolist():
                    file.seek(int(rows[position]) * images[position].nbytes)
                    present[position] = file.readinto(images[position].data) == images[position].nbytes
        except OSError as error:
            files.raise_if_exhausted(error)
            present[positions] = False  # the segment was deleted meanwhile
        _mark_used(segments[number])
    return present


def _mark_used(segment: Path) -> None:
    """Notes that a segment is in use: the least recently used ones are deleted first."""
    with suppress(OSError):
        os.utime(segment)


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """Holds the lock for writing, and deletes the drafts of killed writers. Raises OSError if that is not possible."""
    store.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache_folder() / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another run that is filling the pixel cache")
        lock.acquire()
    try:
        for other in _stores():
            for draft in other.glob(f"{DRAFT}*"):
                shutil.rmtree(draft, ignore_errors=True)
        yield
    finally:
        # A file that stays would be a lock that is held for ever on file systems without flock, where it counts itself.
        delete_lock(cache_folder())
        lock.release()


def write(store: Path, digests: Sequence[str], images: Iterator[NDArray[np.uint8]], image_bytes: int) -> None:
    """Writes images of `image_bytes` each, with the SHA-256 of their files, as new segments, inside `writing` only.

    Raises:
        OSError: If the disk is full or gone; complete segments are kept.
    """
    per_segment = max(1, SEGMENT_BYTES // image_bytes)
    for start in range(0, len(digests), per_segment):
        chunk = digests[start : start + per_segment]
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=store))
        try:
            with (draft / PIXELS_FILE).open("wb") as file:
                for _, image in zip(chunk, images, strict=False):  # the next segment takes the rest of `images`
                    file.write(image.data)
                file.flush()
                os.fsync(file.fileno())
            (draft / DIGESTS_FILE).write_text("\n".join(chunk), encoding="ascii")
            draft.rename(store / draft.name.removeprefix(DRAFT))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def make_room(needed: int, limit: int, *, keep: Iterable[Path] = ()) -> int:
    """How many bytes may be written, after the least recently used segments were deleted as far as necessary.

    `needed` are the bytes wanted, and `limit` those of the whole cache; the segments in `keep` are not deleted.
    """
    kept = set(keep)
    sizes = {folder: _size(folder) for store in _stores() for folder in _segments(store)}
    room = min(limit - sum(sizes.values()), shutil.disk_usage(cache_folder()).free - RESERVED_BYTES)
    for folder in sorted((folder for folder in sizes if folder not in kept), key=_last_used):
        if room >= needed:
            break
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            room += sizes[folder]
    return max(0, room)


def describe() -> list[dict[str, Any]]:
    """Name, kind, number of images, bytes and time of last use of each store, the least recently used first.

    The kind is ``"pixels"``, ``"features"``, ``"thumbnails"``, or one of those of `mirror.kept`.
    """
    rows, thumbnails = [], thumbnails_file()
    if thumbnails.is_file():
        status = thumbnails.stat()
        rows.append(_row(thumbnails.name, "thumbnails", _count_thumbnails(), status.st_size, status.st_mtime))
    rows += [_row(kind, kind, number, num_bytes, used) for kind, number, num_bytes, used in mirror.kept()]
    for store in _stores():
        segments = list(_segments(store))
        kind = "features" if store.name.startswith(FEATURES_PREFIX) else "pixels"
        used = max(map(_last_used, segments), default=_last_used(store))
        rows.append(_row(store.name, kind, sum(map(_count, segments)), sum(map(_size, segments)), used))
    return sorted(rows, key=lambda row: str(row["used"]))


def _row(name: str, kind: str, images: int, num_bytes: int, used: float) -> dict[str, Any]:
    when = datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds")
    return {"name": name, "kind": kind, "images": images, "bytes": num_bytes, "used": when}


def clear() -> Mapping[str, int]:
    """Deletes all stores, but no other files in them; a run that is reading one keeps what it has opened.

    Returns:
        Of how many ``images`` the pixels were deleted, of how many the ``features``, how many ``thumbnails``,
        ``objects``, ``listed`` objects and files of ``results`` in buckets, and how many ``bytes`` in all. Results that
        are not in their bucket yet stay.

    Raises:
        LabelrError: If something cannot be deleted.
    """
    rows = describe()
    if rows:
        with files.deleting(cache_folder()), writing(cache_folder()):
            for store in _stores():
                for segment in _segments(store):
                    shutil.rmtree(segment)
                with suppress(OSError):  # it holds something else
                    store.rmdir()
            thumbnails_file().unlink(missing_ok=True)
            results.clear()
            mirror.clear()
    left = describe()
    counts = {kind: _count_images(rows, kind) - _count_images(left, kind) for kind in KINDS}
    num_bytes = sum(row["bytes"] for row in rows) - sum(row["bytes"] for row in left)
    return {"images": counts.pop("pixels"), **counts, "bytes": num_bytes}


def _count_images(rows: Iterable[Mapping[str, Any]], kind: str) -> int:
    return sum(row["images"] for row in rows if row["kind"] == kind)


def _stores() -> list[Path]:
    return _folders(cache_folder())


def _segments(store: Path) -> list[Path]:
    return [path for path in _folders(store) if not path.name.startswith(DRAFT) and _is_segment(path)]


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, but no links to others: what is behind them is not deleted."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _is_segment(folder: Path) -> bool:
    """Whether a folder holds nothing that labelr did not write; one of its files may be missing."""
    with suppress(FileNotFoundError):  # another run has deleted it
        names = {path.name for path in folder.iterdir() if not files.is_deleted(path)}
        return names <= {PIXELS_FILE, DIGESTS_FILE}
    return False


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _count(segment: Path) -> int:
    try:
        return len(_read_digests(segment))
    except OSError:  # half deleted by a killed process
        return 0


def _read_digests(segment: Path) -> list[str]:
    with files.open_regular(segment / DIGESTS_FILE) as file:
        return file.read().decode("ascii", "replace").split()


def _last_used(folder: Path) -> float:
    return folder.stat().st_mtime


# --- thumbnails -------------------------------------------------------------------------------------------------------


def thumbnails_file() -> Path:
    """The database of thumbnails."""
    return files.home() / "thumbnails.sqlite"


@contextmanager
def _thumbnails() -> Iterator[sqlite3.Connection]:
    if thumbnails_file() in _locked:
        raise sqlite3.OperationalError
    thumbnails_file().parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(thumbnails_file(), timeout=1)
    try:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA synchronous = OFF")  # what is lost is made again
        database.execute("CREATE TABLE IF NOT EXISTS thumbnails (key TEXT UNIQUE, content BLOB)")
        yield database
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            _locked.add(thumbnails_file())
        raise
    finally:
        database.close()


def get_thumbnail(digest: str, size: int) -> bytes | None:
    """The thumbnail of an edge of a file with a SHA-256; None if it is not in the cache."""
    with suppress(sqlite3.Error, OSError), _thumbnails() as database:
        row = database.execute("SELECT content FROM thumbnails WHERE key = ?", (f"{digest} {size}",)).fetchone()
        return row and bytes(row[0])
    return None


def put_thumbnail(digest: str, size: int, content: bytes) -> None:
    """Keeps a thumbnail, unless that is not possible: the cache is never needed."""
    with suppress(sqlite3.Error, OSError), _thumbnails() as database, database:
        database.execute("INSERT OR IGNORE INTO thumbnails VALUES (?, ?)", (f"{digest} {size}", content))
        if thumbnails_file().stat().st_size > MAX_THUMBNAIL_BYTES:
            query = "DELETE FROM thumbnails WHERE rowid IN (SELECT rowid FROM thumbnails ORDER BY rowid LIMIT ?)"
            database.execute(query, (DELETED_AT_ONCE,))
            database.execute("PRAGMA incremental_vacuum")


def _count_thumbnails() -> int:
    with suppress(sqlite3.Error, OSError), _thumbnails() as database:
        return int(database.execute("SELECT count(*) FROM thumbnails").fetchone()[0])
    return 0
