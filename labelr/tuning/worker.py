"""A worker process of a search: claims one point after the other and trains it, until nothing is left to do."""

import json
import logging
import math
import os
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from labelr import files, signals
from labelr.config import DEPENDENT, TrainConfig
from labelr.data.dataset import Dataset
from labelr.errors import LabelrError, first_line
from labelr.model.device import Runtime, explain_device_error, is_device_failure, is_out_of_memory, pick_runtime
from labelr.model.pretrained import resolve_start
from labelr.training.epochs import train
from labelr.training.fit import load_splits
from labelr.training.history import EpochRow, best_epoch
from labelr.training.run import Run
from labelr.tuning.space import Plan, Point, Values
from labelr.tuning.study import URL_VARIABLE, Study, content_digest
from labelr.tuning.trials import POINT, PROGRESS, REASON, REQUEUED, WORKER, attempts_by_point

POLL_SECONDS = 1.0
"""How often a worker without work checks whether others have returned a point to the queue."""
LIFE_SECONDS = 5.0
"""How often a worker shows the search that it is alive."""
FIRST_RUNG, HALVING = 0.15, 4
"""Trials are first compared after this share of the epochs. One of `HALVING` trials continues from each rung to the
next, which is `HALVING` times as far. `tests/bench/tune.py` compares this with other pruners."""

log = logging.getLogger(__name__)


def resolve_point(plan: Plan, point: Point, runtime: Runtime, data: Dataset) -> TrainConfig:
    """The settings of a point without "auto"."""
    config = resolve_start(replace(plan.config, **point), runtime)
    num_train = len(data.split_rows("train"))
    return config.resolved(runtime.options, num_train=num_train, is_synthetic=not plan.data)


class AttemptEndedError(Exception):
    """An attempt has ended without a score: it has failed with a reason, or its point is returned to the queue."""


