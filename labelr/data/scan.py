"""Scans image files: content digest, perceptual fingerprint, size, and whether each one opens.

Results are remembered by path, size and times of change, so that the next run does not read every byte again.
"""

import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from labelr import files
from labelr.buckets.objects import read_ahead
from labelr.config import MAX_PIXELS
from labelr.data.duplicates import PROBE_SIZE, fingerprint
from labelr.data.images import UnreadableError, content_digest, decode, open_file
from labelr.data.value_range import Levels
from labelr.errors import pluralize_part
from labelr.processors import map_ahead
from labelr.progress import Track, untracked

log = logging.getLogger(__name__)

DATABASE_FILE = "scans.sqlite"
LOCK_SECONDS = 10
"""How long another process that saves its scans is waited for."""
SETTLED_SECONDS = 2.0
"""A file changed less than this ago is not remembered: it could change again within the clock's resolution."""
SAVE_EVERY = 1000
"""Results are saved after this many images, so that a killed process loses no more."""
VERSION = 6
"""Increased whenever labelr finds out other things about a file than before."""


@dataclass(frozen=True)
class Scan:
    """What was found out about an image file.

    Attributes:
        digest: SHA-256 of its content, in hexadecimal; empty where the file cannot be read.
        fingerprint: Its perceptual hash of 64 bits; None where it has none.
        reason: Why it cannot be opened as an image; empty where it can.
        width: After EXIF orientation, in pixels; 0 where it does not open.
        height: After EXIF orientation, in pixels; 0 where it does not open.
        format: The file format, such as ``JPEG``.
        mode: The pixel mode as Pillow names it, such as ``RGB``.
        note: What is not used of the file, for the user; empty if all is used.
        levels: The lowest and highest value of an image of more than 8 bits a sample; None for others.
    """

    digest: str
    fingerprint: int | None = None
    reason: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    note: str = ""
    levels: Levels | None = None

    @classmethod
    def of_json(cls, text: str) -> Self:
        """The scan that `_save` wrote as JSON. Raises ValueError or TypeError."""
        values: dict[str, Any] = {  # the same few formats and modes of all images, each kept once
            name: sys.intern(value) if isinstance(value, str) and name != "digest" else value
            for name, value in json.loads(text).items()
        }
        scan = cls(**values)
        return scan if scan.levels is None else replace(scan, levels=Levels(*scan.levels))


def scan_images(
    paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS, threads: int = 1, track: Track = untracked
) -> list[Scan]:
    """The scan of each file, in the order of `paths`; files that have not changed since the last scan are not read."""
    keys = [_key(path, max_pixels) for path in paths]
    try:
        scans = _load(keys)
    except sqlite3.OperationalError as error:
        scans, keys = [None] * len(keys), [None] * len(keys)  # each attempt to save would wait for the lock again
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            log.warning(
                "%s cannot be locked, so that all images are read each time: set LABELR_HOME to a folder on a local "
                "disk, or mount the network drive with locks", files.home() / DATABASE_FILE,
            )  # fmt: skip
    pending = [row for row, scan in enumerate(scans) if scan is None]
    unchanged = pluralize_part(len(paths) - len(pending), len(paths), "image")
    log.debug("%s unchanged since they were last read", unchanged)
    scan_file = partial(_scan, max_pixels=max_pixels)
    files_ahead = read_ahead([paths[row] for row in pending], lambda path: path)
    with closing(map_ahead(scan_file, files_ahead, threads=threads, ahead=8 * threads)) as results:
        unsaved: list[tuple[_Key | None, Scan]] = []
        try:
            for row, scan in zip(pending, track(results, "reading images", len(pending)), strict=True):
                scans[row] = scan
                unsaved.append((keys[row], scan))
                if len(unsaved) == SAVE_EVERY:
                    _save(unsaved)
                    unsaved.clear()
        finally:
            _save(unsaved)
    return [scan for scan in scans if scan is not None]


def _scan(path: Path, max_pixels: int) -> Scan:
    digest = ""
    try:
        with open_file(path) as file:
            digest = content_digest(file)
            decoded = decode(file, PROBE_SIZE, max_pixels=max_pixels, value_range="own")
    except UnreadableError as error:
        return Scan(digest, reason=str(error))
    pages = "only the first of several pages or frames is read" if decoded.pages else ""
    note = "; ".join(filter(None, [pages, decoded.note]))
    return Scan(digest, fingerprint(decoded.pixels), "", *decoded[1:5], note, decoded.levels)


_Key = tuple[bytes, str]
"""The path of a file, and the state in which it was scanned."""


def _key(path: Path, max_pixels: int) -> _Key | None:
    """The key of a file in the database; None for one that is missing, or has only just changed."""
    try:
        size, mtime_ns, ctime_ns = files.state_of(path)
    except OSError:
        return None
    if ctime_ns and time.time() - mtime_ns / 1e9 < SETTLED_SECONDS:
        return None
    # ctime changes when a file is renamed: files that swap names may agree in size and mtime
    state = f"{size} {mtime_ns} {ctime_ns} {max_pixels} {VERSION}"
    return os.fsencode(os.path.abspath(path)), state


def _connect() -> sqlite3.Connection:
    folder = files.home()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / DATABASE_FILE, timeout=LOCK_SECONDS)
    connection.execute("CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, state TEXT, scan TEXT) WITHOUT ROWID")
    return connection


def _load(keys: Sequence[_Key | None]) -> list[Scan | None]:
    """The saved scans, None for none; a damaged database counts as empty. Raises OperationalError if it is locked."""
    query = "SELECT scan FROM images WHERE path = ? AND state = ?"
    try:
        with closing(_connect()) as connection:
            saved = [connection.execute(query, key).fetchone() if key else None for key in keys]
        return [Scan.of_json(row[0]) if row else None for row in saved]
    except sqlite3.OperationalError:
        raise
    except (sqlite3.Error, OSError, ValueError, TypeError):
        return [None] * len(keys)


def _save(scans: Sequence[tuple[_Key | None, Scan]]) -> None:
    """Saves the scans of images that open; the others are scanned again, since a decoder may get installed."""
    rows = [(*key, json.dumps(vars(scan))) for key, scan in scans if key and not scan.reason]
    if not rows:
        return
    with suppress(sqlite3.Error, OSError), closing(_connect()) as connection, connection:
        connection.executemany("REPLACE INTO images VALUES (?, ?, ?)", rows)
