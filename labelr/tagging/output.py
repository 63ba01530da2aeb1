"""The output directory: what is refused, replaced and deleted in it, and its lock."""

import errno
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

from labelr import files, locks, signals
from labelr.data.predicted import check_journal_files
from labelr.errors import LabelrError, pluralize, preview, shown_as
from labelr.tagging.journal import FOLDER, JOURNAL_FILE, Journal
from labelr.tagging.tables import TABLES

log = logging.getLogger(__name__)

GALLERY = ("gallery", "gallery/labels")
"""The folders of the gallery's first page, and of those of labels."""
SUMMARY_FILE = "summary.json"
FILE_KINDS = ("csv", "txt", "xmp", "xmp stem")
"""The kinds of files that are written for single images."""
RESERVED = frozenset({*TABLES, SUMMARY_FILE, FOLDER})
"""Names in the output directory that no file of an image takes, in lower case: some file systems ignore case."""
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.EINVAL)


class UnwritableFileError(LabelrError):
    """The file of an image cannot be written: its name is too long or taken, or a user has edited it."""


@contextmanager
def failing_alone() -> Iterator[None]:
    """Lets a single image fail where the name of its file is impossible, and not the run."""
    try:
        yield
    except LabelrError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NAME_ERRORS:
            raise UnwritableFileError(error.message) from error
        raise


def check_unprotected(path: Path) -> None:
    """Raises UnwritableFileError if a file is write-protected: to replace it needs no permission of its own."""
    if not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
        raise UnwritableFileError(f"{path.name} is write-protected")


@contextmanager
def open_output(
    folder: Path, settings: Mapping[str, Any], tables: Collection[str] = TABLES, *, force: bool
) -> Iterator[Journal]:
    """The journal of an output directory, in which a run was started. The directory is locked, and signals deferred.

    `tables` are the names of those that the run may write.

    Raises:
        LabelrError: If the directory holds something else or results of other settings, or another run uses it.
        Stopped: At the end, if a signal has arrived meanwhile. The same command resumes the run.
    """
    with locks.locked(files.make_folder(folder / FOLDER), folder):
        if force:
            _clear(folder, settings)
        with closing(Journal(folder)) as journal:
            _check_settings(folder, journal.settings, settings)
            if journal.is_complete:
                _check_tables(folder, journal, tables)
            for root in {folder, root_of(folder, settings)}:  # the last file of a complete run is its summary
                files.delete_drafts(root, below=not journal.is_complete)
            journal.start(settings)
            try:
                with signals.deferred():
                    try:
                        yield journal
                    finally:
                        journal.restore()
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
        if os.path.lexists(folder / FOLDER):
            check_journal_files(folder)
        with files.writing(Path(copy)):
            for suffix in ("", "-wal"):  # the write-ahead log of a killed process
                if (path := folder / FOLDER / f"{JOURNAL_FILE}{suffix}").exists():
                    shutil.copy(path, Path(copy, FOLDER))
        shown_as[copy] = str(folder)
        try:
            with closing(Journal(Path(copy))) as journal:
                _check_settings(folder, journal.settings, settings or {})
                yield journal
        finally:
            del shown_as[copy]


