"""The output directory: holds the results of one model with one selection of labels, and one run at a time."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock, Timeout

from labelr import files, signals
from labelr.errors import LabelrError
from labelr.tagging.journal import FOLDER, JOURNAL_FILE, Journal
from labelr.tagging.writers import TABLES, is_edited, remove


@contextmanager
def open_output(folder: Path, settings: Mapping[str, Any], *, force: bool) -> Iterator[Journal]:
    """The journal of an output directory, in which a run was started. The directory is locked, and signals deferred.

    Args:
        folder: The directory; created if it does not exist.
        settings: Everything but the images that results depend on.
        force: Whether to delete existing results first.

    Raises:
        LabelrError: If the directory holds something else or results of other settings, or another run uses it.
        Stopped: At the end, if a signal has arrived meanwhile. The same command resumes the run.
    """
    files.make_folder(folder / FOLDER)
    with _locked(folder):
        if force:
            _clear(folder)
        with closing(Journal(folder)) as journal:
            _check_settings(folder, journal.settings, settings)
            _check_tables(folder, journal)
            if not journal.is_complete:
                _delete_drafts(folder, journal.settings)
            journal.start(settings)
            with _resumable():
                try:
                    yield journal
                finally:
                    journal.commit()


@contextmanager
def preview_output(folder: Path, settings: Mapping[str, Any] | None) -> Iterator[Journal]:
    """A copy of the journal of an output directory, which is not changed; empty if there is none.

    Args:
        folder: The directory.
        settings: Everything but the images that results depend on; None accepts results of any settings.

    Raises:
        LabelrError: If the directory holds results of other settings.
    """
    with TemporaryDirectory(prefix="labelr-") as copy:
        files.make_folder(Path(copy, FOLDER))
        for path in (folder / FOLDER).glob(f"{JOURNAL_FILE}*"):  # with the write-ahead log of a killed process
            shutil.copy(path, Path(copy, FOLDER))
        with closing(Journal(Path(copy))) as journal:
            _check_settings(folder, journal.settings, settings or {})
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / FOLDER / "lock")
    with files.writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LabelrError(
                f"another run is writing to {folder}", "wait until it ends, or name another directory with `--output`"
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        with signals.deferred():
            yield
    except signals.Stopped as stopped:
        stopped.resume_option = ""  # the same command resumes
        raise


def _check_settings(folder: Path, previous: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    differences = [
        f"{name} was {_format(previous[name])} and is {_format(value)}"
        for name, value in settings.items()
        if name in previous and previous[name] != value
    ]
    if differences:
        raise LabelrError(
            f"the results in {folder} have other settings: {'; '.join(differences)}",
            "replace them with `--force`, or name another directory with `--output`",
        )


def _format(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _check_tables(folder: Path, journal: Journal) -> None:
    """Raises LabelrError if a user has edited a table, which would be overwritten."""
    for name in TABLES:
        written = journal.table_digest(name)
        if written is not None and is_edited(folder / name, [written]):
            raise LabelrError(
                f"{folder / name} was edited after labelr wrote it",
                "move it to keep it, for example into your labels; `--force` replaces it",
            )


def _clear(folder: Path) -> None:
    """Deletes the results of earlier runs, and no other files."""
    try:
        with closing(Journal(folder)) as journal:
            written = list(journal.files())
    except LabelrError:  # damaged, or from another version: it does not say which files were written
        written = []
    with files.writing(folder):
        for path in written:
            remove(path, folder.absolute())
        for path in (*(folder / name for name in TABLES), *(folder / FOLDER).glob(f"{JOURNAL_FILE}*")):
            path.unlink(missing_ok=True)
        for path in folder.rglob("*.csv") if not written else ():
            if path.is_file() and path.read_bytes()[:18] == b"label,probability\n":
                path.unlink()


def _delete_drafts(folder: Path, settings: Mapping[str, Any]) -> None:
    """Deletes the temporary files of a killed run."""
    roots = {folder, Path(settings["photos"])} if settings and settings["in place"] else {folder}
    for root in roots:
        for path in root.rglob(f"{files.DRAFT_PREFIX}*{files.DRAFT_SUFFIX}"):
            path.unlink(missing_ok=True)
