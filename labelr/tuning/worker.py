"""A process of a search: claims one point after the other and trains it, until nothing is left to do."""

import logging
import math
import time
import uuid
from collections.abc import Sequence
from itertools import islice

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from labelr import signals
from labelr.errors import LabelrError, first_line
from labelr.model.device import is_out_of_memory, pick_runtime
from labelr.tuning.course import Course, PutBackError, is_of_the_machine
from labelr.tuning.job import Job
from labelr.tuning.space import Point
from labelr.tuning.study import open_study
from labelr.tuning.trials import REASON, STOPPED, TICKET, WORKER, by_ticket, is_cut_short

WAIT_SECONDS = 1.0
"""How often a worker that has nothing to do looks again while others are still at work."""
FIRST_RUNG, HALVING = 0.15, 4
"""The share of the epochs after which trials are compared for the first time; of those that have come to the same rung,
one in so many goes on, and the next rung is so many times as far. See `tests/bench/tune.py` for what lost."""

log = logging.getLogger(__name__)


class _FailedError(Exception):
    """A trial cannot be trained; why stands beside it."""


class Worker:
    """One process at work on a search.

    Args:
        job: What there is to do.
    """

    def __init__(self, job: Job) -> None:
        self.name = uuid.uuid4().hex
        self._job = job
        self._study = open_study(job.name, job.folder, job.url)
        self._study.shared.pruner = make_pruner(job)
        self._machine = pick_runtime(
            job.given.device, amp=job.given.amp, threads=job.threads, workers=job.given.workers
        )
        self._claim = self._study.claiming
        self._attempt: optuna.Trial | None = None

    def run(self) -> None:
        """Works until nothing is left to do, here or at others', or the time is over.

        Raises:
            LabelrError: If nothing can be trained, for no fault of a trial.
            Stopped: If a signal has asked for it.
        """
        with self._study.at_work(self.name):
            while not self._job.is_late:
                signals.raise_if_stopped()
                if self._claim_one():
                    self._try_it()
                elif self._study.attempts(TrialState.RUNNING, TrialState.WAITING):
                    time.sleep(WAIT_SECONDS)
                else:
                    return

    def _claim_one(self) -> bool:
        """Whether there is a point to try; if so, nobody else of this machine claims one until this one is claimed."""
        self._claim.acquire()
        self._study.bury_the_dead()
        self._study.queue(self._points())
        if self._study.attempts(TrialState.WAITING):
            return True
        self._claim.release()
        return False

    def _try_it(self) -> None:
        """Claims the next point and trains it."""
        study = self._study
        try:
            study.shared.optimize(self._objective, n_trials=1, catch=(_FailedError,))
        except (PutBackError, signals.Stopped) as end:
            if self._attempt is not None:
                study.put_back(self._attempt)
            if isinstance(end, signals.Stopped):
                raise
        except optuna.exceptions.UpdateFinishedTrialError:
            log.warning("others took this process for dead, and have taken over what it was training")
        finally:
            self._claim.release(force=True)
            self._attempt = None

    def _points(self) -> Sequence[Point]:
        """All points by number, as far as anybody knows them."""
        job, number = self._job, self._job.num_points
        if job.sampler != "tpe" and not job.space.ranges:
            return list(islice(job.space.grid(job.given.seed), number))
        if number is None:
            number = 1 + len(by_ticket(self._study.attempts()))
        return [{}] * number

    def _objective(self, attempt: optuna.Trial) -> float:
        """Trains the point of an attempt, and says how good it is."""
        self._attempt = attempt
        attempt.set_user_attr(WORKER, self.name)
        self._claim.release()
        ticket = attempt.user_attrs.get(TICKET)
        if ticket is None or self._is_taken(attempt, ticket):
            raise PutBackError
        self._study.shared.sampler = make_sampler(self._job, ticket)
        point = self._job.space.suggest(attempt)
        if self._is_repeated(attempt, point):
            raise PutBackError
        try:
            settings = self._job.point_settings(point, self._machine)
            return Course(self._job, self._machine, attempt, ticket + 1, settings).score()
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except Exception as error:
            if is_of_the_machine(error):
                attempt.set_user_attr(STOPPED, True)
                raise
            attempt.set_user_attr(REASON, reason_of(error))
            log.debug("trial %d failed", ticket + 1, exc_info=error)
            raise _FailedError from error

    def _is_taken(self, attempt: optuna.Trial, ticket: int) -> bool:
        """Whether another has this point, as may come of two machines that queue it at the same moment."""
        taken = self._study.attempts(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        return any(one.user_attrs.get(TICKET) == ticket and one.number < attempt.number for one in taken)

    def _is_repeated(self, attempt: optuna.Trial, point: Point) -> bool:
        """Whether TPE has chosen a point that was tried before; then one that was not takes its place in the queue."""
        if self._job.sampler != "tpe" or self._job.space.ranges:
            return False
        others = [one for one in self._study.attempts() if one.number != attempt.number and not is_cut_short(one)]
        tried = [one.params or one.system_attrs.get("fixed_params", {}) for one in others]
        left = (other for other in self._job.space.grid(self._job.given.seed) if other not in tried)
        other = next(left, None) if point in tried else None
        if other is None:
            return False
        self._study.shared.enqueue_trial(dict(other), user_attrs={TICKET: attempt.user_attrs[TICKET]})
        return True


def reason_of(error: Exception) -> str:
    """Why a trial failed, in a line."""
    if isinstance(error, LabelrError):
        return error.message
    what = "memory ran out" if is_out_of_memory(error) else type(error).__name__
    return f"{what}: {first_line(error)}"


def make_sampler(job: Job, ticket: int) -> BaseSampler:
    """What chooses the values of a point that was queued without; its randomness is the point's own."""
    seed = (job.given.seed * 1_000_003 + ticket) % 2**32
    if job.sampler == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    return RandomSampler(seed=seed)


def make_pruner(job: Job) -> BasePruner:
    """What ends hopeless trials: successive halving (Li et al. 2020), which waits for nobody."""
    if not job.options.prune:
        return NopPruner()
    first = math.ceil(FIRST_RUNG * job.most_epochs)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=HALVING)