@contextmanager
def finished_output(folder: Path, settings: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of an output directory after a run with these settings, to read; the directory is locked.

    Raises:
        LabelrError: If the results are gone, or of another or unfinished run.
        BusyError: If another run is using the directory.
    """
    if not check_output(folder):
        raise LabelrError(f"the results in {folder} are gone", "tag the images again")
    with locks.locked(folder / FOLDER, folder), closing(Journal(folder)) as journal:
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
    is_empty = not folder.is_dir() or all(map(files.is_deleted, folder.iterdir()))
    if not is_empty and ((folder / FOLDER).is_symlink() or not (folder / FOLDER).is_dir()):
        raise LabelrError(
            f"{folder} holds files that are not results of labelr", "name another directory with `--output`"
        )
    return (folder / FOLDER / JOURNAL_FILE).exists()


def _check_settings(folder: Path, previous: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    changed = [name for name in settings if name in previous and _identity(name, previous) != _identity(name, settings)]
    if changed:
        implied = set()  # by others, which users know
        if {"model", "labels"} & set(changed):
            implied = {"model labels", *(["threshold"] if _are_fitted(previous, settings) else [])}
        differences = [
            f"{name} {'were' if name.endswith('s') else 'was'} {_format(previous[name])} and "
            f"{'are' if name.endswith('s') else 'is'} {_format(settings[name])}"
            for name in changed
            if name not in implied
        ]
        raise LabelrError(
            f"the results in {folder} have other settings: {'; '.join(differences)}",
            "replace them with `--force`, or name another directory with `--output`",
        )


def _identity(name: str, settings: Mapping[str, Any]) -> object:
    """The value of a setting: of a model or thresholds the digest, since their names and paths may change."""
    value = settings[name]
    return value.rpartition(" ")[2] if name in ("model", "threshold") and isinstance(value, str) else value


def _are_fitted(*settings: Mapping[str, Any]) -> bool:
    """Whether the thresholds are those of the model, which differ if the model or the labels do."""
    return all(str(chosen.get("threshold")).startswith("auto (") for chosen in settings)


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _check_tables(folder: Path, journal: Journal, tables: Collection[str]) -> None:
    """Raises LabelrError if a user has edited a table, which would be overwritten."""
    for name in tables:
        written = journal.table_digests(name)
        if written and is_changed(folder / name, written):
            raise LabelrError(
                f"{folder / name} was edited after labelr wrote it",
                "rename it to keep it, such as corrected.csv, and learn from it there; `--force` replaces it",
            )


def _clear(folder: Path, settings: Mapping[str, Any]) -> None:
    """Deletes the results of earlier runs, and no other files; the journal still knows what was predicted."""
    with files.writing(folder), ExitStack() as stack:
        (folder / SUMMARY_FILE).unlink(missing_ok=True)  # first: it says that the results are complete
        try:
            journal = stack.enter_context(closing(Journal(folder)))
            kept = delete_files(journal, folder, root_of(folder, settings))
        except LabelrError as error:  # damaged, or from another version: it does not say which files were written
            stack.close()
            log.warning("%s; files of images are kept, and used again if their content is right", error.message)
            for path in (folder / FOLDER).glob(f"{JOURNAL_FILE}*"):
                path.unlink()
            return
        if kept:
            log.warning("kept %s, edited or not written by labelr: %s", pluralize(len(kept), "file"), preview(kept))
        for name in (*TABLES, *pages_in(folder)):
            if not is_changed(folder / name, journal.table_digests(name)):
                (folder / name).unlink(missing_ok=True)
        journal.clear()


def pages_in(folder: Path) -> list[str]:
    """The pages of the gallery in an output directory, by their paths in it; none behind a link."""
    pages = (path for place in GALLERY for path in (folder / place).glob("*.html") if files.is_inside(path, folder))
    return sorted(path.relative_to(folder).as_posix() for path in pages)


def root_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The folder of the files that are written for images: the output directory, or that of the photos."""
    return Path(settings["photos"]) if settings.get("in place") is True else folder.absolute()


def delete_files(journal: Journal, folder: Path, root: Path, *, orphans: bool = False) -> list[Path]:
    """Deletes the files that were written for images, or for images that are gone or failed.

    A journal may come from elsewhere. What it lists is deleted only if this user has signed the entry, and the file is
    in the output directory or `root`, not behind a link, with a name that labelr gives and the content that it wrote.

    Returns:
        The files that are kept: those edited since, and those that labelr did not write.
    """
    kept = []
    for path, written in journal.files(orphans=orphans).items():
        is_ours = any(_may_be_written(path, written.image, place) for place in (folder.absolute(), root))
        if is_ours and not is_changed(path, written.digests):
            _remove(path, folder.absolute())
        else:
            kept.append(path)
    return kept


def _may_be_written(path: Path, image: str, root: Path) -> bool:
    """Whether a path is one that labelr writes for an image."""
    if not PurePath(image).name or "\0" in image:
        return False
    return path in {root / name for name in file_names(image, FILE_KINDS)} and files.is_inside(path, root)


def check_inside(path: Path, folder: Path) -> None:
    """Raises LabelrError if a file would be written outside of a folder, behind a link."""
    if not files.is_inside(path, folder):
        raise LabelrError(f"{path.parent} is outside of {folder}, behind a link", "delete the link")


def file_names(image: str, kinds: Collection[str]) -> list[str]:
    """The names of the files that are written for an image, of some kinds."""
    stem = PurePath(image).with_suffix("").as_posix()
    names = {"csv": f"{image}.csv", "txt": f"{stem}.txt", "xmp": f"{image}.xmp", "xmp stem": f"{stem}.xmp"}
    return [names[kind] for kind in names if kind in kinds]


def is_changed(path: Path, written: Collection[str]) -> bool:
    """Whether something else than labelr wrote, by its digests, is there: an edited file, a link or a folder."""
    return os.path.lexists(path) and files.digest(path) not in {*written} - {""}


def _remove(path: Path, folder: Path) -> None:
    """Deletes a file, and the empty folders above it up to the output directory; never folders outside of it."""
    with suppress(OSError):
        path.unlink()
        if folder in path.parents:
            for parent in path.parents:
                if parent == folder:
                    break
                parent.rmdir()
