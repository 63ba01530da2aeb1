"""A training run on disk: the directory that it takes, its lock, and what it leaves there."""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import TrainConfig
from labelr.data.splits import SPLITS_FILE
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.store import RUN_FILE
from labelr.signals import Stopped
from labelr.training.record import START_OVER, RunRecord, absolute_paths, format_versions, versions

RECORD_FILE = "record.json"
"""``run.json``, renamed once the run is finished."""
CHECKPOINT_FILE = "checkpoint.pt"
FOLDS_FOLDER = "folds"

log = logging.getLogger(__name__)


@contextmanager
def reserve_folder(
    name: str | None, *, default_name: str, output: Path | None = None, force: bool = False, resume: bool = False
) -> Iterator[Path]:
    """A directory for a new model, created at once and locked, so that no other run takes it meanwhile.

    A directory that was created here and holds neither a model nor an unfinished run in the end is removed again.

    Args:
        name: The model's name; None takes `default_name`, then ``-2``, ``-3``, ... until one is free.
        default_name: Becomes a valid name by replacing the characters that a name must not hold.
        output: A directory elsewhere that is taken instead.
        force: Whether an existing model or run may be replaced; it stays until the new one has a first result.
        resume: Whether an existing run is kept, to be resumed.

    Raises:
        LabelrError: If the name is invalid or taken, or the directory cannot be created.
    """
    with ExitStack() as stack:
        if output is not None:
            folder = _take(output.absolute(), stack)
        elif name is not None:
            folder = _take(store.models_folder() / store.check_name(name), stack)
        else:
            folder = _take_first_free(store.make_name(default_name), stack)
        check_free(folder, force=force, resume=resume)
        try:
            yield folder
        except Stopped as stopped:
            stopped.resume_option = "--resume" if is_resumable(folder) else None
            raise
        finally:
            _clean_up(folder)


def _take(folder: Path, stack: ExitStack) -> Path:
    """Locks the directory until `stack` is closed; one that was created here and is empty then is removed."""
    if _create(folder):
        stack.callback(_remove_if_empty, folder)
    stack.enter_context(files.locked(folder))
    return folder


def _take_first_free(stem: str, stack: ExitStack) -> Path:
    """Takes the first of ``stem``, ``stem-2``, ... that holds no model and is not in use by another run."""
    for number in count(1):
        folder = store.models_folder() / (stem if number == 1 else f"{stem}-{number}")
        if folder.exists() and not _is_vacant(folder):
            continue
        with ExitStack() as attempt, suppress(files.LockedError):
            attempt.callback(_remove_if_empty, folder)
            _take(folder, attempt)
            if _is_vacant(folder):  # now that it is locked
                stack.push(attempt.pop_all())
                break
    return folder


def _create(folder: Path) -> bool:
    """Creates a directory with its parents; False if it exists."""
    files.make_folder(folder.parent)
    try:
        folder.mkdir()
    except OSError as error:
        if folder.is_dir():
            return False
        raise files.write_error(folder, error) from error
    return True


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds a model, or files of the user
        folder.rmdir()


def _is_vacant(folder: Path) -> bool:
    """Whether a directory holds nothing but leftovers of a run that was killed before its first checkpoint."""
    return all(path.name in (files.LOCK_FILE, RUN_FILE) or files.is_draft(path) for path in folder.iterdir())


def check_free(folder: Path, *, force: bool, resume: bool = False) -> None:
    """Raises LabelrError unless a directory is empty, or its content may be replaced or resumed."""
    if is_resumable(folder):
        if not force and not resume:
            raise LabelrError(
                f"there is an unfinished run in {folder}",
                f"resume it with the same command and `--resume`, or {START_OVER}",
            )
    elif (folder / store.INFO_FILE).is_file():
        if resume and not (folder / RECORD_FILE).is_file():
            raise LabelrError(
                f"the model in {folder} has no checkpoint to resume from", f"choose another name, or {START_OVER}"
            )
        if not force and not resume:
            raise LabelrError(
                f"there is a model in {folder} already", "choose another name, or replace it with `--force`"
            )
    elif not _is_vacant(folder):
        raise LabelrError(f"{folder} exists and is not a model", "choose another name or directory")


def _clean_up(folder: Path) -> None:
    """Deletes the leftovers of a run that has saved neither a model nor a checkpoint."""
    if not is_resumable(folder):
        (folder / RUN_FILE).unlink(missing_ok=True)
    if (folder / store.INFO_FILE).exists() or (folder / RUN_FILE).exists():
        return
    for name in (store.CONFIG_FILE, SPLITS_FILE, store.ERRORS_FILE, store.HISTORY_FILE, store.PREDICTIONS_FILE):
        (folder / name).unlink(missing_ok=True)
    for weights in folder.glob("weights-*.safetensors"):
        weights.unlink(missing_ok=True)


def start_run(folder: Path) -> None:
    """Deletes the record and checkpoint of earlier runs; a model stays."""
    forget_run(folder)
    (folder / RECORD_FILE).unlink(missing_ok=True)