class Worker:
    """One process that works on a search."""

    def __init__(self, plan: Plan, study: Study, data: Dataset, runtime: Runtime) -> None:
        self.name = uuid.uuid4().hex
        self.plan, self.study, self.data, self.runtime = plan, study, data, runtime
        points = plan.space.combinations(DEPENDENT) if plan.options.prune else ()
        epochs = [resolve_point(plan, {**point, "epochs": None}, runtime, data).epochs or 0 for point in points]
        self.study.shared.pruner = make_pruner(plan, max(epochs, default=None))

    def run(self) -> None:
        """Works until no process has work left, or the time is up.

        Raises:
            LabelrError: If nothing can be trained, for a reason outside of the points.
            Stopped: On a signal.
        """
        with self.study.working(self.name):
            while not self.plan.is_late:
                signals.raise_if_stopped()
                self.study.claim_lock.acquire()
                try:
                    self.study.reap_dead_workers()
                    self.study.enqueue(self._points())
                    if self.study.attempts(TrialState.WAITING):
                        self._run_attempt()
                        continue
                finally:
                    self.study.claim_lock.release(force=True)
                if not self.study.attempts(TrialState.RUNNING, TrialState.WAITING):
                    return
                time.sleep(POLL_SECONDS)

    def _points(self) -> Sequence[Point]:
        """All points by number, as far as they are known."""
        plan, number = self.plan, self.plan.num_points
        if plan.sampler != "tpe" and not plan.space.ranges:
            return list(islice(plan.space.grid(plan.config.seed), number))
        return [{}] * (1 + len(attempts_by_point(self.study.attempts())) if number is None else number)

    def _run_attempt(self) -> None:
        """Claims the next point and trains it."""
        try:
            self.study.shared.optimize(self._objective, n_trials=1, catch=AttemptEndedError)
        except ValueError as error:  # Optuna does not complete an attempt that another process has failed
            log.debug("the attempt was ended elsewhere", exc_info=error)
            log.warning("other workers considered this process dead, and have taken over its trial")
        self.study.remove_checkpoints()

    def _objective(self, attempt: optuna.Trial) -> float:
        attempt.set_user_attr(WORKER, self.name)
        self.study.claim_lock.release()
        try:
            return self._train(attempt)
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except signals.Stopped:  # not an Exception: Optuna would leave the attempt running
            attempt.set_user_attr(REQUEUED, True)
            self.study.shared.tell(attempt, state=TrialState.FAIL)
            raise
        except Exception as error:
            # an OSError comes from the machine, such as a full disk, and not from the point; so does a lost GPU
            is_of_machine = isinstance(error.__cause__, OSError) or is_device_failure(error)
            if isinstance(error, (AttemptEndedError, OSError)) or is_of_machine:
                attempt.set_user_attr(REQUEUED, True)
                raise
            attempt.set_user_attr(REASON, reason_of(error))
            log.debug("a trial failed", exc_info=error)
            raise AttemptEndedError from error

    def _train(self, attempt: optuna.Trial) -> float:
        """Trains the point of an attempt once for each seed; the mean of their validation scores.

        If it is interrupted, its checkpoints stay, and the next attempt on this machine resumes from them.
        """
        number = attempt.user_attrs.get(POINT)
        if number is None or self._is_taken(attempt, number):
            raise AttemptEndedError
        self.study.shared.sampler = self._make_sampler(number)
        config = resolve_point(self.plan, self.plan.space.suggest(attempt), self.runtime, self.data)
        histories: list[Sequence[EpochRow]] = []
        for seed in range(self.plan.options.seeds):
            folder = files.make_folder(self.study.trials_folder / f"{number + 1}-{seed}")
            run = Run(folder=folder, config=replace(config, seed=config.seed + seed), runtime=self.runtime)
            after_epoch = partial(self._after_epoch, attempt, config, list(histories))
            histories.append(train(run, self.data, after_epoch=after_epoch))
        return fmean(self._scores(config, histories))

    def _make_sampler(self, point: int) -> BaseSampler:
        """The sampler of one point, seeded by its number: a point is the same whichever process draws it."""
        seed = (self.plan.config.seed * 1_000_003 + point) % 2**32
        return TPESampler(seed=seed, constant_liar=True) if self.plan.sampler == "tpe" else RandomSampler(seed=seed)

    def _is_taken(self, attempt: optuna.Trial, number: int) -> bool:
        """Whether a point has another attempt: two machines may enqueue it at the same moment."""
        others = self.study.attempts(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        return any(other.user_attrs.get(POINT) == number and other.number < attempt.number for other in others)

    def _after_epoch(
        self, attempt: optuna.Trial, config: TrainConfig, earlier: list[Sequence[EpochRow]], history: Sequence[EpochRow]
    ) -> None:
        """Reports the last epoch, and ends the attempt if it falls behind or the time is up.

        `history` is that of the current seed, `earlier` those of the previous ones.
        """
        if not history:  # resumed within the first epoch
            return
        options, epochs, score = self.plan.options, config.epochs or 0, history[-1].score(self.plan.options.metric)
        if not math.isfinite(score):
            raise LabelrError(f"{options.metric} cannot be evaluated on the validation images")
        attempt.report(score, len(earlier) * epochs + history[-1].epoch)
        histories = [*earlier, history]
        seconds = round(sum(row.seconds for rows in histories for row in rows), 3)
        progress = {"scores": self._scores(config, histories), "epochs": sum(map(len, histories)), "seconds": seconds}
        attempt.set_user_attr(PROGRESS, progress)
        is_last = len(histories) == options.seeds and history[-1].epoch == epochs
        if options.prune and not is_last and attempt.should_prune():
            raise optuna.TrialPruned
        if self.plan.is_late:
            raise AttemptEndedError

    def _scores(self, config: TrainConfig, histories: Sequence[Sequence[EpochRow]]) -> list[float]:
        return [best_epoch(history, config.select).score(self.plan.options.metric) for history in histories]


def reason_of(error: Exception) -> str:
    """Why a trial failed, in one line."""
    if isinstance(error, LabelrError):
        return error.message
    return f"{'memory ran out' if is_out_of_memory(error) else type(error).__name__}: {first_line(error)}"


def make_pruner(plan: Plan, auto_epochs: int | None) -> BasePruner:
    """Asynchronous successive halving (Li et al. 2020), with rungs by the longest trial; or no pruning.

    `auto_epochs` is the largest number of epochs of a trial whose settings leave it open.
    """
    if not plan.options.prune:
        return NopPruner()
    epochs = plan.space.dimensions.get("epochs", Values((plan.config.epochs,)))
    choices = epochs.choices if isinstance(epochs, Values) else (epochs.high,)
    longest = max(choice or auto_epochs or 1 for choice in choices)
    return SuccessiveHalvingPruner(min_resource=math.ceil(FIRST_RUNG * longest), reduction_factor=HALVING)


# --- the process ------------------------------------------------------------------------------------------------------


class _PipeHandler(logging.Handler):
    """Sends log records to the parent process, a line of JSON each; they are lost once it is gone."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self.send({"name": record.name, "levelno": record.levelno, "msg": record.getMessage()})

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; not through a file object, whose lock a thread may hold when the process ends."""
        self.acquire()
        with suppress(OSError):
            os.write(self._pipe, f"{json.dumps(message)}\n".encode())
        self.release()

    def send_signs_of_life(self) -> None:
        """Sends an empty message every few seconds: a process that is suspended does not."""
        while True:
            self.send({})
            time.sleep(LIFE_SECONDS)


def _work(folder: Path, plan: Plan, library: logging.Logger) -> None:
    level, config = library.level, plan.config
    library.setLevel(logging.ERROR)  # the parent has loaded the same data, and has logged what there is to say
    runtime = pick_runtime(config)
    data = load_splits([Path(path) for path in plan.data], config, workers=runtime.workers)
    study = Study(folder.name, folder, os.environ.get(URL_VARIABLE))
    if content_digest(data) != study.identity["content"]:
        raise LabelrError("the data has changed since the search was started", "restore it, or search with `--force`")
    library.setLevel(level)
    Worker(plan, study, data, runtime).run()


def main(folder: Path, plan: str, level: int) -> int:
    """Works on the study in a directory by a plan in JSON; the exit code."""
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    signals.stop_with_parent()
    warnings.filterwarnings("ignore", module=r"(PIL|filelock)\.")  # damaged images are reported, and soft locks suffice
    handler = _PipeHandler(os.dup(1))
    os.dup2(2, 1)  # what others print must not disturb the messages
    threading.Thread(target=handler.send_signs_of_life, daemon=True).start()
    library = logging.getLogger("labelr")
    library.handlers, library.propagate = [handler], False
    library.setLevel(level)
    try:
        _work(folder, Plan.from_dict(json.loads(plan)), library)
    except signals.Stopped as stopped:
        return 128 + stopped.number
    except Exception as error:
        log.debug("a worker failed", exc_info=error)
        error = explain_device_error(error) or error
        if not isinstance(error, LabelrError):
            error = LabelrError(f"a worker failed: {type(error).__name__}: {first_line(error)}", "see `--verbose`")
        handler.send({"error": error.message, "hint": error.hint})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
