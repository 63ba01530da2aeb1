"""A training run: a locked directory with a record and a checkpoint, its settings, and where it computes."""

import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta

from labelr import files, locks, serialization, signals
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.locate import name_of_data
from labelr.data.splits import SPLITS_FILE, write_splits
from labelr.errors import BusyError, LabelrError, first_line
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.device import Runtime, pick_runtime
from labelr.model.info import Count, ModelInfo, Pretraining, Timestamp
from labelr.model.store import RUN_FILE
from labelr.model.weight_files import load_pickled
from labelr.progress import Track, untracked
from labelr.training.distributed import ALONE, Group
from labelr.training.history import EpochRow
from labelr.training.record import (
    CHECKPOINT_FILE,
    FOLDS_FOLDER,
    FORMAT,
    RECORD_FILE,
    START_OVER,
    RunRecord,
    absolute_paths,
    find_run,
    is_finished,
    is_resumable,
    load_record,
)


@dataclass
class Progress:
    """The parts of a checkpoint that are no tensors; see `Trainer.state` and `EpochLoop`."""

    epoch: Count
    steps: Count
    waited_seconds: float
    micro_batch: tuple[int | None, Annotated[int, Meta(ge=1, le=2**31)]]
    scaler: dict[str, int | float]
    history: list[EpochRow]
    best_created: Timestamp
    seconds: float
    pretraining: Pretraining | None


class Checkpoint:
    """The checkpoint of one training run: a file that is replaced atomically.

    Args:
        folder: The run's directory; None neither saves nor loads anything.
        minutes: The time between checkpoints within an epoch.
    """

    def __init__(self, folder: Path | None, *, minutes: float) -> None:
        self.path = folder and folder / CHECKPOINT_FILE
        self._seconds = 60 * minutes
        self._saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether to save now: enough time has passed, or a signal asked the process to stop."""
        return signals.stop_requested() or time.monotonic() - self._saved >= self._seconds

    def load(self, restore: Callable[[Mapping[str, Any]], None]) -> bool:
        """Passes the saved state to `restore`; False if there is none.

        Raises:
            LabelrError: If it cannot be read, is of another version of labelr, or `restore` fails on it.
        """
        if self.path is None or not self.path.exists():
            return False
        try:
            state = load_pickled(self.path)
        except (OSError, ValueError, pickle.UnpicklingError) as error:
            raise LabelrError(f"the checkpoint {self.path} cannot be read: {first_line(error)}", START_OVER) from error
        try:
            if not isinstance(state, dict) or serialization.convert(state["format"], int) != FORMAT:
                raise LabelrError(f"the checkpoint {self.path} is of another version of labelr", START_OVER)
            plain = {name: state[name] for name in Progress.__dataclass_fields__}
            restore({**state, **vars(serialization.convert(plain, Progress))})
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise LabelrError(f"the checkpoint {self.path} is damaged: {first_line(error)}", START_OVER) from error
        return True

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint.

        Raises:
            LabelrError: If it cannot be written; the previous one is still complete.
        """
        if self.path is None:
            return
        with files.replacing(self.path) as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch's message hides why it could not write
                    raise error.__context__ from error
                raise
        self._saved = time.monotonic()


