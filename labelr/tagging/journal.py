"""What is known of each image, kept in the output directory, so that the same command goes on where it was stopped."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr.errors import LabelrError

FOLDER = ".labelr"
"""Of the journal and its lock, in the output directory."""
FORMAT = 1
COMMIT_SECONDS = 1.0
"""A process that is killed loses at most so much of its work, and what is under way."""
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT, width INTEGER, height INTEGER, reason TEXT,
    probs BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (place INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS claimed (name BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class Result(NamedTuple):
    """What is known of an image.

    Attributes:
        name: Its path relative to the folder of all.
        size: Of its file, in bytes.
        mtime_ns: When the file was last changed.
        digest: SHA-256 of the file, in hexadecimal; empty where it cannot be read.
        width: Of the picture as it is seen, in pixels; 0 where it does not open.
        height: Likewise.
        reason: Why it does not open, or its result cannot be written; empty where all is well.
        probs: Of every label of the model, shape ``(L,)``; none where it does not open.
    """

    name: str
    size: int
    mtime_ns: int
    digest: str
    width: int
    height: int
    reason: str
    probs: NDArray[np.float32]

    @property
    def failed(self) -> bool:
        """Whether nothing can be written of it but the reason."""
        return bool(self.reason)


class Journal:
    """The results of a folder of images, in a database that survives whatever becomes of the process.

    Args:
        output: The output directory.
    """

    def __init__(self, output: Path) -> None:
        self.path = output / FOLDER / "journal.sqlite"
        self._committed = time.monotonic()
        with self._told():
            self._database = sqlite3.connect(self.path, timeout=10)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # so that it works on a network's disk too
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_TABLES)
            self._database.execute("INSERT OR IGNORE INTO facts VALUES ('format', ?)", (str(FORMAT),))
            self._database.commit()
        if self._fact("format") != str(FORMAT):
            raise LabelrError(
                f"the results in {output} are of another version of labelr", "replace them with `--force`"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what the database says into a sentence for the user."""
        try:
            yield
        except sqlite3.Error as error:
            raise LabelrError(
                f"cannot write {self.path}: {error}", "free some space, or name another directory with `--output`"
            ) from error

    def _fact(self, name: str) -> str | None:
        with self._told():
            row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    @property
    def made_by(self) -> dict[str, Any]:
        """What the results depend on beside the images, as it was noted; nothing in a new journal."""
        return dict(json.loads(self._fact("made by") or "{}"))

    @property
    def is_complete(self) -> bool:
        """Whether the last run came to its end."""
        return self._fact("complete") == "yes"

    def begin(self, made_by: Mapping[str, Any]) -> None:
        """Begins a run: nothing is found yet, and what was known before may be used."""
        facts = {"made by": json.dumps(made_by), "complete": "no"}
        with self._told(), self._database:
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
            self._database.execute("DELETE FROM found")

    def end(self) -> None:
        """Notes that the run came to its end, and forgets what `vanished` gives."""
        with self._told(), self._database:
            for table in ("results", "claimed"):
                self._database.execute(f"DELETE FROM {table} WHERE name NOT IN (SELECT name FROM found)")  # noqa: S608
            self._database.execute("REPLACE INTO facts VALUES ('complete', 'yes')")

    def get(self, name: str) -> Result | None:
        """What is known of an image."""
        with self._told():
            row = self._database.execute("SELECT * FROM results WHERE name = ?", (os.fsencode(name),)).fetchone()
        return None if row is None else _result(row)

    def claim(self, name: str) -> bool:
        """Notes at once that the files of an image are going to be written; whether that was noted before."""
        with self._told():
            added = self._database.execute("INSERT OR IGNORE INTO claimed VALUES (?)", (os.fsencode(name),)).rowcount
            if added:
                self._database.commit()
        return not added

    def put(self, result: Result) -> None:
        """Keeps that an image was found, next in order, and what it gave; on disk after a second at most."""
        with self._told():
            self._database.execute("INSERT OR IGNORE INTO found (name) VALUES (?)", (os.fsencode(result.name),))
            self._database.execute("REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(result))
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Puts on disk what was kept."""
        with self._told():
            self._database.commit()
        self._committed = time.monotonic()

    def vanished(self) -> Iterator[Result]:
        """What is known of images that are not there any more."""
        yield from self._select("SELECT * FROM results WHERE name NOT IN (SELECT name FROM found)")

    def results(self) -> Iterator[Result]:
        """What is known of each image, in the order in which they were found."""
        yield from self._select("SELECT results.* FROM found JOIN results USING (name) ORDER BY place")

    def everything(self) -> Iterator[Result]:
        """What is known of each image, whether it was found again or not."""
        yield from self._select("SELECT * FROM results")

    def _select(self, query: str) -> Iterator[Result]:
        with self._told(), closing(self._database.execute(query)) as rows:
            yield from map(_result, rows)

    def close(self) -> None:
        """Gives the file back."""
        with suppress(sqlite3.Error):  # a full disk
            self._database.close()


def _row(result: Result) -> tuple[Any, ...]:
    return (os.fsencode(result.name), *result[1:-1], result.probs.astype("<f4").tobytes())


def _result(row: tuple[Any, ...]) -> Result:
    name, size, mtime_ns, digest, width, height, reason, probs = row
    return Result(os.fsdecode(name), size, mtime_ns, digest, width, height, reason, np.frombuffer(probs, "<f4"))
