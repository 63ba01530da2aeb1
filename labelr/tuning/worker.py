"""A worker process of a search: claims one point after the other and trains it, until nothing is left to do."""

import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from labelr import files, signals
from labelr.config import DEFAULT_EPOCHS, TrainConfig
from labelr.data.dataset import Dataset
from labelr.errors import LabelrError, first_line
from labelr.model.device import Runtime, is_out_of_memory, pick_runtime
from labelr.training.epochs import train
from labelr.training.fit import load_splits
from labelr.training.history import EpochRow
from labelr.training.run import Run
from labelr.tuning.space import Plan, Point, Values
from labelr.tuning.study import Study, content_digest, open_study
from labelr.tuning.trials import (
    POINT,
    PROGRESS,
    REASON,
    REQUEUED,
    WORKER,
    attempts_by_point,
    is_interrupted,
    params_of,
)

TRIALS_FOLDER = "trials"
URL_VARIABLE = "LABELR_TUNE_STORAGE"
"""Carries the address of the database to workers: it holds a password, which is not written to disk."""
POLL_SECONDS = 1.0
"""How often a worker without work checks whether others have returned a point to the queue."""
FIRST_RUNG, HALVING = 0.15, 4
"""Trials are first compared after this share of the epochs. One of `HALVING` trials continues from each rung to the
next, which is `HALVING` times as far. `tests/bench/tune.py` compares this with other pruners."""

log = logging.getLogger(__name__)


def resolve_point(plan: Plan, point: Point, runtime: Runtime, data: Dataset) -> TrainConfig:
    """The settings of a point without "auto"."""
    config, num_train = replace(plan.config, **point), len(data.split_rows("train"))
    return config.resolved(runtime.options, num_train=num_train, is_synthetic=not plan.data)


class RequeueError(Exception):
    """An attempt ends early, for a reason outside of its point, which is returned to the queue."""


class FailedError(Exception):
    """A point cannot be trained; the reason is an attribute of the attempt."""