@dataclass(kw_only=True)
class Run:
    """One training run.

    Attributes:
        folder: The directory that the model is saved in.
        config: The settings; "auto" is resolved from `start` on.
        runtime: Device, precision and threads.
        data: The absolute data folders; empty for synthetic images.
        record: What the resumed run was started with; None for a new run.
        deadline: The end of the run, in seconds of the monotonic clock; None if the number of epochs is limited.
        log_dir: The directory for TensorBoard events; None writes none.
        track: Shows the progress.
        group: The processes that train it.
    """

    folder: Path
    config: TrainConfig
    runtime: Runtime
    data: tuple[str, ...] = ()
    record: RunRecord | None = None
    deadline: float | None = None
    log_dir: Path | None = None
    track: Track = untracked
    group: Group = ALONE

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.record is not None and is_finished(self.folder)

    def checkpoint(self) -> Checkpoint:
        """The run's checkpoint; a run with a deadline has none, since its result depends on the clock."""
        folder = self.folder if self.deadline is None else None
        return Checkpoint(folder, minutes=self.config.checkpoint_minutes)

    def start(self, record: RunRecord) -> None:
        """Takes over the settings of a record, and writes it, unless the run has a deadline.

        A new run deletes the checkpoint of previous runs in its directory. A model stays with its record until the
        first one of this run replaces it, so that a run that is killed before can be started again.

        Raises:
            LabelrError: If the record cannot be written.
        """
        if self.record is None:
            self.discard_progress()
        if self.deadline is None:
            files.write_atomically(self.folder / RUN_FILE, record.to_json())
        self.config = TrainConfig.of(record.settings)

    def fold(self, name: str) -> "Run":
        """The run that trains the model of one fold, in a directory of its own."""
        folder = files.make_folder(self.folder / FOLDS_FOLDER / name)
        log_dir = self.log_dir / f"fold-{name}" if self.log_dir is not None else None
        return replace(self, folder=folder, log_dir=log_dir)

    def finish(self, record: RunRecord, dataset: Dataset) -> None:
        """Keeps the record of the finished run, and deletes its checkpoint.

        What was written early, and has vanished since, perhaps with the directory, is written again.

        Raises:
            LabelrError: If the model has vanished.
        """
        if not (self.folder / store.INFO_FILE).is_file():
            raise LabelrError(f"{self.folder} vanished during the run", "run the same command again")
        if not (self.folder / SPLITS_FILE).is_file():
            write_data_files(self.folder, dataset)
        if self.deadline is None and not (self.folder / RUN_FILE).is_file():
            files.write_atomically(self.folder / RUN_FILE, record.to_json())
        with suppress(FileNotFoundError):  # that of a run with a deadline
            (self.folder / RUN_FILE).replace(self.folder / RECORD_FILE)
        self.discard_progress()

    def discard_progress(self) -> None:
        """Deletes the record and checkpoint of an unfinished run; its model so far stays."""
        for name in (RUN_FILE, CHECKPOINT_FILE):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / FOLDS_FOLDER, ignore_errors=True)


def write_data_files(folder: Path, dataset: Dataset) -> None:
    """Writes which images of a data set are in which split, and which are left out, beside a model."""
    write_splits(folder, dataset)
    files.write_atomically(folder / store.ERRORS_FILE, dataset.errors_csv)


@contextmanager
def open_run(
    data: Sequence[Path],
    config: TrainConfig,
    *,
    name: str | None = None,
    output: Path | None = None,
    force: bool = False,
    resume: bool = False,
    log_dir: Path | None = None,
    track: Track = untracked,
) -> Iterator[Run]:
    """A run in a directory that it holds the lock of: a new run, or one to resume.

    A resumed run keeps its own settings, except those that may change. For the other arguments see `fit`.

    Raises:
        LabelrError: If the directory cannot be used, or the existing run has other settings.
    """
    if resume and force:
        raise SettingError("a run is either resumed or started over", "give `--resume` or `--force`, not both")
    if resume and config.time:
        raise SettingError(
            "a run with a time limit depends on the clock and has no checkpoint", "leave `--resume` or `--time` out"
        )
    deadline = time.monotonic() + 60 * config.time if config.time else None
    default_name = name_of_data(data)
    if name is None and output is None:
        name = find_run(default_name, data, config, resume=resume)
    with reserve_folder(name, default_name=default_name, output=output, force=force, resume=resume) as folder:
        record = load_record(folder, config) if resume else None
        settings = record.resumed_config(config) if record else config
        runtime = pick_runtime(settings)
        yield Run(
            folder=folder, config=settings, runtime=runtime, data=absolute_paths(data), record=record,
            deadline=deadline, log_dir=log_dir, track=track,
        )  # fmt: skip


@contextmanager
def reserve_folder(
    name: str | None, *, default_name: str, output: Path | None = None, force: bool = False, resume: bool = False
) -> Iterator[Path]:
    """A directory for a new model, created at once and locked, so that no other run takes it meanwhile.

    A directory that was created here and holds neither a model nor an unfinished run in the end is removed again.

    Args:
        name: The model's name; None takes `default_name`, then ``-2``, ``-3``, ... until one is free.
        default_name: Becomes a valid name by replacing the characters that a name must not hold.
        output: The directory to use instead.
        force: Whether an existing model or run may be replaced; it stays until the new one has a first result.
        resume: Whether an existing run is kept, to be resumed.

    Raises:
        LabelrError: If the name is invalid or taken, or the directory cannot be created.
    """
    with ExitStack() as stack:
        if output is not None:
            folder = stack.enter_context(_locked(output.absolute(), keep=output.exists()))
        elif name is not None:
            folder = stack.enter_context(_locked(store.models_folder() / store.check_name(name)))
        else:
            folder = _lock_first_free(store.make_name(default_name), stack)
        check_free(folder, force=force, resume=resume)
        _check_links(folder)
        files.delete_drafts(folder)
        try:
            yield folder
        except signals.Stopped as stopped:
            stopped.resume_option = "--resume" if is_resumable(folder) else None
            raise
        finally:
            _clean_up(folder)


