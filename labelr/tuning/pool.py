"""The worker processes of a search on this machine: started, read, replaced when they die, and shut down."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
from typing import Self

from labelr import files
from labelr.errors import LabelrError
from labelr.model.device import visible_gpus
from labelr.tuning.space import Plan
from labelr.tuning.study import URL_VARIABLE, Study
from labelr.tuning.trials import PROGRESS

SHUTDOWN_SECONDS = 600.0
"""How long a worker that was asked to stop may take for its current step before it is killed."""
MAX_FAILED_STARTS, MAX_DEATHS_IN_A_ROW = 3, 12
"""The search fails when this many workers in a row die before one of them starts a trial, or completes an epoch."""
MAX_START_SECONDS, MAX_SILENT_SECONDS = 600.0, 90.0
"""A worker that sends nothing for this long, before and after its first message, is killed: it sends a line every few
seconds, whatever it does."""
MAX_CHECK_SECONDS = 2.0
"""No more than this is counted between two checks: a search that was suspended has not heard its workers meanwhile."""
READ_SECONDS = 5.0
"""How long the last messages of a dead worker are waited for: a process that it started may hold its pipe."""
MAX_MESSAGE_BYTES = 1_000_000
"""A longer line of a worker is no message."""

log = logging.getLogger(__name__)


class WorkerProcess:
    """A worker process, and a thread that reads its messages.

    The worker gets its plan as an argument, so that nothing here waits for it to read. It watches its stdin, which
    stays empty: that ends with this process, however this process ends.

    Attributes:
        gpu: The CUDA device that it alone sees, as CUDA_VISIBLE_DEVICES names it; None for those of this process.
    """

    error: LabelrError | None = None
    """Why it cannot continue; set before it ends."""
    is_silent = False
    """Whether it was killed since it stopped answering."""

    def __init__(self, plan: Plan, study: Study, gpu: str | None = None) -> None:
        self.gpu = gpu
        level = logging.DEBUG if logging.getLogger("labelr").isEnabledFor(logging.DEBUG) else logging.WARNING
        # it finds the modules that this process finds; `-P`, since the working directory need not be among them
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), URL_VARIABLE: study.url or ""}
        environment |= {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        arguments = [str(study.folder), json.dumps(plan.to_dict()), str(level)]
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", "labelr.tuning.worker", *arguments], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for the first process, which stops the others
            )  # fmt: skip
        except OSError as error:
            files.raise_if_exhausted(error)
            raise LabelrError(
                f"cannot start a worker: {error.strerror}", "use fewer `--jobs`, or give shorter lists of settings"
            ) from error
        self._silent_seconds = MAX_SILENT_SECONDS - MAX_START_SECONDS
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        pipe = self.process.stdout
        for line in iter(partial(pipe.readline, MAX_MESSAGE_BYTES), b"") if pipe else ():
            self._silent_seconds = 0.0
            with suppress(ValueError, RecursionError):  # such as the end of a line that a killed worker did not finish
                self._receive(json.loads(line))

    def _receive(self, message: object) -> None:
        """Logs a message, or keeps an error; what is neither has another origin, and is passed over."""
        match message:
            case {"error": str(error), "hint": str(hint)}:
                self.error = LabelrError(error, hint)
            case {"name": str(name), "levelno": int(level), "msg": str(text)}:
                logging.getLogger(name).log(level, "%s", text)

    def wait_for_message(self, seconds: float) -> None:
        """Counts how long it has been silent, and kills it if that is too long."""
        self._silent_seconds += seconds
        if self._silent_seconds > MAX_SILENT_SECONDS:
            self.is_silent = True
            self.process.kill()

    def stop(self) -> None:
        """Asks it to stop after the current step, also if it is suspended."""
        self.process.terminate()
        if hasattr(signal, "SIGCONT"):
            self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Waits until a process that has ended is read to its last message."""
        self.process.wait()
        self._reader.join(READ_SECONDS)
        pipes = (self.process.stdin, None if self._reader.is_alive() else self.process.stdout)
        for pipe in filter(None, pipes):
            pipe.close()


class Pool:
    """The workers of one search on this machine."""

    def __init__(self, plan: Plan, study: Study) -> None:
        self._plan, self._study = plan, study
        self._attempts, self._epochs = _progress(study)
        self._failed_starts = self._deaths = 0
        self._checked = time.monotonic()
        self._workers: list[WorkerProcess] = []

    @classmethod
    @contextmanager
    def running(cls, size: int, plan: Plan, study: Study) -> Iterator[Self]:
        """A pool of `size` workers, each on a GPU in turn, that is shut down in any case."""
        pool = cls(plan, study)
        try:
            for _, gpu in zip(range(size), cycle(gpus_of(plan) or [None]), strict=False):
                pool._workers.append(WorkerProcess(plan, study, gpu))
            yield pool
        finally:
            for worker in pool._workers:
                worker.stop()
            for worker in pool._workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(SHUTDOWN_SECONDS)
                worker.process.kill()
                worker.close()

    def check(self) -> bool:
        """Replaces workers that died or stopped answering; whether any is still running.

        Raises:
            LabelrError: If one of them cannot continue, or one after the other dies.
        """
        now = time.monotonic()
        passed, self._checked = min(now - self._checked, MAX_CHECK_SECONDS), now
        for worker in list(self._workers):
            if worker.process.poll() is None:
                worker.wait_for_message(passed)
                continue
            self._workers.remove(worker)
            worker.close()
            if worker.error:
                raise worker.error
            if worker.process.returncode:
                self._replace(worker)
        return bool(self._workers)

    def _replace(self, worker: WorkerProcess) -> None:
        code = worker.process.returncode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        ended = "stopped answering" if worker.is_silent else f"ended with {cause}"
        attempts, epochs = _progress(self._study)
        self._failed_starts = 0 if attempts > self._attempts else self._failed_starts + 1
        self._deaths = 0 if epochs > self._epochs else self._deaths + 1
        self._attempts, self._epochs = attempts, epochs
        hint = "check whether there is enough memory for `--jobs`" if code < 0 else "see the messages above"
        if self._failed_starts >= MAX_FAILED_STARTS:
            raise LabelrError(f"{self._failed_starts} workers in a row {ended} before they started a trial", hint)
        if self._deaths >= MAX_DEATHS_IN_A_ROW:
            raise LabelrError(f"{self._deaths} workers in a row {ended} before they completed an epoch", hint)
        log.warning("a worker %s and is replaced", ended)
        self._workers.append(WorkerProcess(self._plan, self._study, worker.gpu))


def gpus_of(plan: Plan) -> list[str | None]:
    """The GPUs that workers share, where there are several."""
    gpus: list[str | None] = [*visible_gpus()] if plan.config.device in ("auto", "cuda") else []
    return gpus if len(gpus) > 1 else []


def _progress(study: Study) -> tuple[int, int]:
    """How many attempts were started in a study, and how many epochs were trained in them."""
    attempts = study.attempts()
    return len(attempts), sum(attempt.user_attrs.get(PROGRESS, {}).get("epochs", 0) for attempt in attempts)
