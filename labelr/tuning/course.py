"""The training of one point of a search: once for each seed, reported to the study epoch by epoch."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna

from labelr import files
from labelr.config import TrainConfig
from labelr.errors import LabelrError
from labelr.model.device import Runtime
from labelr.progress import untracked
from labelr.training.epochs import train
from labelr.training.fit import describe
from labelr.training.history import EpochRow
from labelr.tuning.job import Job
from labelr.tuning.trials import EPOCHS, SCORES, SECONDS

TRIALS_FOLDER = "trials"


class PutBackError(BaseException):
    """A trial ends before its time, for no fault of its point."""


def is_of_the_machine(error: Exception) -> bool:
    """Whether an error is no point's fault, as a full disk is none: the point is put back."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


@dataclass
class Course:
    """The training of one point.

    Attributes:
        job: The search.
        machine: What to run on.
        attempt: The point's present trial.
        number: The point's, from 1.
        settings: The point's, as resolved.
    """

    job: Job
    machine: Runtime
    attempt: optuna.Trial
    number: int
    settings: TrainConfig

    def __post_init__(self) -> None:
        self._done: list[Sequence[EpochRow]] = []
        self._reported = 0  # the last step that the study knows of

    def score(self) -> float:
        """Trains once for each seed; the mean of the best epochs' scores.

        What it leaves when it is stopped is gone on with by whoever tries the point next on this machine.

        Raises:
            LabelrError: If it cannot be trained.
            optuna.TrialPruned: If it is hopeless.
            PutBackError: If it is late.
            Stopped: If a signal has asked for it.
        """
        folders = [self.job.folder / TRIALS_FOLDER / f"{self.number}-{seed}" for seed in range(self.job.options.seeds)]
        is_over = True
        try:
            for seed, folder in enumerate(folders):
                self._done.append(self._train(folder, seed))
            score = fmean(self._note())
        except BaseException as error:
            is_over = isinstance(error, Exception) and not is_of_the_machine(error)  # else it goes on from there
            raise
        finally:
            for folder in folders if is_over else ():
                shutil.rmtree(folder, ignore_errors=True)
        return score

    def _train(self, folder: Path, seed: int) -> Sequence[EpochRow]:
        settings = replace(self.settings, seed=self.settings.seed + seed)
        info = describe(self.job.dataset, settings)
        files.make_folder(folder)
        _, history = train(
            self.job.dataset, settings, info, self.machine, folder,
            deadline=None, log_dir=None, track=untracked, after_epoch=self._look,
        )  # fmt: skip
        return history

    def _look(self, history: Sequence[EpochRow]) -> None:
        """Reports the scores of the epochs since last time, and ends a trial that is hopeless, or late."""
        if not history:
            return
        metric, before = self.job.options.metric, len(self._done) * (self.settings.epochs or 0)
        for row in history:
            if before + row.epoch > self._reported:
                self._reported = before + row.epoch
                self.attempt.report(row.score(metric), self._reported)
        if not np.isfinite(history[-1].score(metric)):
            raise LabelrError(f"{metric} cannot be evaluated on the validation images")
        self._note(history)
        is_last = len(self._done) + 1 == self.job.options.seeds and history[-1].epoch == self.settings.epochs
        if self.job.options.prune and not is_last and self.attempt.should_prune():
            raise optuna.TrialPruned
        if self.job.is_late:
            raise PutBackError

    def _note(self, *present: Sequence[EpochRow]) -> list[float]:
        """Writes beside the attempt how far it is; the score of each seed that is done."""
        metric, histories = self.job.options.metric, [*self._done, *present]
        scores = [max(row.score(metric) for row in history) for history in self._done]
        seconds = sum(row.seconds for history in histories for row in history)
        notes: Mapping[str, Any] = {SCORES: scores, EPOCHS: sum(map(len, histories)), SECONDS: round(seconds, 3)}
        for name, value in notes.items():
            self.attempt.set_user_attr(name, value)
        return scores
