"""The right to make a model in a directory: taken by one run at a time, and given back with nothing useless left."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from labelr import files
from labelr.data.splits import SPLITS_FILE
from labelr.errors import LabelrError
from labelr.model import locks, shelf
from labelr.signals import Stopped


@contextmanager
def reserved(
    name: str | None, *, default_name: str, output: Path | None = None, force: bool = False, resume: bool = False
) -> Iterator[Path]:
    """A directory for a new model, made at once and locked, so that no other run takes it meanwhile.

    The lock is the kernel's: a process that dies does not keep it. A directory that was made here and holds neither a
    model nor an unfinished run in the end is removed again.

    Args:
        name: The model's name; None takes `default_name`, then ``-2``, ``-3``, ... until one is free.
        default_name: Made into a name by leaving out what a name must not hold.
        output: A directory elsewhere that is taken instead.
        force: Whether a model or run that is there already may be replaced; it stays until the new one has something
            to take its place.
        resume: Whether the run that is there is kept, to go on with it.

    Raises:
        LabelrError: If the name cannot be one, is taken, or the directory cannot be made.
    """
    with ExitStack() as held:
        if output is not None:
            folder = _take(output.absolute(), held)
        elif name is not None:
            folder = _take(shelf.models_folder() / shelf.check_name(name), held)
        else:
            folder = _take_first_free(default_stem(default_name), held)
        check_free(folder, force=force, resume=resume)
        try:
            yield folder
        except Stopped as stopped:
            stopped.resume_option = "--resume" if shelf.is_resumable(folder) else None
            raise
        finally:
            _clear(folder)


def _take(folder: Path, held: ExitStack) -> Path:
    """The directory, made and locked until `held` is closed; one that was made here and is empty then is removed."""
    if _make_folder(folder):
        held.callback(_remove_empty, folder)
    held.enter_context(locks.locked(folder))
    return folder


def _take_first_free(stem: str, held: ExitStack) -> Path:
    """The first directory ``stem``, ``stem-2``, ... that no model is in and no other run makes one in; taken."""
    for number in count(1):
        folder = shelf.models_folder() / (stem if number == 1 else f"{stem}-{number}")
        if folder.exists() and not _is_vacant(folder):
            continue
        with ExitStack() as attempt, suppress(locks.BusyError):
            attempt.callback(_remove_empty, folder)
            _take(folder, attempt)
            if _is_vacant(folder):  # still
                held.push(attempt.pop_all())
                break
    return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # a model is in it, or something of the user's own
        folder.rmdir()


def default_stem(default_name: str) -> str:
    """A name for a model, from one that may hold anything."""
    return re.sub(r"\.{2,}", ".", re.sub(r"[^\w.+-]+", "-", default_name))[:80].strip("-._+") or "model"


def _make_folder(folder: Path) -> bool:
    """Makes a directory with its parents; False where it is there already."""
    files.make_folder(folder.parent)
    try:
        folder.mkdir()
    except OSError as error:
        if folder.is_dir():
            return False
        raise files.write_error(folder, error) from error
    return True


def _is_vacant(folder: Path) -> bool:
    """Whether a directory holds nothing but what a run leaves that was killed before it had anything to keep."""
    return all(path.name in (locks.LOCK_FILE, shelf.RUN_FILE) or files.is_draft(path) for path in folder.iterdir())


def check_free(folder: Path, *, force: bool, resume: bool = False) -> None:
    """Raises LabelrError unless a directory is empty, or what is in it may be replaced or gone on with."""
    if shelf.is_resumable(folder):
        if not force and not resume:
            raise LabelrError(
                f"there is an unfinished run in {folder}",
                "go on with it by the same command and `--resume`, or start anew with `--force`",
            )
    elif (folder / shelf.INFO_FILE).is_file():
        if resume and not (folder / shelf.RECORD_FILE).is_file():
            raise LabelrError(
                f"the model in {folder} keeps nothing to go on from",
                "choose another name, or start anew with `--force`",
            )
        if not force and not resume:
            raise LabelrError(
                f"there is a model in {folder} already", "choose another name, or replace it with `--force`"
            )
    elif not _is_vacant(folder):
        raise LabelrError(f"{folder} exists, and is no model", "choose another name or directory")


def _clear(folder: Path) -> None:
    """Deletes what a run has left that saved nothing to keep or to go on with."""
    if not shelf.is_resumable(folder):
        (folder / shelf.RUN_FILE).unlink(missing_ok=True)
    if (folder / shelf.INFO_FILE).exists() or (folder / shelf.RUN_FILE).exists():
        return
    for leftover in (shelf.CONFIG_FILE, SPLITS_FILE, shelf.ERRORS_FILE, shelf.HISTORY_FILE, shelf.PREDICTIONS_FILE):
        (folder / leftover).unlink(missing_ok=True)
    for weights in folder.glob("weights-*.safetensors"):
        weights.unlink(missing_ok=True)


def begin_run(folder: Path) -> None:
    """Deletes what earlier runs have left to go on with, now that a new one begins; a model stays."""
    forget_run(folder)
    (folder / shelf.RECORD_FILE).unlink(missing_ok=True)


def finish_run(folder: Path) -> None:
    """Keeps what a finished run was begun with, and deletes what it would have gone on from."""
    if (folder / shelf.RUN_FILE).exists():
        (folder / shelf.RUN_FILE).replace(folder / shelf.RECORD_FILE)
    forget_run(folder)


def forget_run(folder: Path) -> None:
    """Deletes what an unfinished run has left to go on with; the best model so far stays."""
    for leftover in (shelf.RUN_FILE, shelf.CHECKPOINT_FILE):
        (folder / leftover).unlink(missing_ok=True)
    shutil.rmtree(folder / shelf.FOLDS_FOLDER, ignore_errors=True)


def check_removable(folder: Path) -> None:
    """Raises LabelrError where a model stands elsewhere than in the models folder, or is being made now."""
    if folder.parent != shelf.models_folder():
        raise LabelrError(f"{folder} is not in {shelf.models_folder()}", "delete a directory of your own yourself")
    if locks.is_locked(folder):
        raise LabelrError(f"a run is making the model in {folder} now", "stop it first, or wait")


def remove(folder: Path) -> None:
    """Deletes a model of the models folder.

    Raises:
        LabelrError: If it stands elsewhere, is being made now, or cannot be deleted.
    """
    check_removable(folder)
    files.remove_folder(folder)
