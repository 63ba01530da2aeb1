"""The study: what is known of a search, in a journal file or in a database, shared by all processes that work on it."""

import hashlib
import json
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import optuna
from filelock import FileLock
from optuna.storages import JournalStorage, RDBStorage, fail_stale_trials
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from labelr import files, locks, serialization
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.errors import BusyError, LabelrError, first_line, mask_passwords, preview
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.info import Setting
from labelr.training.record import FREE_SETTINGS, format_setting, recorded_images
from labelr.tuning.space import Plan, Point
from labelr.tuning.trials import (
    MAX_DEATHS,
    POINT,
    WORKER,
    attempts_by_point,
    check_attempts,
    count_deaths,
    is_interrupted,
    read_trials,
)

log = logging.getLogger(__name__)

IDENTITY = "identity"
JOURNAL_FILE = "study.log"
JOURNAL_START = b'{"op_code":'
"""How Optuna starts each line of a journal."""
URL_VARIABLE = "LABELR_TUNE_STORAGE"
"""Carries the address of the database to workers, since it holds a password."""
HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 120
"""How often a worker reports to a database that it is alive, and the silence after which it counts as dead."""
DRIVERS = {"postgresql": "postgresql+pg8000", "postgres": "postgresql+pg8000", "mysql": "mysql+pymysql"}
"""The drivers of the extra ``labelr[storage]``, which need no compiler."""
CONNECTION_ATTEMPTS = 5
"""Creating the tables of a database is retried, since another machine may create them at the same moment."""
_MACHINE = ("device", "amp", "compile")
"""Settings that may differ between the machines of a search."""


class Identity(TypedDict):
    """What a search is defined by."""

    settings: dict[str, Setting]
    labels: list[str]
    images: int
    content: str


class Refit(TypedDict):
    """Where the best settings are trained."""

    host: str
    path: str
    settings: dict[str, Setting]


class StudyAttributes(TypedDict, total=False):
    """What labelr keeps of a study besides its trials."""

    identity: Identity
    refit: Refit


