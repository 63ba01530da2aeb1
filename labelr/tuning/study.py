"""The study: all that is known of a search, where every process that works on it finds it."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage, RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from labelr import files
from labelr.errors import LabelrError
from labelr.tuning.space import Point
from labelr.tuning.storage import connect, open_journal
from labelr.tuning.trials import MAX_DEATHS, STOPPED, TICKET, WORKER, by_ticket, count_deaths, is_cut_short

JOURNAL_FILE = "study.log"
IDENTITY = "identity"


@dataclass
class Study:
    """A study, and the folder of what this machine keeps of it.

    Attributes:
        name: Its name.
        folder: Where its files are.
        url: The database that it lives in; None for a journal in its folder.
        shared: What all who work on it share.
        storage: Where that is kept.
    """

    name: str
    folder: Path
    url: str | None
    shared: optuna.Study = field(repr=False)
    storage: RDBStorage | JournalStorage = field(repr=False)

    @property
    def claiming(self) -> FileLock:
        """Held while a point is claimed or put back, so that no two processes of this machine do so at once."""
        return FileLock(self.folder / ".claim.lock")

    @property
    def identity(self) -> dict[str, Any]:
        """What it was begun with; empty if nobody has begun it."""
        return dict(self.shared.user_attrs.get(IDENTITY, {}))

    def close(self) -> None:
        """Ends its connections."""
        if isinstance(self.storage, RDBStorage):
            self.storage.engine.dispose()

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Says what is searched, and on what."""
        self.shared.set_user_attr(IDENTITY, dict(identity))

    def attempts(self, *states: TrialState) -> list[FrozenTrial]:
        """What was begun so far, in any state or in some."""
        return self.shared.get_trials(deepcopy=False, states=states or None)

    @contextmanager
    def at_work(self, worker: str) -> Iterator[None]:
        """Holds the lock by which others see that a worker lives."""
        lock = self._lock_of(worker)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def is_at_work(self, worker: str | None) -> bool:
        """Whether a worker of this machine lives."""
        if worker is None:
            return False
        lock = self._lock_of(worker)
        if not Path(lock.lock_file).exists():
            return False
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    def has_workers(self) -> bool:
        """Whether any worker of this machine is at work on it."""
        return any(self.is_at_work(path.stem) for path in (self.folder / "workers").glob("*.lock"))

    def _lock_of(self, worker: str) -> FileLock:
        return FileLock(files.make_folder(self.folder / "workers") / f"{worker}.lock")

    def put_back(self, attempt: optuna.Trial) -> None:
        """Ends an attempt that was asked to stop: its point is tried again."""
        attempt.set_user_attr(STOPPED, True)
        self.shared.tell(attempt, state=TrialState.FAIL)

    def bury_the_dead(self) -> None:
        """Ends the attempts whose process is gone, so that their points are tried again.

        The journal knows no heartbeat: there the dead are those who hold no lock any more. To be called with
        `claiming` held.
        """
        if self.url:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                fail_stale_trials(self.shared)
            return
        for attempt in self.attempts(TrialState.RUNNING):
            worker = attempt.user_attrs.get(WORKER)
            if not self.is_at_work(worker):
                if worker:
                    Path(self._lock_of(worker).lock_file).unlink(missing_ok=True)
                self.shared.tell(attempt.number, state=TrialState.FAIL)

    def queue(self, points: Sequence[Point]) -> None:
        """Queues each point that nobody is trying, has tried to its end, or has queued.

        A point that was begun is gone on with as it was begun, though it may be the sampler that has chosen it. To be
        called with `claiming` held.

        Args:
            points: By number; an empty one is left to the sampler.
        """
        attempts = by_ticket(self.attempts())
        for number, point in enumerate(points):
            tried = attempts.get(number, [])
            if not all(map(is_cut_short, tried)) or count_deaths(tried) >= MAX_DEATHS:
                continue
            begun = tried[-1].params if tried else {}  # only some of them, if it was cut short at once
            self.shared.enqueue_trial({**point, **begun}, user_attrs={TICKET: number})


def open_study(name: str, folder: Path, url: str | None) -> Study:
    """A study, made where there is none of that name.

    Args:
        name: Its name.
        folder: Where its files are.
        url: The database that it lives in; None for a journal in its folder.

    Raises:
        LabelrError: If its storage cannot be reached, or is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    files.make_folder(folder)
    storage = connect(url) if url else open_journal(folder / JOURNAL_FILE)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    return Study(name, folder, url, study, storage)


def delete_study(study: Study) -> None:
    """Deletes a study with all that it has found.

    Raises:
        LabelrError: If someone is at work on it.
    """
    if study.has_workers():
        raise LabelrError(f"the study {study.name!r} is being worked on", "stop that first, or choose another name")
    if study.url:
        optuna.delete_study(study_name=study.name, storage=study.storage)
        study.close()
    files.remove_folder(study.folder)