def is_environment_error(error: Exception) -> bool:
    """Whether an error comes from the machine, such as a full disk, and not from the point."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


@dataclass
class PointTraining:
    """The training of one point: once for each seed, reported to the study epoch by epoch.

    Attributes:
        worker: The worker.
        attempt: The attempt at the point.
        point: The number of the point, from 0.
        config: The settings of the point, as resolved.
    """

    worker: "Worker"
    attempt: optuna.Trial
    point: int
    config: TrainConfig

    def __post_init__(self) -> None:
        self._histories: list[Sequence[EpochRow]] = []  # of the seeds that are finished
        self._reported = 0
        self._options = self.worker.plan.options

    def run(self) -> float:
        """The mean of the seeds' best validation scores.

        If it is interrupted, its checkpoints stay, and the next attempt on this machine resumes from them.

        Raises:
            LabelrError: If the point cannot be trained.
            optuna.TrialPruned: If it falls behind other points.
            RequeueError: If the time is up.
            Stopped: On a signal.
        """
        folders = [
            self.worker.study.folder / TRIALS_FOLDER / f"{self.point + 1}-{seed}" for seed in range(self._options.seeds)
        ]
        is_finished = True
        try:
            for seed, folder in enumerate(folders):
                self._histories.append(self._train(folder, self.config.seed + seed))
            return fmean(self._record_progress())
        except BaseException as error:
            is_finished = (
                isinstance(error, Exception) and not isinstance(error, RequeueError) and not is_environment_error(error)
            )
            raise
        finally:
            for folder in folders if is_finished else ():
                shutil.rmtree(folder, ignore_errors=True)

    def _train(self, folder: Path, seed: int) -> Sequence[EpochRow]:
        config = replace(self.config, seed=seed)
        run = Run(folder=files.make_folder(folder), config=config, runtime=self.worker.runtime)
        return train(run, self.worker.data, after_epoch=self._after_epoch)

    def _after_epoch(self, history: Sequence[EpochRow]) -> None:
        """Reports the scores of new epochs, and ends the attempt if it falls behind or the time is up."""
        if not history:
            return
        metric, earlier = self._options.metric, len(self._histories) * (self.config.epochs or 0)
        for row in history:
            if earlier + row.epoch > self._reported:
                self._reported = earlier + row.epoch
                self.attempt.report(row.score(metric), self._reported)
        if not np.isfinite(history[-1].score(metric)):
            raise LabelrError(f"{metric} cannot be evaluated on the validation images")
        self._record_progress(history)
        is_last = len(self._histories) + 1 == self._options.seeds and history[-1].epoch == self.config.epochs
        if self._options.prune and not is_last and self.attempt.should_prune():
            raise optuna.TrialPruned
        if self.worker.plan.is_late:
            raise RequeueError

    def _record_progress(self, *unfinished: Sequence[EpochRow]) -> list[float]:
        """Stores scores, epochs and time with the attempt; the score of each finished seed."""
        metric, histories = self._options.metric, [*self._histories, *unfinished]
        scores = [max(row.score(metric) for row in history) for history in self._histories]
        seconds = sum(row.seconds for history in histories for row in history)
        progress = {"scores": scores, "epochs": sum(map(len, histories)), "seconds": round(seconds, 3)}
        self.attempt.set_user_attr(PROGRESS, progress)
        return scores


class Worker:
    """One process that works on a search.

    Args:
        plan: The search.
        study: Its study.
        data: Its data.
        runtime: Device and precision.
    """

    def __init__(self, plan: Plan, study: Study, data: Dataset, runtime: Runtime) -> None:
        self.name = uuid.uuid4().hex
        self.plan, self.study, self.data, self.runtime = plan, study, data, runtime
        self.study.shared.pruner = make_pruner(plan)

    def run(self) -> None:
        """Works until no process has work left, or the time is up.

        Raises:
            LabelrError: If nothing can be trained, for a reason outside of the points.
            Stopped: On a signal.
        """
        with self.study.working(self.name):
            while not self.plan.is_late:
                signals.raise_if_stopped()
                if self._enqueue():
                    self._run_attempt()
                elif self.study.attempts(TrialState.RUNNING, TrialState.WAITING):
                    time.sleep(POLL_SECONDS)
                else:
                    return

    def _enqueue(self) -> bool:
        """Enqueues what is left to try; whether there is a point to claim, for which `claim_lock` stays held."""
        self.study.claim_lock.acquire()
        self.study.reap_dead_workers()
        self.study.enqueue(self._points())
        if self.study.attempts(TrialState.WAITING):
            return True
        self.study.claim_lock.release()
        return False

    def _points(self) -> Sequence[Point]:
        """All points by number, as far as they are known."""
        plan, number = self.plan, self.plan.num_points
        if plan.sampler != "tpe" and not plan.space.ranges:
            return list(islice(plan.space.grid(plan.config.seed), number))
        return [{}] * (1 + len(attempts_by_point(self.study.attempts())) if number is None else number)

    def _run_attempt(self) -> None:
        """Claims the next point and trains it."""
        try:
            self.study.shared.optimize(self._objective, n_trials=1, catch=(FailedError, RequeueError))
        except ValueError as error:  # Optuna does not complete an attempt that another process has failed
            log.debug("the attempt was ended elsewhere", exc_info=error)
            log.warning("other workers considered this process dead, and have taken over its trial")
        finally:
            self.study.claim_lock.release(force=True)

    def _objective(self, attempt: optuna.Trial) -> float:
        attempt.set_user_attr(WORKER, self.name)
        self.study.claim_lock.release()
        try:
            return self._score(attempt)
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except RequeueError:
            attempt.set_user_attr(REQUEUED, True)
            raise
        except signals.Stopped:  # not an Exception: Optuna would leave the attempt running
            attempt.set_user_attr(REQUEUED, True)
            self.study.shared.tell(attempt, state=TrialState.FAIL)
            raise
        except Exception as error:
            if is_environment_error(error):
                attempt.set_user_attr(REQUEUED, True)
                raise
            attempt.set_user_attr(REASON, reason_of(error))
            log.debug("a trial failed", exc_info=error)
            raise FailedError from error

    def _score(self, attempt: optuna.Trial) -> float:
        """Chooses and trains the point of an attempt."""
        number = attempt.user_attrs.get(POINT)
        if number is None or self._is_taken(attempt, number):
            raise RequeueError
        self.study.shared.sampler = make_sampler(self.plan, number)
        point = self.plan.space.suggest(attempt)
        if self._is_repeated(attempt, point):
            raise RequeueError
        config = resolve_point(self.plan, point, self.runtime, self.data)
        return PointTraining(self, attempt, number, config).run()

    def _is_taken(self, attempt: optuna.Trial, number: int) -> bool:
        """Whether a point has another attempt: two machines may enqueue it at the same moment."""
        others = self.study.attempts(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        return any(other.user_attrs.get(POINT) == number and other.number < attempt.number for other in others)

    def _is_repeated(self, attempt: optuna.Trial, point: Point) -> bool:
        """Whether TPE has chosen a point of a finite space again; then an untried one is enqueued in its place."""
        if self.plan.sampler != "tpe" or self.plan.space.ranges:
            return False
        others = [other for other in self.study.attempts() if other.number != attempt.number]
        tried = [params_of(other) for other in others if not is_interrupted(other)]
        untried = (other for other in self.plan.space.grid(self.plan.config.seed) if other not in tried)
        replacement = next(untried, None) if point in tried else None
        if replacement is None:
            return False
        self.study.shared.enqueue_trial(dict(replacement), user_attrs={POINT: attempt.user_attrs[POINT]})
        return True


def reason_of(error: Exception) -> str:
    """Why a trial failed, in one line."""
    if isinstance(error, LabelrError):
        return error.message
    return f"{'memory ran out' if is_out_of_memory(error) else type(error).__name__}: {first_line(error)}"


def make_sampler(plan: Plan, point: int) -> BaseSampler:
    """The sampler of one point, seeded by its number: a point is the same whichever process draws it."""
    seed = (plan.config.seed * 1_000_003 + point) % 2**32
    return TPESampler(seed=seed, constant_liar=True) if plan.sampler == "tpe" else RandomSampler(seed=seed)


def make_pruner(plan: Plan) -> BasePruner:
    """Asynchronous successive halving (Li et al. 2020), with rungs by the longest trial; or no pruning."""
    if not plan.options.prune:
        return NopPruner()
    epochs = plan.space.dimensions.get("epochs", Values((plan.config.epochs,)))
    longest = max(choice or DEFAULT_EPOCHS for choice in epochs.choices) if isinstance(epochs, Values) else epochs.high
    return SuccessiveHalvingPruner(min_resource=math.ceil(FIRST_RUNG * longest), reduction_factor=HALVING)


# --- the process ------------------------------------------------------------------------------------------------------


class _PipeHandler(logging.Handler):
    """Sends log records to the parent process, a line of JSON each; they are lost once it is gone."""

    def __init__(self, pipe: TextIO) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self.send({"name": record.name, "levelno": record.levelno, "msg": record.getMessage()})

    def send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):
            print(json.dumps(message), file=self._pipe, flush=True)


def _stop_with_parent() -> None:
    """Sends this process SIGTERM when the parent, which holds the other end of stdin, is gone."""
    while os.read(0, 1):  # not by `sys.stdin`, whose lock would be held at exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _work(job: Path, library: logging.Logger) -> None:
    """Works on the plan in a file, which is in the study's directory; the data is loaded here."""
    level, folder = library.level, job.parent.parent
    library.setLevel(logging.ERROR)  # the parent has loaded the same data, and has logged what there is to say
    plan = Plan.from_dict(json.loads(job.read_text(encoding="utf-8")))
    config = plan.config
    runtime = pick_runtime(config)
    data = load_splits([Path(path) for path in plan.data], config, workers=runtime.workers)
    study = open_study(folder.name, folder, os.environ.get(URL_VARIABLE))
    if content_digest(data) != study.identity["content"]:
        raise LabelrError("the data has changed since the search was started", "restore it, or search with `--force`")
    library.setLevel(level)
    Worker(plan, study, data, runtime).run()


def main(job: Path, level: int) -> int:
    """Works on a plan; the exit code."""
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged image is reported by its reason
    handler = _PipeHandler(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what others print must not disturb the messages
    library = logging.getLogger("labelr")
    library.handlers, library.propagate = [handler], False
    library.setLevel(level)
    try:
        _work(job, library)
    except signals.Stopped as stopped:
        return 128 + stopped.number
    except Exception as error:
        log.debug("a worker failed", exc_info=error)
        if not isinstance(error, LabelrError):
            error = LabelrError(f"a worker failed: {type(error).__name__}: {first_line(error)}", "see `--verbose`")
        handler.send({"error": error.message, "hint": error.hint})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