def finish_run(folder: Path) -> None:
    """Keeps the record of a finished run, and deletes its checkpoint."""
    if (folder / RUN_FILE).exists():
        (folder / RUN_FILE).replace(folder / RECORD_FILE)
    forget_run(folder)


def forget_run(folder: Path) -> None:
    """Deletes the record and checkpoint of an unfinished run; its best model so far stays."""
    for name in (RUN_FILE, CHECKPOINT_FILE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / FOLDS_FOLDER, ignore_errors=True)


# --- resume ----------------------------------------------------------------------------------------------------------


def is_resumable(folder: Path) -> bool:
    """Whether a directory holds an unfinished run with a checkpoint."""
    has_progress = (folder / CHECKPOINT_FILE).exists() or (folder / FOLDS_FOLDER).exists()
    return has_progress and (folder / RUN_FILE).is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run in a directory is finished."""
    return (folder / RECORD_FILE).is_file() and not (folder / RUN_FILE).is_file()


def find_run(default_name: str, data: Sequence[Path], given: TrainConfig, *, resume: bool) -> str | None:
    """The name of the existing run that a command without a name refers to; None if there is none.

    Args:
        default_name: The name of unnamed runs on this data.
        data: The data folders.
        given: The settings as given by the user.
        resume: Whether to resume the run: then an unfinished one with other settings is the second choice, and a
            finished one with the same settings the last.
    """
    pattern = re.compile(re.escape(store.make_name(default_name)) + r"(-\d+)?")
    found = []
    for rank, name in enumerate((RECORD_FILE, RUN_FILE) if resume else (RUN_FILE,)):
        for path, record in list_runs(name):
            same = not record.setting_differences(given, epochs_may_grow=name == RUN_FILE)
            wanted = same or (resume and name == RUN_FILE)
            if (
                wanted
                and pattern.fullmatch(path.name)
                and record.data == absolute_paths(data)
                and (resume or not files.is_locked(path))
            ):
                found.append((same, rank, record.created, path.name))
    return max(found)[-1] if found else None


def load_record(folder: Path, given: TrainConfig) -> RunRecord | None:
    """The record of the run in a directory that `given` resumes; None if there is no run to resume.

    Raises:
        LabelrError: If it was started with other settings.
    """
    finished = is_finished(folder)
    if not finished and not is_resumable(folder):
        log.info("there is no unfinished run to resume: starting a new one in %s", folder)
        return None
    record = RunRecord.read(folder / (RECORD_FILE if finished else RUN_FILE))
    differences = record.setting_differences(given, epochs_may_grow=not finished)
    if differences:
        raise LabelrError(
            f"the {'finished' if finished else 'unfinished'} run in {folder} was started with other settings: "
            f"{'; '.join(differences)}",
            f"give the same options, or {START_OVER}",
        )
    if record.versions != versions() and not finished:
        log.warning(
            "the run was started with %s and is resumed with %s: the result will not be bit-identical",
            format_versions(record.versions), format_versions(versions()),
        )  # fmt: skip
    return record


# --- list ------------------------------------------------------------------------------------------------------------


def list_runs(name: str = RUN_FILE) -> Iterator[tuple[Path, RunRecord]]:
    """The directory and record of each unfinished run in the models folder, or of each finished one (`RECORD_FILE`).

    Damaged ones are skipped with a warning.
    """
    for path in store.folders_with(name):
        if name == RUN_FILE and not (is_resumable(path) or files.is_locked(path)):
            continue
        try:
            yield path, RunRecord.read(path / name)
        except LabelrError as error:
            log.warning("%s; the run is skipped", error.message)


def list_models_and_runs() -> list[dict[str, Any]]:
    """One row about each model and unfinished run in the models folder, the newest last."""
    runs = dict(list_runs())
    rows = [_summarise(path, record) for path, record in runs.items()]
    rows += [store.summarise(path, info) for path, info in store.list_models() if path not in runs]
    return sorted(rows, key=lambda row: str(row["created"]))


def _summarise(path: Path, record: RunRecord) -> dict[str, Any]:
    """A row about an unfinished run: the keys of `store.summarise`, and its progress."""
    running = files.is_locked(path)
    return {
        "name": path.name,
        "path": str(path),
        "created": record.created,
        "labels": len(record.labels),
        "map_macro": None,
        "bytes": files.folder_size(path),
        "complete": False,
        "resumable": not running,
        "running": running,
        "epochs_done": _epochs_done(path, record),
        "epochs": record.settings.get("epochs"),
    }


def _epochs_done(folder: Path, record: RunRecord) -> int:
    """The number of finished epochs of an unfinished run; those of folds do not count."""
    history = folder / store.HISTORY_FILE
    if not (folder / CHECKPOINT_FILE).exists() or not history.exists():
        return 0
    if history.stat().st_mtime < datetime.fromisoformat(record.created).timestamp():  # of the model to be replaced
        return 0
    return len(history.read_text(encoding="utf-8").splitlines()) - 1