@contextmanager
def _locked(folder: Path, *, keep: bool = False) -> Iterator[Path]:
    """A directory, created if it does not exist, and locked; it is removed if it is empty in the end, unless `keep`."""
    try:
        with locks.locked(folder):
            yield folder
    finally:
        if not keep:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _lock_first_free(stem: str, stack: ExitStack) -> Path:
    """Locks the first of ``stem``, ``stem-2``, ... that holds no model and is not in use, until `stack` is closed."""
    for name in store.numbered_names(stem):
        folder = store.models_folder() / name
        if folder.exists() and not _is_vacant(folder):
            continue
        if locks.is_locked(folder):
            continue
        with suppress(BusyError), ExitStack() as attempt:
            attempt.enter_context(_locked(folder))
            if _is_vacant(folder):  # now that it is locked
                stack.push(attempt.pop_all())
                break
    return folder


def _is_vacant(folder: Path) -> bool:
    """Whether a directory holds nothing but leftovers of a run that was killed before its first checkpoint."""
    try:
        left = [path for path in folder.iterdir() if not files.is_draft(path) and not files.is_deleted(path)]
        names = {path.name for path in left} - {locks.LOCK_FILE}
    except FileNotFoundError:  # another run has ended meanwhile
        return True
    return not names or (names == {RUN_FILE} and _is_ours(folder))


def _is_ours(folder: Path) -> bool:
    """Whether labelr wrote the model or run in a directory; other programs have a `model.json` or `run.json` too."""
    if folder.parent == store.models_folder() or any(folder.glob(store.WEIGHTS)):
        return True
    with suppress(LabelrError):
        ModelInfo.read(folder / store.INFO_FILE)
        return True
    return _has_record(folder)


def _has_record(folder: Path) -> bool:
    """Whether a directory holds the record of a run, unfinished or finished."""
    for name in (RUN_FILE, RECORD_FILE):
        with suppress(LabelrError):
            RunRecord.read(folder / name)
            return True
    return False


def _check_links(folder: Path) -> None:
    """Raises LabelrError if a folder in a model's directory is a link, behind which nothing may be deleted."""
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if path.is_symlink():
                raise LabelrError(f"{path} is a link to another folder", "delete the link, or choose another directory")


def check_free(folder: Path, *, force: bool, resume: bool = False) -> None:
    """Raises LabelrError unless a directory is empty, or its content may be replaced or resumed."""
    resumable, has_model = is_resumable(folder), (folder / store.INFO_FILE).is_file()
    if not (resumable or has_model) and _is_vacant(folder):
        return
    if not (_is_ours(folder) if resumable or has_model else _has_record(folder)):
        raise LabelrError(f"{folder} exists and is not a model", "choose another name or directory")
    if force or (resume and (resumable or not has_model or (folder / RECORD_FILE).is_file())):
        return
    if resumable:
        raise LabelrError(
            f"there is an unfinished run in {folder}",
            f"resume it with the same command and `--resume`, or {START_OVER}",
        )
    if not has_model:  # of a kill during its upload to a bucket
        raise LabelrError(f"the run in {folder} has neither a model nor a checkpoint", START_OVER)
    if resume:
        raise LabelrError(
            f"the model in {folder} has no checkpoint to resume from", f"choose another name, or {START_OVER}"
        )
    raise LabelrError(f"there is a model in {folder} already", "choose another name, or replace it with `--force`")


def _clean_up(folder: Path) -> None:
    """Deletes the leftovers of a run that has saved neither a model nor a checkpoint."""
    if not is_resumable(folder):
        (folder / RUN_FILE).unlink(missing_ok=True)
    if (folder / store.INFO_FILE).exists() or (folder / RUN_FILE).exists():
        return
    names = (store.CONFIG_FILE, SPLITS_FILE, store.ERRORS_FILE, store.HISTORY_FILE, store.PREDICTIONS_FILE)
    for path in (*(folder / name for name in names), *folder.glob(store.WEIGHTS)):
        path.unlink(missing_ok=True)