class Study:
    """A study, and the directory with its files on this machine; a new one if there is none of that name.

    Args:
        name: Its name.
        folder: Its directory.
        url: The database that holds it; None for a journal in its directory.

    Attributes:
        shared: The Optuna study, which all processes share.

    Raises:
        LabelrError: If its storage cannot be reached, or is damaged.
    """

    def __init__(self, name: str, folder: Path, url: str | None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name, self.folder, self.url = name, files.make_folder(folder), url
        _check_links(folder)
        with nullcontext() if url else _reading_journal(folder / JOURNAL_FILE):
            self.storage = connect(url) if url else _open_journal(folder / JOURNAL_FILE)
            self.shared = optuna.create_study(
                study_name=name, storage=self.storage, direction="maximize", load_if_exists=True
            )
            serialization.convert(self.shared.user_attrs, StudyAttributes)
            check_attempts(self.attempts())
        self.claim_lock = FileLock(self.folder / ".claim.lock")
        """Held while points are enqueued and claimed, so that no two processes of this machine claim the same one."""
        self.trials_folder = self.folder / "trials"
        """Holds a directory ``NUMBER-SEED`` with the checkpoint of each unfinished run."""

    @property
    def identity(self) -> dict[str, Any]:
        """What it searches; empty for a new study."""
        return dict(self.shared.user_attrs.get(IDENTITY, {}))

    @property
    def mark(self) -> str:
        """What the records of its runs keep, so that a model shows which study it belongs to: its name and data."""
        return f"{self.name} {self.identity.get('content', '')}"

    def close(self) -> None:
        """Closes the connections to the database."""
        if isinstance(self.storage, RDBStorage):
            self.storage.engine.dispose()

    def attempts(self, *states: TrialState) -> list[FrozenTrial]:
        """All attempts at points, or those in some states."""
        return self.shared.get_trials(deepcopy=False, states=states or None)

    @contextmanager
    def working(self, worker: str) -> Iterator[None]:
        """Holds the lock that shows other processes that a worker is alive."""
        path = self._worker_lock(worker)
        files.make_folder(path.parent)
        with FileLock(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def has_workers(self) -> bool:
        """Whether any process of this machine works on it."""
        return any(map(locks.is_held, (self.folder / "workers").glob("*.lock")))

    @property
    def is_unused(self) -> bool:
        """Whether nothing is lost with it: a journal without a finished trial that no process of this machine uses."""
        finished = (TrialState.COMPLETE, TrialState.PRUNED)
        return not (self.url or self.attempts(*finished) or self.has_workers())

    def _worker_lock(self, worker: str) -> Path:
        return self.folder / "workers" / f"{worker}.lock"

    def reap_dead_workers(self) -> None:
        """Fails the attempts whose process died. Call it with `claim_lock` held.

        A journal has no heartbeats: there, the lock of a dead worker is free, since the kernel releases it.
        """
        if self.url:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                fail_stale_trials(self.shared)
            return
        for attempt in self.attempts(TrialState.RUNNING):
            worker = attempt.user_attrs.get(WORKER)
            if worker is None or not locks.is_held(self._worker_lock(worker)):
                self.shared.tell(attempt.number, state=TrialState.FAIL)
                if worker is not None:
                    self._worker_lock(worker).unlink(missing_ok=True)

    def enqueue(self, points: Sequence[Point]) -> None:
        """Enqueues each point that has no attempt but interrupted ones. Call it with `claim_lock` held.

        Points are given by number; the values of an empty one are left to the sampler.

        Optuna's RetryHeartbeatStaleTrialCallback is not used: a journal never calls it, and a process that is killed
        between failing an attempt and repeating it would lose the point. This can be repeated until it has succeeded.
        An interrupted attempt is repeated with the values that it had, even if the sampler chose them.
        """
        attempts = attempts_by_point(self.attempts())
        for number, point in enumerate(points):
            tried = attempts.get(number, [])
            if all(map(is_interrupted, tried)) and count_deaths(tried) < MAX_DEATHS:
                started = tried[-1].params if tried else {}  # only some of them, if it was interrupted at once
                self.shared.enqueue_trial({**point, **started}, user_attrs={POINT: number})

    def remove_checkpoints(self) -> None:
        """Deletes the checkpoints of finished trials, and nothing else that is beside them or behind a link."""
        finished = {str(trial.number) for trial in read_trials(self.shared) if trial.is_finished}
        for folder in () if self.trials_folder.is_symlink() else self.trials_folder.glob("*-*"):
            if re.fullmatch("[0-9]+-[0-9]+", folder.name) and folder.name.split("-")[0] in finished:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Target:
    """Where a search and its best model are stored, as named by the arguments of `tune`."""

    study: str | None = None
    storage: str | None = field(default=None, repr=False)  # which may hold a password
    output: Path | None = None
    force: bool = False


def start_study(target: Target, default_name: str, identity: Mapping[str, Any]) -> Study:
    """The study of a search: the existing one, or a new one.

    Without a name, it is called like the data; in a journal with ``-2``, ... if that is a study of another search. One
    of a name that was given is replaced if it has come to nothing, as where an image could not be read for a moment.

    Raises:
        LabelrError: If a study of that name searches something else, or its storage cannot be reached.
    """
    stem, url = store.make_name(default_name), target.storage
    chosen = target.study or (stem if url else None)
    names = [chosen] if chosen else store.numbered_names(stem)
    parent = files.make_folder(files.home() / "studies")
    with FileLock(parent / ".lock"):
        for name in names:
            study = Study(name, parent / name, url)
            changes = differences(study.identity, identity) if study.identity else []
            is_forced = target.force and study.identity and (chosen or not changes)
            if is_forced or (chosen and changes and study.is_unused):
                if not is_forced:
                    log.info("the study %r has no finished trial, and starts over: %s", name, "; ".join(changes))
                _delete(study)
                study, changes = Study(name, study.folder, url), []
            if not changes:
                study.shared.set_user_attr(IDENTITY, dict(identity))
                return study
            study.close()
    raise LabelrError(
        f"the study {name!r} is of another search: {'; '.join(changes)}",
        "give the same data and options, choose another name with `--study`, or start over with `--force`",
    )


def _delete(study: Study) -> None:
    if study.has_workers():
        raise BusyError(f"the study {study.name!r} is in use", "stop the other search, or choose another name")
    if study.url:
        optuna.delete_study(study_name=study.name, storage=study.storage)
        study.close()
    locks.remove_folder(study.folder)


# --- what a study searches: it is never resumed on other data, or with another space ----------------------------------


def identity_of(dataset: Dataset, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """What a search is defined by, ready for JSON; `config` is resolved, since "auto" depends on the machine."""
    ignored = {*FREE_SETTINGS, *_MACHINE, "select"}
    settings = {name: value for name, value in config.to_dict().items() if name not in ignored}
    options = {"metric": plan.options.metric, "seeds": plan.options.seeds, "sampler": plan.sampler}
    return {
        "settings": {**settings, **plan.space.to_dict(), **options},
        "labels": list(dataset.labels),
        "images": len(dataset),
        "content": content_digest(dataset),
    }


def content_digest(dataset: Dataset) -> str:
    """A digest of labels, images, targets and split, whatever the order of the images."""
    images = sorted((name, *image) for name, image in recorded_images(dataset).items())
    return hashlib.sha256(json.dumps([dataset.labels, images]).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two searches differ, each difference as a part of a sentence."""
    old, new = before["settings"], now["settings"]
    found = [
        f"{name} was {format_setting(old.get(name))} and is {format_setting(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if before["labels"] != now["labels"]:
        found.append(f"the labels were {preview(before['labels'])} and are {preview(now['labels'])}")
    elif before["images"] != now["images"]:
        found.append(f"the number of images was {before['images']:,} and is {now['images']:,}")
    elif before["content"] != now["content"]:
        found.append("images, their labels, or their split into train, val and test have changed")
    return found


# --- storages ---------------------------------------------------------------------------------------------------------


def _check_links(folder: Path) -> None:
    """Raises LabelrError if a study's directory is or contains a link, behind which nothing may be changed."""
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in (*folders, *names))):
            if path.is_symlink():
                raise LabelrError(f"{path} is a link", "delete the link, or choose another name with `--study`")


@contextmanager
def _reading_journal(path: Path) -> Iterator[None]:
    """Turns errors while a journal is read, which may come from anywhere, into a message for the user."""
    try:
        yield
    except OSError as error:
        raise files.write_error(path, error) from error
    except Exception as error:  # Optuna checks no types, and raises whatever follows from a wrong one
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise LabelrError(
            f"the study in {path} is damaged: {reason[: files.MAX_REASON]}",
            "delete this file, or choose another name with `--study`",
        ) from error


def _open_journal(path: Path) -> JournalStorage:
    lock = path.with_name(".journal.lock")
    with FileLock(lock):
        _drop_partial_line(path)
    # Optuna's own locks are files: after a kill, every other process waits for their grace period of 30 seconds
    return JournalStorage(JournalFileBackend(str(path), FileLock(lock)))  # type: ignore[arg-type]


def _drop_partial_line(path: Path) -> None:
    """Removes an incomplete last line, as a full disk or a power cut leaves it; Optuna would refuse the journal."""
    if os.path.exists(path):
        content = files.read_bytes(path)
        serialization.check_number_of_values(content)
        *lines, rest = content.split(b"\n")
        for line in lines:
            if not line.startswith(JOURNAL_START):
                raise ValueError("it is not a journal of Optuna")
            json.loads(line)
        if not JOURNAL_START.startswith(rest.rstrip(b"\0")[: len(JOURNAL_START)]):
            raise ValueError("its last line is not one of a journal of Optuna")
        if rest:
            os.truncate(path, len(content) - len(rest))


def connect(url: str, attempts: int = CONNECTION_ATTEMPTS) -> RDBStorage:
    """The storage of studies in a database; missing tables are created.

    Raises:
        LabelrError: If it cannot be reached.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, ProgrammingError, SQLAlchemyError

    shown = mask_passwords(url if "://" in url else url.rpartition("@")[2])  # what is no address may hold one, too
    try:
        address = make_url(url)
        driver = DRIVERS.get(address.drivername, address.drivername)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                address.set(drivername=driver).render_as_string(hide_password=False),
                heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS,
            )  # fmt: skip
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        reason = f": {first_line(error)}" if isinstance(error, NoSuchModuleError) else ""  # others quote a part of it
        raise SettingError(
            f"storage: {shown!r} is not the address of a database{reason}",
            "write it as `postgresql://USER:PASSWORD@HOST/DATABASE` or `mysql://...`",
        ) from error
    except ImportError as error:
        raise SettingError(
            f"the driver of the storage {shown} is not installed: {first_line(error)}",
            "install it with `pip install 'labelr[storage]'`",
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError, TypeError) as error:  # of a driver
        if isinstance(error, (IntegrityError, ProgrammingError)) and attempts > 1:
            time.sleep(1)
            return connect(url, attempts - 1)
        raise LabelrError(
            f"the storage {shown} cannot be reached: {_root_message(error)}",
            "check that the server is running, and host, port, user, password and database",
        ) from error


def _root_message(error: BaseException) -> str:
    """The message of the first error in a chain: the database's own."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    details = error.args[0] if error.args else None
    text = str(details["M"]) if isinstance(details, dict) and "M" in details else first_line(error)  # pg8000 has fields
    return mask_passwords(text)
