"""The database in the output directory: results of all images, and the files written for them."""

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelr.errors import LabelrError
from labelr.tagging.pipeline import Result

FOLDER = ".labelr"
"""Folder of the journal and its lock in the output directory."""
JOURNAL_FILE = "journal.sqlite"
FORMAT = 3
COMMIT_SECONDS = 1.0
"""If the process is killed, at most this much work is lost, and the batches in progress."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT, width INTEGER, height INTEGER,
    reason TEXT, probs BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (position INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, name BLOB, digests TEXT) WITHOUT ROWID;
"""
_ORPHAN = "name NOT IN (SELECT found.name FROM found JOIN results USING (name) WHERE reason = '')"


class WrittenFile(NamedTuple):
    """A file that was written for an image.

    Attributes:
        image: Name of the image that it was last written for.
        digests: The digests that it may have; empty if it also holds tags of the user, and is never deleted.
    """

    image: str
    digests: tuple[str, ...]


class Journal:
    """Results and written files of an output directory, in a SQLite database that survives a kill at any time.

    Args:
        output: The output directory.

    Raises:
        LabelrError: From every method, if the database is damaged or cannot be written.
    """

    def __init__(self, output: Path) -> None:
        self._output = output.absolute()
        self.path = output / FOLDER / JOURNAL_FILE
        self._committed = time.monotonic()
        with self._errors():
            self._database = sqlite3.connect(self.path, timeout=10)
        try:
            self._open()
        except LabelrError:
            self.close()
            raise

    def _open(self) -> None:
        with self._errors():
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # works on network drives too
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
            self._database.execute("INSERT OR IGNORE INTO facts VALUES ('format', ?)", (str(FORMAT),))
            self._database.commit()
        if self._fact("format") != str(FORMAT):
            raise LabelrError(
                f"the results in {self._output} are from another version of labelr", "replace them with `--force`"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LabelrError(
                f"cannot write {self.path}: {error}", "free some space, or name another directory with `--output`"
            ) from error

    def _fact(self, name: str) -> str | None:
        row = self._row("SELECT value FROM facts WHERE name = ?", name)
        return None if row is None else str(row[0])

    def _row(self, query: str, key: str | bytes) -> tuple[Any, ...] | None:
        with self._errors():
            row: tuple[Any, ...] | None = self._database.execute(query, (key,)).fetchone()
        return row

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        with self._errors(), closing(self._database.execute(query)) as rows:
            yield from rows

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the images that the results depend on; empty in a new journal."""
        return dict(json.loads(self._fact("settings") or "{}"))

    @property
    def is_complete(self) -> bool:
        """Whether the last run finished."""
        return self._fact("complete") == "yes"

    def start(self, settings: Mapping[str, Any]) -> None:
        """Starts a run: no image is found yet, but all previous results are available."""
        facts = {"settings": json.dumps(settings), "complete": "no"}
        with self._errors(), self._database:
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
            self._database.execute("DELETE FROM found")
            self._database.execute("DELETE FROM facts WHERE name LIKE 'table %'")  # the tables will be written again

    def finish(self, tables: Mapping[str, str]) -> None:
        """Finishes a run, and forgets images that are gone and the files in `orphans`.

        Args:
            tables: The digest of each table that was written.
        """
        facts = {"complete": "yes", **{f"table {name}": digest for name, digest in tables.items()}}
        with self._errors(), self._database:
            self._database.execute(f"DELETE FROM files WHERE {_ORPHAN}")  # noqa: S608
            self._database.execute("DELETE FROM results WHERE name NOT IN (SELECT name FROM found)")
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    def table_digest(self, name: str) -> str | None:
        """The digest of a table when it was written last; None if it was not."""
        return self._fact(f"table {name}")

    def get(self, name: str) -> Result | None:
        """The result of an image."""
        row = self._row("SELECT * FROM results WHERE name = ?", os.fsencode(name))
        return None if row is None else _result(row)

    def put(self, result: Result) -> None:
        """Keeps the result of the next image; on disk after a second at most."""
        with self._errors():
            self._database.execute("INSERT OR IGNORE INTO found (name) VALUES (?)", (os.fsencode(result.name),))
            row = (os.fsencode(result.name), *result.status, *result[2:-1], result.probs.astype("<f4").tobytes())
            self._database.execute("REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Writes all results to disk."""
        with self._errors():
            self._database.commit()
        self._committed = time.monotonic()

    def results(self) -> Iterator[Result]:
        """The results of this run, in the order in which the images were found."""
        yield from map(_result, self._rows("SELECT results.* FROM found JOIN results USING (name) ORDER BY position"))

    def names(self) -> set[str]:
        """The names of all images with a result, found in this run or not."""
        return {os.fsdecode(name) for (name,) in self._rows("SELECT name FROM results")}

    def count_vanished(self) -> int:
        """Number of images of earlier runs that were not found again."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM results WHERE name NOT IN (SELECT name FROM found)")
        return int(count)

    def _key(self, path: Path) -> bytes:
        """The path of a file: relative in the output directory, which may be moved, else absolute."""
        inside = path.is_relative_to(self._output)
        return os.fsencode(path.relative_to(self._output) if inside else path)

    def file(self, path: Path) -> WrittenFile | None:
        """What is known of a file; None if it was never written."""
        row = self._row("SELECT name, digests FROM files WHERE path = ?", self._key(path))
        return None if row is None else WrittenFile(os.fsdecode(row[0]), tuple(str(row[1]).split()))

    def put_file(self, path: Path, image: str, digests: Collection[str]) -> None:
        """Keeps, immediately on disk, that a file is about to be written.

        Args:
            path: The file.
            image: Name of its image.
            digests: Of its content before and after: if the process is killed meanwhile, it has one of them. Empty if
                the file also holds tags of the user.
        """
        row = self._key(path), os.fsencode(image), " ".join(digests)
        with self._errors(), self._database:
            self._database.execute("REPLACE INTO files VALUES (?, ?, ?)", row)

    def files(self, *, orphans: bool = False) -> dict[Path, tuple[str, ...]]:
        """The digests of all files written for images, or for images that are gone or failed.

        Files that also hold tags of the user are left out.
        """
        condition = f"digests != '' AND {_ORPHAN}" if orphans else "digests != ''"
        rows = self._rows(f"SELECT path, digests FROM files WHERE {condition}")  # noqa: S608
        return {self._output / os.fsdecode(path): tuple(digests.split()) for path, digests in rows}

    def close(self) -> None:
        """Closes the database."""
        with suppress(sqlite3.Error):  # a full disk
            self._database.close()


def _result(row: tuple[Any, ...]) -> Result:
    name, size, mtime_ns, ctime_ns, digest, width, height, reason, probs = row
    status, values = (size, mtime_ns, ctime_ns), np.frombuffer(probs, "<f4")
    return Result(os.fsdecode(name), status, digest, width, height, reason, values)
