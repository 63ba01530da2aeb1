"""The processes of a search on this machine: begun, listened to, replaced when they die, and sent home."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Self, cast

from labelr import signals
from labelr.errors import LabelrError, first_line
from labelr.tuning.job import Job

PATIENCE_SECONDS = 600.0
"""How long a worker that was asked to stop may take for the step that it is in."""
TRIES = 3
"""A crew whose members die so often in a row without having begun a trial is given up."""

log = logging.getLogger(__name__)


class _PipeHandler(QueueHandler):
    """Sends what the library logs to the process that shows it."""

    queue: Any

    def enqueue(self, record: logging.LogRecord) -> None:
        """Sends a record; where nobody listens any more, it is lost."""
        with suppress(OSError):
            self.queue.send(record)


def _work(job: Job, pipe: Connection, level: int) -> None:
    """What a process of the crew does, from its beginning to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all; the first process passes it on
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged image is told by its reason
    library = logging.getLogger("labelr")
    library.handlers, library.propagate = [_PipeHandler(cast("Any", pipe))], False
    library.setLevel(level)
    try:
        failure = _work_on(job)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends anyway
        if failure:
            pipe.send(failure)
    except signals.Stopped as stopped:
        sys.exit(128 + stopped.number)
    sys.exit(1 if failure else 0)


def _work_on(job: Job) -> LabelrError | None:
    """Works until nothing is left; why it cannot go on, if so."""
    from labelr.tuning.worker import Worker

    try:
        Worker(job).run()
    except LabelrError as error:
        return error
    except Exception as error:
        log.debug("a worker failed", exc_info=error)
        return LabelrError(f"a worker failed: {type(error).__name__}: {first_line(error)}", "see `--verbose`")
    return None


def _end_with_parent() -> None:
    """Asks this process to stop once the one that began it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class _Member:
    process: SpawnProcess
    pipe: Connection


class Crew:
    """The workers of one search on this machine.

    Args:
        job: What they do.
        size: How many there are.
        num_attempts: Says how many trials were begun so far.
    """

    def __init__(self, job: Job, size: int, num_attempts: Callable[[], int]) -> None:
        self._job, self._num_attempts = job, num_attempts
        self._begun, self._in_vain = num_attempts(), 0
        self._members = [self._begin() for _ in range(size)]

    @classmethod
    @contextmanager
    def at_work(cls, job: Job, size: int, num_attempts: Callable[[], int]) -> Iterator[Self]:
        """A crew that is sent home at the end, whatever the end is."""
        crew = cls(job, size, num_attempts)
        try:
            yield crew
        finally:
            crew._send_home()

    def _begin(self) -> _Member:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe(duplex=False)
        level = logging.DEBUG if logging.getLogger("labelr").isEnabledFor(logging.DEBUG) else logging.WARNING
        process = context.Process(target=_work, args=(self._job, theirs, level), daemon=True)
        process.start()
        theirs.close()
        return _Member(process, mine)

    def look_after(self) -> bool:
        """Passes on what the workers say, and replaces those that died; whether any is still at work.

        Raises:
            LabelrError: If one of them cannot go on.
        """
        for member in list(self._members):
            gone = member.process.exitcode is not None
            self._listen(member.pipe)
            if gone:
                self._members.remove(member)
                self._replace(member.process.exitcode or 0)
        return bool(self._members)

    def _listen(self, pipe: Connection) -> None:
        with suppress(EOFError, OSError):  # it ended, or was killed in the middle of a word
            while pipe.poll():
                said = pipe.recv()
                if isinstance(said, LabelrError):
                    raise said
                logging.getLogger(said.name).handle(said)

    def _replace(self, code: int) -> None:
        if code == 0:
            return
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        begun = self._num_attempts()
        self._in_vain = 0 if begun > self._begun else self._in_vain + 1
        self._begun = begun
        if self._in_vain >= TRIES:
            guard = 'in a script of your own, call it in a file, below `if __name__ == "__main__":`'
            hint = "see whether memory suffices for them" if code < 0 else guard
            raise LabelrError(f"workers end by {how} before they begin a trial", hint)
        log.warning("a worker was ended by %s; another one takes its place", how)
        self._members.append(self._begin())

    def _send_home(self) -> None:
        """Asks all to stop after the step that they are in, and waits for that."""
        for member in self._members:
            member.process.terminate()
        for member in self._members:
            member.process.join(PATIENCE_SECONDS)
            member.process.kill()
