"""The journal of an output directory: what is known of each image, and of the files that were written for it."""

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.data.predicted import JOURNAL, JOURNAL_SCHEMA, check_journal, check_journal_files, parse_settings
from labelr.errors import LabelrError
from labelr.tagging import signing
from labelr.tagging.pipeline import Probs, Result

FOLDER, JOURNAL_FILE = JOURNAL.parts
"""The folder of the journal and its lock in the output directory, and the journal in it."""
FORMAT = 4
PAGE_BYTES = 4096
"""Size of a database without tables."""
COMMIT_SECONDS = 1.0
"""If the process is killed, at most this much work is lost, and the batches in progress."""
_WAS_READ, _IS_GONE = "digest != ''", "name NOT IN (SELECT name FROM found)"
_ORPHAN = "name NOT IN (SELECT found.name FROM found JOIN results USING (name) WHERE reason = '')"


class WrittenFile(NamedTuple):
    """A file that was written for an image.

    Attributes:
        image: Name of the image that it was last written for.
        digests: The digests that it may have; empty if it also holds tags of the user, or the entry is not signed
            by this user: then it is never deleted.
    """

    image: str
    digests: tuple[str, ...]


class Link(NamedTuple):
    """A link or copy to sort an image: what it is recognised by, and whether it was made, and not only planned."""

    content: bytes
    made: bool


