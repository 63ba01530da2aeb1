"""The worker processes of a search on this machine: started, read, replaced when they die, and shut down."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from labelr.errors import LabelrError
from labelr.tuning.space import Plan
from labelr.tuning.study import URL_VARIABLE, Study

SHUTDOWN_SECONDS = 600.0
"""How long a worker that was asked to stop may take for its current step before it is killed."""
MAX_FAILED_STARTS = 3
"""The search fails when this many workers in a row die before one of them starts a trial."""

log = logging.getLogger(__name__)


class WorkerProcess:
    """A worker process, and a thread that reads its messages.

    The worker gets its plan as an argument, so that nothing here waits for it to read. It watches its stdin, which
    stays empty: that ends with this process, however this process ends.
    """

    error: LabelrError | None = None
    """Why it cannot continue; set before it ends."""

    def __init__(self, plan: Plan, study: Study) -> None:
        level = logging.DEBUG if logging.getLogger("labelr").isEnabledFor(logging.DEBUG) else logging.WARNING
        # it finds the modules that this process finds; `-P`, since the working directory need not be among them
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), URL_VARIABLE: study.url or ""}
        arguments = [str(study.folder), json.dumps(plan.to_dict()), str(level)]
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "labelr.tuning.worker", *arguments], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            process_group=0,  # Ctrl-C is for the first process, which stops the others
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            with suppress(ValueError):  # the end of a line that a killed worker did not finish
                message = json.loads(line)
                if "error" in message:
                    self.error = LabelrError(message["error"], message["hint"])
                else:
                    logging.getLogger(message["name"]).handle(logging.makeLogRecord(message))

    def close(self) -> None:
        """Waits until a process that has ended is read to its last message."""
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


class Pool:
    """The workers of one search on this machine."""

    def __init__(self, plan: Plan, study: Study) -> None:
        self._plan, self._study = plan, study
        self._attempts, self._failed_starts = len(study.attempts()), 0
        self._workers: list[WorkerProcess] = []

    @classmethod
    @contextmanager
    def running(cls, size: int, plan: Plan, study: Study) -> Iterator[Self]:
        """A pool of `size` workers that is shut down in any case."""
        pool = cls(plan, study)
        try:
            for _ in range(size):
                pool._workers.append(WorkerProcess(plan, study))
            yield pool
        finally:
            for worker in pool._workers:
                worker.process.terminate()
            for worker in pool._workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(SHUTDOWN_SECONDS)
                worker.process.kill()
                worker.close()

    def check(self) -> bool:
        """Replaces workers that died; whether any is still running.

        Raises:
            LabelrError: If one of them cannot continue.
        """
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            worker.close()
            if worker.error:
                raise worker.error
            if worker.process.returncode:
                self._replace(worker.process.returncode)
        return bool(self._workers)

    def _replace(self, code: int) -> None:
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        attempts = len(self._study.attempts())
        self._failed_starts = 0 if attempts > self._attempts else self._failed_starts + 1
        self._attempts = attempts
        if self._failed_starts >= MAX_FAILED_STARTS:
            hint = "check whether there is enough memory for `--jobs`" if code < 0 else "see the messages above"
            raise LabelrError(f"workers end with {cause} before they start a trial", hint)
        log.warning("a worker ended with %s and is replaced", cause)
        self._workers.append(WorkerProcess(self._plan, self._study))
