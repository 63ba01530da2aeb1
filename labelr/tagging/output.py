"""The output directory: its journal, what is refused and replaced in it, and its lock."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files, signals
from labelr.data.predicted import JOURNAL
from labelr.errors import LabelrError
from labelr.tagging.pipeline import Probs, Result

LABELS_FILE, PROBABILITIES_FILE, JSONL_FILE, ERRORS_FILE, UNCERTAIN_FILE = TABLES = (
    "labels.csv", "probabilities.csv", "labels.jsonl", "errors.csv", "uncertain.csv",
)  # fmt: skip
IMAGE_HEADER = ("label", "probability")
FOLDER, JOURNAL_FILE = JOURNAL.parts
"""The folder of the journal and its lock in the output directory, and the journal in it."""
FORMAT = 4
COMMIT_SECONDS = 1.0
"""If the process is killed, at most this much work is lost, and the batches in progress."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, settings TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS predictions (
    run INTEGER, name BLOB, applies BLOB, PRIMARY KEY (run, name, applies)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT, width INTEGER, height INTEGER,
    reason TEXT, probs BLOB, pages INTEGER DEFAULT 0, note TEXT DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (position INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, name BLOB, digests TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reported (name BLOB PRIMARY KEY, digest TEXT) WITHOUT ROWID;
"""
_FROM_FORMAT_3 = """
ALTER TABLE results ADD COLUMN pages INTEGER DEFAULT 0;
ALTER TABLE results ADD COLUMN note TEXT DEFAULT '';
UPDATE facts SET value = '4' WHERE name = 'format';
"""
_WAS_READ, _IS_GONE = "digest != ''", "name NOT IN (SELECT name FROM found)"
_ORPHAN = "name NOT IN (SELECT found.name FROM found JOIN results USING (name) WHERE reason = '')"


# --- the journal -----------------------------------------------------------------------------------------------------


class WrittenFile(NamedTuple):
    """A file that was written for an image.

    Attributes:
        image: Name of the image that it was last written for.
        digests: The digests that it may have; empty if it also holds tags of the user, and is never deleted.
    """

    image: str
    digests: tuple[str, ...]


class Journal:
    """The results of all images and the files written for them, in a SQLite database that survives a kill at any time.

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
        if self._fact("format") == "3":
            with self._errors():
                self._database.executescript(f"BEGIN;{_FROM_FORMAT_3}COMMIT;")
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

    def _rows(self, query: str, *values: str | bytes) -> Iterator[tuple[Any, ...]]:
        with self._errors(), closing(self._database.execute(query, values)) as rows:
            yield from rows

    def _fact(self, name: str) -> str | None:
        return next((value for (value,) in self._rows("SELECT value FROM facts WHERE name = ?", name)), None)

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
        content = json.dumps(settings)
        facts = {"settings": content, "complete": "no"}
        with self._errors(), self._database:
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
            self._database.execute("DELETE FROM found")
            self._database.execute("INSERT OR IGNORE INTO runs (settings) VALUES (?)", (content,))
            self._database.execute("DELETE FROM facts WHERE name LIKE 'table %'")  # the tables will be written again
        (self._run,) = next(self._rows("SELECT id FROM runs WHERE settings = ?", content))

    def clear(self) -> None:
        """Forgets all results.

        It still knows what was predicted, since tables of earlier runs may be in use as labels, and which failures were
        reported.
        """
        with self._errors(), self._database:
            for table in ("facts", "results", "found", "files"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608

    def finish(self, tables: Mapping[str, str]) -> int:
        """Finishes a run, and forgets images that are gone, folders that were not listed, and the files in `orphans`.

        Args:
            tables: The digest of each table that was written.

        Returns:
            The number of images of earlier runs that are gone.
        """
        facts = {"complete": "yes", **{f"table {name}": digest for name, digest in tables.items()}}
        with self._errors(), self._database:
            self._database.execute(f"DELETE FROM files WHERE {_ORPHAN}")  # noqa: S608
            self._database.execute(f"DELETE FROM results WHERE NOT {_WAS_READ} AND {_IS_GONE}")  # noqa: S608
            gone = self._database.execute(f"DELETE FROM results WHERE {_IS_GONE}")  # noqa: S608
            self._database.execute("DELETE FROM reported")
            self._database.execute("INSERT INTO reported SELECT name, digest FROM results WHERE reason != ''")
            self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
        return gone.rowcount

    def table_digest(self, name: str) -> str | None:
        """The digest of a table when it was written last; None if it was not."""
        return self._fact(f"table {name}")

    def get(self, name: str) -> Result | None:
        """The result of an image."""
        return next(map(_result, self._rows("SELECT * FROM results WHERE name = ?", os.fsencode(name))), None)

    def put(self, result: Result) -> None:
        """Keeps the result of the next image; on disk after a second at most."""
        with self._errors():
            self._database.execute("INSERT OR IGNORE INTO found (name) VALUES (?)", (os.fsencode(result.name),))
            probs = result.probs.astype("<f4").tobytes()
            row = (os.fsencode(result.name), *result.status, *result[2:6], probs, *result[7:])
            self._database.execute(f"REPLACE INTO results VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def put_predicted(self, name: str, applies: NDArray[np.bool_]) -> None:
        """Keeps which labels were written for an image, so that `fit` knows them from those of people."""
        with self._errors():
            row = self._run, os.fsencode(name), applies.tobytes()
            self._database.execute("INSERT OR IGNORE INTO predictions VALUES (?, ?, ?)", row)

    def commit(self) -> None:
        """Writes all results to disk."""
        with self._errors():
            self._database.commit()
        self._committed = time.monotonic()

    def results(self) -> Iterator[Result]:
        """The results of this run, in the order in which the images were found."""
        yield from map(_result, self._rows("SELECT results.* FROM found JOIN results USING (name) ORDER BY position"))

    def predictions(self, columns: NDArray[np.int64]) -> tuple[list[str], Probs]:
        """The names of the N images of this run that were tagged, and their probabilities, in the order of `results`.

        Args:
            columns: K labels, as indices among those of the model.

        Returns:
            N names, and probabilities of shape ``(N, K)``.
        """
        names, content = [], bytearray()  # of a million images, which as arrays would take several times the memory
        for name, probs in self._rows(
            "SELECT name, probs FROM found JOIN results USING (name) WHERE reason = '' ORDER BY position"
        ):
            names.append(os.fsdecode(name))
            content += probs
        if not names:
            return [], np.empty((0, len(columns)), np.float32)
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
        return [os.fsdecode(name) for (name,) in rows]

    def _key(self, path: Path) -> bytes:
        """The path of a file: relative in the output directory, which may be moved, else absolute."""
        inside = path.is_relative_to(self._output)
        return os.fsencode(path.relative_to(self._output) if inside else path)

    def file(self, path: Path) -> WrittenFile | None:
        """What is known of a file; None if it was never written."""
        for image, digests in self._rows("SELECT name, digests FROM files WHERE path = ?", self._key(path)):
            return WrittenFile(os.fsdecode(image), tuple(digests.split()))
        return None

    def put_file(self, path: Path, image: str, digests: Collection[str]) -> None:
        """Keeps, immediately on disk, that a file is about to be written for an image.

        The digests are of its content before and after: if the process is killed meanwhile, it has one of them.
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
    name, size, mtime_ns, ctime_ns, digest, width, height, reason, probs, *unused = row
    status, values = (size, mtime_ns, ctime_ns), np.frombuffer(probs, "<f4")
    return Result(os.fsdecode(name), status, digest, width, height, reason, values, *unused)


# --- the directory ---------------------------------------------------------------------------------------------------


@contextmanager
def open_output(folder: Path, settings: Mapping[str, Any], *, force: bool) -> Iterator[Journal]:
    """The journal of an output directory, in which a run was started. The directory is locked, and signals deferred.

    Raises:
        LabelrError: If the directory holds something else or results of other settings, or another run uses it.
        Stopped: At the end, if a signal has arrived meanwhile. The same command resumes the run.
    """
    with files.locked(files.make_folder(folder / FOLDER), folder):
        if force:
            _clear(folder)
        with closing(Journal(folder)) as journal:
            _check_settings(folder, journal.settings, settings)
            _check_tables(folder, journal)
            if not journal.is_complete:
                _delete_drafts(folder, journal.settings)
            journal.start(settings)
            try:
                with signals.deferred():
                    try:
                        yield journal
                    finally:
                        journal.commit()
            except signals.Stopped as stopped:
                stopped.resume_option = ""  # the same command resumes
                raise


@contextmanager
def preview_output(folder: Path, settings: Mapping[str, Any] | None) -> Iterator[Journal]:
    """A copy of the journal of an output directory, which is not changed; empty if there is none.

    Raises:
        LabelrError: If the directory holds results of other settings; never if `settings` is None.
    """
    with TemporaryDirectory(prefix="labelr-") as copy:
        files.make_folder(Path(copy, FOLDER))
        for path in (folder / FOLDER).glob(f"{JOURNAL_FILE}*"):  # with the write-ahead log of a killed process
            shutil.copy(path, Path(copy, FOLDER))
        with closing(Journal(Path(copy))) as journal:
            _check_settings(folder, journal.settings, settings or {})
            yield journal


@contextmanager
def finished_output(folder: Path, settings: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of an output directory after a run with these settings, to read; the directory is locked.

    Raises:
        LabelrError: If the results are gone, or of another or unfinished run.
        BusyError: If another run is using the directory.
    """
    if not check_output(folder):
        raise LabelrError(f"the results in {folder} are gone", "tag the images again")
    with files.locked(folder / FOLDER, folder), closing(Journal(folder)) as journal:
        if journal.settings != settings or not journal.is_complete:
            raise LabelrError(f"the results in {folder} are no longer those of this run", "tag the images again")
        yield journal


def check_output(folder: Path) -> bool:
    """Whether a directory holds results of an earlier run; not if it is new or empty.

    Raises:
        LabelrError: If it is a file or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise LabelrError(f"the output {folder} is a file", "name another directory with `--output DIR`")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FOLDER).is_dir():
        raise LabelrError(
            f"{folder} holds files that are not results of labelr", "name another directory with `--output`"
        )
    return (folder / FOLDER / JOURNAL_FILE).exists()


def _check_settings(folder: Path, previous: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    changed = [name for name in settings if name in previous and _identity(name, previous) != _identity(name, settings)]
    if changed:
        differences = [
            f"{name} {'were' if name.endswith('s') else 'was'} {_format(previous[name])} and "
            f"{'are' if name.endswith('s') else 'is'} {_format(settings[name])}"
            for name in changed
            if name != "threshold" or not {"model", "labels"} & set(changed) or not _are_fitted(previous, settings)
        ]
        raise LabelrError(
            f"the results in {folder} have other settings: {'; '.join(differences)}",
            "replace them with `--force`, or name another directory with `--output`",
        )


def _identity(name: str, settings: Mapping[str, Any]) -> object:
    """The value of a setting without a model's name, which may change."""
    return settings[name].rpartition(" ")[2] if name == "model" else settings[name]


def _are_fitted(*settings: Mapping[str, Any]) -> bool:
    """Whether the thresholds are those of the model, which differ if the model or the labels do."""
    return all(str(chosen["threshold"]).startswith("auto (") for chosen in settings)


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _check_tables(folder: Path, journal: Journal) -> None:
    """Raises LabelrError if a user has edited a table, which would be overwritten."""
    for name in TABLES:
        written = journal.table_digest(name)
        if written is not None and is_edited(folder / name, [written]):
            raise LabelrError(
                f"{folder / name} was edited after labelr wrote it",
                "rename it to keep it, such as corrected.csv, and learn from it there; `--force` replaces it",
            )


def _clear(folder: Path) -> None:
    """Deletes the results of earlier runs, and no other files; the journal still knows what was predicted."""
    try:
        with closing(Journal(folder)) as journal:
            _delete_results(folder, list(journal.files()))
            journal.clear()
    except LabelrError:  # damaged, or from another version: it does not say which files were written
        _delete_results(folder, [])
        with files.writing(folder):
            for path in (folder / FOLDER).glob(f"{JOURNAL_FILE}*"):
                path.unlink()


def _delete_results(folder: Path, written: Collection[Path]) -> None:
    """Deletes the tables and the files that were written for images; without any known, those that look like them."""
    starts = tuple(files.csv_text(IMAGE_HEADER, (), excel=excel).encode() for excel in (False, True))
    with files.writing(folder):
        for path in written:
            remove(path, folder.absolute())
        for name in TABLES:
            (folder / name).unlink(missing_ok=True)
        for path in folder.rglob("*.csv") if not written else ():
            if path.is_file() and path.read_bytes().startswith(starts):
                path.unlink()


def _delete_drafts(folder: Path, settings: Mapping[str, Any]) -> None:
    """Deletes the temporary files of a killed run."""
    roots = {folder, Path(settings["photos"])} if settings and settings["in place"] else {folder}
    for root in roots:
        for path in root.rglob(f"{files.DRAFT_PREFIX}*{files.DRAFT_SUFFIX}"):
            path.unlink(missing_ok=True)


def file_names(image: str, formats: Collection[str]) -> list[str]:
    """The names of the files that are written for an image in some formats."""
    names = {"csv": f"{image}.csv", "txt": PurePath(image).with_suffix(".txt").as_posix()}
    return [names[kind] for kind in names if kind in formats]


def is_edited(path: Path, written: Collection[str]) -> bool:
    """Whether a file exists and has none of the digests that labelr may have written."""
    digest = files.digest(path)
    return bool(digest) and digest not in written


def remove(path: Path, folder: Path) -> None:
    """Deletes a file, and the empty folders above it up to the output directory; never folders outside of it."""
    with suppress(OSError):
        path.unlink()
        if folder in path.parents:
            for parent in path.parents:
                if parent == folder:
                    break
                parent.rmdir()
