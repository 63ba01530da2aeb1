"""Thumbnails as JPEG, and their cache on disk by the content of the image files, which is limited and cleared."""

import io
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from labelr import files
from labelr.data.strips import Pixels

SMALL_BYTES, QUALITIES_OF_SMALL = 16_000, (78, 55, 35, 15)
"""The bytes of a thumbnail in a page of many, which keep a page of noisy images small, too, and how it is encoded."""
MAX_BYTES = 2**30
"""Size of the cache; when it is exceeded, the oldest thumbnails are deleted."""
DELETED_AT_ONCE = 1000
_locked: set[Path] = set()
"""Caches that could not be locked in time, as on a network drive without locks: they are not waited for again."""


def cache_file() -> Path:
    """The database of thumbnails."""
    return files.home() / "thumbnails.sqlite"


def encode_jpeg(pixels: Pixels, qualities: Sequence[int] = (85,)) -> bytes:
    """The pixels as JPEG in the first of some qualities that takes at most `SMALL_BYTES`, else in the last one."""
    content = b""
    for quality in qualities:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
        if len(content) <= SMALL_BYTES:
            break
    return content


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    if cache_file() in _locked:
        raise sqlite3.OperationalError
    cache_file().parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(cache_file(), timeout=1)
    try:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA synchronous = OFF")  # what is lost is made again
        database.execute("CREATE TABLE IF NOT EXISTS thumbnails (key TEXT UNIQUE, content BLOB)")
        yield database
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            _locked.add(cache_file())
        raise
    finally:
        database.close()


def get(digest: str, size: int) -> bytes | None:
    """The thumbnail of an edge of a file with a SHA-256; None if it is not in the cache."""
    with suppress(sqlite3.Error, OSError), _connected() as database:
        row = database.execute("SELECT content FROM thumbnails WHERE key = ?", (f"{digest} {size}",)).fetchone()
        return row and bytes(row[0])
    return None


def put(digest: str, size: int, content: bytes) -> None:
    """Keeps a thumbnail, unless that is not possible: the cache is never needed."""
    with suppress(sqlite3.Error, OSError), _connected() as database, database:
        database.execute("INSERT OR IGNORE INTO thumbnails VALUES (?, ?)", (f"{digest} {size}", content))
        if cache_file().stat().st_size > MAX_BYTES:
            query = "DELETE FROM thumbnails WHERE rowid IN (SELECT rowid FROM thumbnails ORDER BY rowid LIMIT ?)"
            database.execute(query, (DELETED_AT_ONCE,))
            database.execute("PRAGMA incremental_vacuum")


def count() -> int:
    """The number of thumbnails in the cache."""
    with suppress(sqlite3.Error, OSError):
        if cache_file().is_file():
            with _connected() as database:
                return int(database.execute("SELECT count(*) FROM thumbnails").fetchone()[0])
    return 0