class Journal:
    """The results of all images and the files written for them, in a SQLite database that survives a kill at any time.

    Raises:
        LabelrError: From every method, if the database is damaged or cannot be written.
    """

    def __init__(self, output: Path) -> None:
        self._output = output.absolute()
        self.path = output / FOLDER / JOURNAL_FILE
        self._committed = time.monotonic()
        self._key = b""
        self._connect()

    def _connect(self) -> None:
        self._delete_unborn()
        check_journal_files(self._output)
        with self._errors():
            self._database = sqlite3.connect(self.path, timeout=10)
        try:
            self._open()
        except LabelrError:
            self.close()
            raise
        self._identity = file_identity(self.path)

    def _delete_unborn(self) -> None:
        """Deletes a journal whose run was killed while it was created: its first page may be incomplete."""
        rollback, log = (self.path.with_name(f"{JOURNAL_FILE}{suffix}") for suffix in ("-journal", "-wal"))
        if rollback.is_file() and not log.exists() and self.path.is_file() and self.path.stat().st_size <= PAGE_BYTES:
            with files.writing(self.path):
                self.path.unlink()
                rollback.unlink()

    def _open(self) -> None:
        with self._errors():
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # works on network drives too
            check_journal(self._database)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(JOURNAL_SCHEMA)
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
        except (sqlite3.Error, ValueError, IndexError, RecursionError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # without its details
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                hint = "replace the results with `--force`, or name another directory with `--output`"
                raise LabelrError(f"{self.path} is damaged: {error}", hint) from error
            hint = "free some space, or name another directory with `--output`"
            if code == sqlite3.SQLITE_BUSY:  # not by another run, which would hold the lock of the directory
                hint = "the network drive refuses locks: name a directory on a local disk with `--output`"
            raise LabelrError(f"cannot write {self.path}: {error}", hint) from error

    def _rows(self, query: str, *values: str | bytes) -> Iterator[tuple[Any, ...]]:
        with self._errors(), closing(self._database.execute(query, values)) as rows:
            yield from rows

    def _execute(self, query: str, *values: str | bytes | float) -> None:
        """Changes the database; on disk with the next commit."""
        with self._errors():
            self._database.execute(query, values)

    def _fact(self, name: str) -> str | None:
        return next((value for (value,) in self._rows("SELECT value FROM facts WHERE name = ?", name)), None)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the images that the results depend on; empty in a new journal."""
        with self._errors():
            return parse_settings(self._fact("settings") or "{}")

    @property
    def is_complete(self) -> bool:
        """Whether the last run finished."""
        return self._fact("complete") == "yes"

    def start(self, settings: Mapping[str, Any]) -> None:
        """Starts a run: no image is found yet, but all previous results are available."""
        content = json.dumps(settings)
        facts = {"settings": content, "complete": "no"}
        with self._errors(), self._database:
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
            self._database.execute("DELETE FROM found")
            self._database.execute("INSERT OR IGNORE INTO runs (settings) VALUES (?)", (content,))
        (self._run,) = next(self._rows("SELECT id FROM runs WHERE settings = ?", content))

    def clear(self) -> None:
        """Forgets all results.

        It still knows what was predicted, since tables of earlier runs may be in use as labels, and which failures were
        reported, and which links it made, all of which are made again.
        """
        with self._errors(), self._database:
            self._database.execute("UPDATE links SET made = 0")
            for table in ("facts", "results", "found", "files"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608

    def finish(self) -> int:
        """Finishes a run, and forgets images that are gone, folders that were not listed, and the files in `orphans`.

        Returns:
            The number of images of earlier runs that are gone.
        """
        with self._errors(), self._database:
            self._database.execute(f"DELETE FROM files WHERE {_ORPHAN}")  # noqa: S608
            self._database.execute(f"DELETE FROM results WHERE NOT {_WAS_READ} AND {_IS_GONE}")  # noqa: S608
            gone = self._database.execute(f"DELETE FROM results WHERE {_IS_GONE}")  # noqa: S608
            self._database.execute("DELETE FROM reported")
            self._database.execute("INSERT INTO reported SELECT name, digest FROM results WHERE reason != ''")
            self._database.execute("REPLACE INTO facts VALUES ('complete', 'yes')")
        return gone.rowcount

    def table_digests(self, name: str) -> tuple[str, ...]:
        """The digests that a table may have; empty if it was never written."""
        return self._verified(self._fact(f"table {name}") or "", b"table", name.encode())

    def _signed(self, digests: Collection[str], *parts: bytes) -> str:
        """Digests with a signature, without which they confirm nothing: a journal may come from elsewhere."""
        self._key = self._key or signing.make_key()
        text = " ".join(digests)
        return f"{text} {signing.sign(self._key, *parts, text.encode())}"

    def _verified(self, stored: str, *parts: bytes) -> tuple[str, ...]:
        """The digests, if this user has signed them together with these values; else none."""
        self._key = self._key or signing.read_key()
        text, _, signature = stored.rpartition(" ")
        return tuple(text.split()) if signing.is_signed(signature, self._key, *parts, text.encode()) else ()

    def put_table(self, name: str, *digests: str) -> None:
        """Keeps, immediately on disk, that a table is about to be written; see `put_file`."""
        row = f"table {name}", self._signed(digests, b"table", name.encode())
        self._execute("REPLACE INTO facts VALUES (?, ?)", *row)
        self.commit()

    def get(self, name: str) -> Result | None:
        """The result of an image; None if it has none, or one whose probabilities are not numbers."""
        return next(self._results("SELECT * FROM results WHERE name = ?", os.fsencode(name)), None)

    def _results(self, query: str, *values: bytes) -> Iterator[Result]:
        for row in self._rows(query, *values):
            with self._errors():
                result = _result(row)
            if result is not None:
                yield result

    def check_lengths(self, num_labels: int) -> None:
        """Raises LabelrError if an image has probabilities of another number of labels."""
        length = str(4 * num_labels)
        others = "length(probs) != CAST(? AS INTEGER) AND (reason = '' OR length(probs) != 0)"
        if any(self._rows(f"SELECT 1 FROM results WHERE {others} LIMIT 1", length)):  # noqa: S608
            with self._errors():
                raise ValueError(f"an image has not {num_labels} probabilities")

    def put(self, result: Result) -> None:
        """Keeps the result of the next image; on disk after a second at most."""
        name, probs = os.fsencode(result.name), result.probs.astype("<f4").tobytes()
        self._execute("INSERT OR IGNORE INTO found (name) VALUES (?)", name)
        row = (name, *result.status, *result[2:6], probs, *result[7:])
        self._execute(f"REPLACE INTO results VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def put_predicted(self, name: str, applies: NDArray[np.bool_]) -> None:
        """Keeps which labels were written for an image, so that `fit` knows them from those of people."""
        row = self._run, os.fsencode(name), applies.tobytes()
        self._execute("INSERT OR IGNORE INTO predictions VALUES (?, ?, ?)", *row)

    def commit(self) -> None:
        """Writes all results to disk."""
        with self._errors():
            self._database.commit()
        self._committed = time.monotonic()

    def results(self) -> Iterator[Result]:
        """The results of this run, in the order in which the images were found."""
        yield from self._results("SELECT results.* FROM found JOIN results USING (name) ORDER BY position")

    def tagged(self) -> Iterator[str]:
        """The names of the images of this run that were tagged."""
        rows = self._rows("SELECT name FROM found JOIN results USING (name) WHERE reason = '' ORDER BY position")
        return (os.fsdecode(name) for (name,) in rows)

    def predictions(self, columns: NDArray[np.int64]) -> tuple[list[str], Probs]:
        """The names of the N images of this run that were tagged, and their probabilities of K labels, ``(N, K)``.

        They are in the order of `results`, and the `columns` are those of the labels of the model.
        """
        names, content = [], bytearray()  # of a million images, which as arrays would take several times the memory
        for name, probs in self._rows(
            "SELECT name, probs FROM found JOIN results USING (name) WHERE reason = '' ORDER BY position"
        ):
            names.append(os.fsdecode(name))
            content += probs
        if not names:
            return [], np.empty((0, len(columns)), np.float32)
        with self._errors():
            return names, np.frombuffer(content, "<f4").reshape(len(names), -1)[:, columns]

    def new_failures(self) -> dict[str, str]:
        """The reason for each image of this run that failed, unless the last finished run says so of this content."""
        rows = self._rows(
            "SELECT results.name, reason FROM found JOIN results USING (name) WHERE reason != '' "
            "AND (results.name, digest) NOT IN (SELECT name, digest FROM reported) ORDER BY position"
        )
        return {os.fsdecode(name): reason for name, reason in rows}

    def is_known_failure(self, name: str) -> bool:
        """Whether the last finished run found that a file or folder cannot be read."""
        return any(self._rows("SELECT 1 FROM reported WHERE name = ? AND digest = ''", os.fsencode(name)))

    def names(self) -> set[str]:
        """The names of all images that were read, found in this run or not."""
        rows = self._rows(f"SELECT name FROM results WHERE {_WAS_READ}")  # noqa: S608
        return {os.fsdecode(name) for (name,) in rows}

    def names_below(self, folder: str) -> list[str]:
        """The names of the images below a folder with a result, found in this run or not."""
        first, end = (os.fsencode(f"{folder}{character}") for character in "/0")  # 0 is the character after /
        rows = self._rows("SELECT name FROM results WHERE name >= ? AND name < ? ORDER BY name", first, end)
        names = (os.fsdecode(name) for (name,) in rows)
        return [name for name in names if "\0" not in name and ".." not in PurePath(name).parts]

    def _path_key(self, path: Path) -> bytes:
        """The path of a file: relative in the output directory, which may be moved, else absolute."""
        inside = path.is_relative_to(self._output)
        return os.fsencode(path.relative_to(self._output) if inside else path)

    def file(self, path: Path) -> WrittenFile | None:
        """What is known of a file; None if it was never written, or by somebody else."""
        for row in self._rows("SELECT path, name, digests FROM files WHERE path = ?", self._path_key(path)):
            written = self._written(*row)
            return written if written.digests or not row[2] else None
        return None

    def _written(self, path: bytes, image: bytes, digests: str) -> WrittenFile:
        return WrittenFile(os.fsdecode(image), self._verified(digests, b"file", path, image))

    def put_file(self, path: Path, image: str, digests: Collection[str]) -> None:
        """Keeps, immediately on disk, that a file is about to be written for an image.

        The digests are of its content before and after: if the process is killed meanwhile, it has one of them.
        """
        key, name = self._path_key(path), os.fsencode(image)
        row = key, name, self._signed(digests, b"file", key, name) if digests else ""
        self._execute("REPLACE INTO files VALUES (?, ?, ?)", *row)
        self.commit()

    def files(self, *, orphans: bool = False) -> dict[Path, WrittenFile]:
        """All files written for images, or for images that are gone or failed.

        Files that also hold tags of the user are left out.
        """
        condition = f"digests != '' AND {_ORPHAN}" if orphans else "digests != ''"
        rows = self._rows(f"SELECT path, name, digests FROM files WHERE {condition}")  # noqa: S608
        return {self._output / os.fsdecode(row[0]): self._written(*row) for row in rows}

    def link(self, path: Path) -> Link | None:
        """What is known of a link; None if it was never made, or by somebody else."""
        key = os.fsencode(path)
        for content, made, signature in self._rows("SELECT content, made, signature FROM links WHERE path = ?", key):
            if self._verified(signature, b"link", key, content):
                return Link(content, bool(made))
        return None

    def put_link(self, path: Path, link: Link) -> None:
        """Keeps that a link is planned, or made; on disk with the next commit."""
        key = os.fsencode(path)
        row = key, link.content, int(link.made), self._signed(["link"], b"link", key, link.content)
        self._execute("REPLACE INTO links VALUES (?, ?, ?, ?)", *row)

    def forget_link(self, path: Path) -> None:
        """Forgets a link that was removed."""
        self._execute("DELETE FROM links WHERE path = ?", os.fsencode(path))

    def links_below(self, folder: Path) -> Iterator[tuple[Path, bytes]]:
        """The links below a folder, and what they are recognised by, without a look at signatures."""
        first, end = (os.fsencode(f"{folder}{os.sep}"), os.fsencode(f"{folder}{chr(ord(os.sep) + 1)}"))
        rows = self._rows("SELECT path, content FROM links WHERE path >= ? AND path < ? ORDER BY path", first, end)
        return ((Path(os.fsdecode(path)), content) for path, content in rows)

    def restore(self) -> None:
        """Writes all results to disk, and the database itself again if it was deleted, as with the output directory.

        Raises:
            LabelrError: If it was replaced, or cannot be written.
        """
        self.commit()
        found = file_identity(self.path)
        if found == self._identity:
            return
        if found:
            raise LabelrError(f"{self.path} was replaced during the run", "run the same command again")
        copy = files.make_folder(self.path.parent) / f"{files.DRAFT_PREFIX}journal{files.DRAFT_SUFFIX}"
        copy.unlink(missing_ok=True)
        with self._errors():
            self._database.execute("VACUUM INTO ?", (str(copy),))
        self.close()  # before the new one is there, whose log has the same name
        with files.writing(self.path):
            self.path.with_name(f"{JOURNAL_FILE}-wal").unlink(missing_ok=True)
            copy.replace(self.path)
        self._connect()

    def close(self) -> None:
        """Closes the database."""
        with suppress(sqlite3.Error):  # a full disk
            self._database.close()


def file_identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from one that has replaced it; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _result(row: tuple[Any, ...]) -> Result | None:
    name, size, mtime_ns, ctime_ns, digest, width, height, reason, probs, *unused = row
    status, values = (size, mtime_ns, ctime_ns), np.frombuffer(probs, "<f4")
    if not np.isfinite(values).all():
        return None
    return Result(os.fsdecode(name), status, digest, width, height, reason, values, *unused)
