"""What is known of each image, kept in the output directory, so that the same command goes on where it was stopped."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.errors import LabelrError

FOLDER = ".labelr"
"""Of the journal and its lock, in the output directory."""
FORMAT = 2
COMMIT_SECONDS = 1.0
"""A process that is killed loses at most so much of its work, and what is under way."""
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT, width INTEGER, height INTEGER,
    reason TEXT, probs BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (place INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS claimed (path BLOB PRIMARY KEY, name BLOB, digests TEXT) WITHOUT ROWID;
"""
_OWN = "digests != ''"
_ORPHAN = "name NOT IN (SELECT found.name FROM found JOIN results USING (name) WHERE reason = '')"


class Result(NamedTuple):
    """What is known of an image.

    Attributes:
        name: Its path relative to the folder of all.
        size: Of its file, in bytes.
        mtime_ns: When the file was last changed.
        ctime_ns: When the file or its name was last changed, where the system says so.
        digest: SHA-256 of the file, in hexadecimal; empty where it cannot be read.
        width: Of the picture as it is seen, in pixels; 0 where it does not open.
        height: Likewise.
        reason: Why it does not open, or its result cannot be written; empty where all is well.
        probs: Of every label of the model, shape ``(L,)``; none where it does not open.
    """

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str
    width: int
    height: int
    reason: str
    probs: NDArray[np.float32]

    @property
    def failed(self) -> bool:
        """Whether nothing can be written of it but the reason."""
        return bool(self.reason)


def copy_journal(output: Path, folder: Path) -> None:
    """Copies the journal of an output directory into a folder, with what a process that was killed had not put into it.

    Raises:
        LabelrError: If there is no room for it.
    """
    with files.writing(folder):
        (folder / FOLDER).mkdir()
        for path in (output / FOLDER).glob("journal.sqlite*"):
            shutil.copyfile(path, folder / FOLDER / path.name)


class Journal:
    """The results of a folder of images, in a database that survives whatever becomes of the process.

    Args:
        output: The output directory.
    """

    def __init__(self, output: Path) -> None:
        self._output = output.absolute()
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
            self._database.execute("DELETE FROM facts WHERE name LIKE 'table %'")  # they are going to be written anew

    def end(self, tables: Mapping[str, str]) -> None:
        """Notes that the run came to its end, and forgets what `vanished` and `orphans` give.

        Args:
            tables: The digest of each table that was written.
        """
        facts = {"complete": "yes", **{f"table {name}": digest for name, digest in tables.items()}}
        with self._told(), self._database:
            self._database.execute(f"DELETE FROM claimed WHERE {_ORPHAN}")  # noqa: S608
            self._database.execute("DELETE FROM results WHERE name NOT IN (SELECT name FROM found)")
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    def table_digest(self, name: str) -> str | None:
        """The digest of a table as it was written last; None if it never was."""
        return self._fact(f"table {name}")

    def get(self, name: str) -> Result | None:
        """What is known of an image."""
        with self._told():
            row = self._database.execute("SELECT * FROM results WHERE name = ?", (os.fsencode(name),)).fetchone()
        return None if row is None else _result(row)

    def _key(self, path: Path) -> bytes:
        """A file as it is noted: by its place in the output directory, which may be moved, or wherever else it is."""
        inside = path.is_relative_to(self._output)
        return os.fsencode(path.relative_to(self._output) if inside else path)

    def owner(self, path: Path) -> str | None:
        """The image whose labels a file was written for, or was given last; None if there is none."""
        with self._told():
            row = self._database.execute("SELECT name FROM claimed WHERE path = ?", (self._key(path),)).fetchone()
        return None if row is None else os.fsdecode(row[0])

    def claim(self, path: Path, name: str, digests: Iterable[str]) -> None:
        """Notes, at once, that a file is going to be written for an image.

        Args:
            path: The file.
            name: The image.
            digests: Of its content before and after: if the process is killed meanwhile, it has the one or the other.
                There are none for a file that is a person's too, and never deleted.
        """
        row = self._key(path), os.fsencode(name), " ".join(digests)
        with self._told(), self._database:
            self._database.execute("REPLACE INTO claimed VALUES (?, ?, ?)", row)

    def digests(self, path: Path) -> list[str]:
        """The digests that a file may have had when it was written last; none if it is not labelr's alone."""
        with self._told():
            row = self._database.execute("SELECT digests FROM claimed WHERE path = ?", (self._key(path),)).fetchone()
        return [] if row is None else str(row[0]).split()

    def orphans(self) -> Iterator[Path]:
        """The files that were written for images that are gone, or of which nothing can be said any more."""
        query = f"SELECT path FROM claimed WHERE {_OWN} AND {_ORPHAN}"  # noqa: S608
        with self._told(), closing(self._database.execute(query)) as rows:
            yield from (self._output / os.fsdecode(path) for (path,) in rows)

    def files(self) -> list[Path]:
        """All files that were written for images."""
        with self._told():
            rows = self._database.execute(f"SELECT path FROM claimed WHERE {_OWN}")  # noqa: S608
            return [self._output / os.fsdecode(path) for (path,) in rows]

    def put(self, result: Result) -> None:
        """Keeps that an image was found, next in order, and what it gave; on disk after a second at most."""
        with self._told():
            self._database.execute("INSERT OR IGNORE INTO found (name) VALUES (?)", (os.fsencode(result.name),))
            self._database.execute("REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(result))
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
    return Result._make((os.fsdecode(row[0]), *row[1:-1], np.frombuffer(row[-1], "<f4")))
