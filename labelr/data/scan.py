"""Looks once at every image file: its content digest, its fingerprint, and whether it opens.

What was seen is remembered by path, size and times of change, so that the next run does not read every byte again.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labelr import files
from labelr.config import MAX_PIXELS
from labelr.data.duplicates import PROBE_SIZE, fingerprint
from labelr.data.images import Unreadable, content_digest, decode, open_file
from labelr.progress import Track, untracked

log = logging.getLogger(__name__)

SETTLED_SECONDS = 2.0
"""A file changed less than this ago is not remembered: it could change again within the clock's resolution."""
REMEMBERED_AT_ONCE = 1000
"""A process that is killed has to read at most so many images again."""

_TABLE = """
CREATE TABLE IF NOT EXISTS scans_4 (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, max_pixels INTEGER, digest TEXT,
    fingerprint TEXT, width INTEGER, height INTEGER, format TEXT, mode TEXT
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Scanned:
    """What a look at an image file gave.

    Attributes:
        digest: SHA-256 of its content, in hexadecimal; empty where the file cannot be read.
        fingerprint: Its perceptual hash of 64 bits; None where it has none.
        reason: Why it cannot be opened as an image; empty where it can.
        width: Of the picture as it is seen, in pixels; 0 where it does not open.
        height: Likewise.
        format: Of the file, such as ``JPEG``.
        mode: Of its pixels as Pillow calls it, such as ``RGB``.
    """

    digest: str
    fingerprint: int | None = None
    reason: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""


def scan_images(
    paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS, threads: int = 1, track: Track = untracked
) -> list[Scanned]:
    """A look at each file, in the order of `paths`; files that have not changed since the last time are not read."""
    keys = [_key(path, max_pixels) for path in paths]
    found = _recall(keys)
    unseen = [row for row, one in enumerate(found) if one is None]
    log.debug("%s of %s images have not changed since they were last read", len(paths) - len(unseen), len(paths))
    with _pool(threads) as pool:
        results = pool.map(partial(_scan, max_pixels=max_pixels), [paths[row] for row in unseen])
        fresh: list[tuple[_Key | None, Scanned]] = []
        try:
            for row, scanned in zip(unseen, track(results, "reading images", len(unseen)), strict=True):
                found[row] = scanned
                fresh.append((keys[row], scanned))
                if len(fresh) == REMEMBERED_AT_ONCE:
                    _remember(fresh)
                    fresh.clear()
        finally:
            _remember(fresh)
    return [one for one in found if one is not None]


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that does not finish its work first when it is left by an error or a signal."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _scan(path: Path, max_pixels: int) -> Scanned:
    file = open_file(path)
    if isinstance(file, Unreadable):
        return Scanned("", reason=file.reason)
    with file:
        digest = content_digest(file)
        if isinstance(digest, Unreadable):
            return Scanned("", reason=digest.reason)
        decoded = decode(file, PROBE_SIZE, max_pixels=max_pixels)
    if isinstance(decoded, Unreadable):
        return Scanned(digest, reason=decoded.reason)
    return Scanned(digest, fingerprint(decoded.pixels), "", *decoded[1:])


_Key = tuple[bytes, int, int, int, int]


def _key(path: Path, max_pixels: int) -> _Key | None:
    """What a file is remembered by; None for one that is not there, or has only just changed."""
    try:
        status = path.stat()
    except OSError:
        return None
    if time.time() - status.st_mtime < SETTLED_SECONDS:
        return None
    # the time of change of its name, too: files that swap names may have one size and one time
    times = status.st_mtime_ns, status.st_ctime_ns
    return os.fsencode(os.path.abspath(path)), status.st_size, *times, max_pixels


def _memory() -> sqlite3.Connection:
    folder = files.home()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "scans.sqlite", timeout=10)
    connection.execute("DROP TABLE IF EXISTS scans_3")  # of an earlier labelr
    connection.execute(_TABLE)
    return connection


def _recall(keys: Sequence[_Key | None]) -> list[Scanned | None]:
    """What is remembered of each file, if anything; a memory that cannot be read is as good as none."""
    query = (
        "SELECT digest, fingerprint, width, height, format, mode FROM scans_4 "
        "WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ? AND max_pixels = ?"
    )
    found: list[Scanned | None] = [None] * len(keys)
    try:
        with closing(_memory()) as memory:
            for row, key in enumerate(keys):
                seen = memory.execute(query, key).fetchone() if key else None
                if seen:
                    digest, hexadecimal, *shape = seen
                    found[row] = Scanned(digest, int(hexadecimal, 16) if hexadecimal else None, "", *shape)
    except (sqlite3.Error, OSError, ValueError):
        return [None] * len(keys)
    return found


def _remember(seen: Sequence[tuple[_Key | None, Scanned]]) -> None:
    """Keeps what was seen of images that open; the others are looked at again, since a decoder may come to help."""
    rows = [
        (
            *key,
            one.digest,
            f"{one.fingerprint:x}" if one.fingerprint is not None else "",
            one.width,
            one.height,
            one.format,
            one.mode,
        )
        for key, one in seen
        if key and not one.reason
    ]
    try:
        with closing(_memory()) as memory, memory:
            memory.executemany("REPLACE INTO scans_4 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    except (sqlite3.Error, OSError):
        return
