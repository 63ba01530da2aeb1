"""The output directory: of one run at a time, one model and one choice of labels, and of nothing else."""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock, Timeout

from labelr import files
from labelr.config import TagOptions
from labelr.errors import LabelrError, preview
from labelr.tagging.journal import FOLDER, Journal, copy_journal
from labelr.tagging.uncertain import UNCERTAIN_FILE
from labelr.tagging.writers import (
    ERRORS_FILE,
    JSONL_FILE,
    LABELS_FILE,
    PROBABILITIES_FILE,
    ImageCsv,
    ImageTxt,
    ImageWriter,
    remove,
)

log = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"
TABLES = (LABELS_FILE, PROBABILITIES_FILE, JSONL_FILE, ERRORS_FILE, UNCERTAIN_FILE)


@contextmanager
def opened(folder: Path, made_by: Mapping[str, Any], *, force: bool) -> Iterator[Journal]:
    """The journal of an output directory, locked, which is new or of a run of the same kind.

    Args:
        folder: The directory; made where it is not there.
        made_by: What results depend on beside the images.
        force: Whether results that are there already are deleted first.

    Raises:
        LabelrError: If the directory holds something else, is in use, or its results are of another kind.
    """
    check(folder)
    files.make_folder(folder / FOLDER)
    with _locked(folder):
        if force:
            _clear(folder)
        elif not is_begun(folder) and _is_summary(folder / SUMMARY_FILE):
            raise LabelrError(
                f"the results in {folder} are of an earlier version of labelr, and cannot be gone on with",
                "replace them with `--force`, or name another `--output`",
            )
        journal = Journal(folder)
        try:
            _check_same(folder, journal.made_by, made_by)
            check_tables(folder, journal)
            if not journal.is_complete:
                _clear_drafts(folder, journal)
            yield journal
        finally:
            journal.close()


def check(folder: Path) -> None:
    """Raises LabelrError unless a directory is new, empty, or holds results of labelr."""
    if folder.exists() and not folder.is_dir():
        raise LabelrError(f"the output {folder} is a file", "name another directory with `--output DIR`")
    if not folder.is_dir() or next(folder.iterdir(), None) is None:
        return
    if not (folder / FOLDER).is_dir() and not _is_summary(folder / SUMMARY_FILE):
        raise LabelrError(
            f"{folder} holds files that are no results of labelr", "name another directory with `--output`"
        )


def is_begun(folder: Path) -> bool:
    """Whether an output directory holds results of an earlier run that can be gone on with."""
    return (folder / FOLDER / "journal.sqlite").exists()


@contextmanager
def looked_at(folder: Path, made_by: Mapping[str, Any]) -> Iterator[Journal]:
    """A copy of the journal of an output directory that is there, so that nothing is written there.

    Raises:
        LabelrError: If its results are of another kind.
    """
    with TemporaryDirectory(prefix="labelr-") as copy:
        copy_journal(folder, Path(copy))
        with closing(Journal(Path(copy))) as journal:
            _check_same(folder, journal.made_by, made_by)
            yield journal


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / FOLDER / "lock")
    with files.writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LabelrError(
                f"another run is writing into {folder}", "wait for it, or name another `--output`"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = [
        f"{name} was {_said(before[name])} and is {_said(value)}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
    if differences:
        raise LabelrError(
            f"the results in {folder} were made otherwise: {'; '.join(differences)}",
            "replace them with `--force`, or name another `--output`",
        )


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def image_writers(folder: Path, base: Path, labels: tuple[str, ...], options: TagOptions) -> list[ImageWriter]:
    """The writers of a file for each image, in the output directory or beside the images."""
    tree = base if options.in_place else folder.absolute()
    made: dict[str, ImageWriter] = {
        "csv": ImageCsv(tree, labels), "txt": ImageTxt(tree, labels, append=options.append, images=base),
    }  # fmt: skip
    return [made[name] for name in options.formats if name in made]


def _clear(folder: Path) -> None:
    """Deletes the results of an earlier run, and nothing else that may lie there."""
    try:
        journal = Journal(folder)
        ours = journal.files()
        journal.close()
    except LabelrError:  # damaged, or of another version: what it knew is lost
        ours = []
    with files.writing(folder):
        for path in ours:
            remove(path, folder.absolute())
        for path in (*(folder / name for name in TABLES), *(folder / FOLDER).glob("journal.sqlite*")):
            path.unlink(missing_ok=True)
        for path in folder.rglob("*.csv") if not ours else ():
            if path.is_file() and path.read_bytes()[:18] == b"label,probability\n":
                path.unlink()


def check_tables(folder: Path, journal: Journal) -> None:
    """Raises LabelrError where a person has changed a table since it was written, which is not to be lost."""
    for name in TABLES:
        written = journal.table_digest(name)
        if written is not None and is_changed(folder / name, [written]):
            raise LabelrError(
                f"{folder / name} has been changed since labelr wrote it",
                "move it elsewhere to keep it, such as to your own labels; `--force` replaces it",
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file that labelr wrote; empty where none can be read."""
    try:
        with path.open("rb") as file:
            return files.digest(file)
    except OSError:
        return ""


def is_changed(path: Path, written: Collection[str]) -> bool:
    """Whether a file holds something else than labelr has written; not where there is none.

    Args:
        path: The file.
        written: The digests that it may have had.
    """
    digest = file_digest(path)
    return bool(digest) and digest not in written


def delete_orphans(folder: Path, journal: Journal) -> None:
    """Deletes the files of images that are gone or have failed, but for those that a person has changed."""
    kept = []
    for path in journal.orphans():
        if is_changed(path, journal.digests(path)):
            kept.append(path)
        else:
            remove(path, folder.absolute())
    if kept:
        log.warning(
            "kept %d of the files of images that are gone or failed, since somebody has changed them: %s",
            len(kept), preview(kept),
        )  # fmt: skip


def _clear_drafts(folder: Path, journal: Journal) -> None:
    """Deletes what a run that was killed was writing."""
    before = journal.made_by
    trees = {folder, Path(before["photos"])} if before and before["in place"] else {folder}
    for tree in trees:
        for path in tree.rglob(f"{files.DRAFT_PREFIX}*{files.DRAFT_SUFFIX}"):
            path.unlink(missing_ok=True)


def _is_summary(path: Path) -> bool:
    """Whether a file is the account of an earlier run."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and {"found", "ok", "failed", "skipped", "per_label"} <= set(said)
