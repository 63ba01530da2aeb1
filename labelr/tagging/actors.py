"""The workers of a Ray cluster that open and predict images: batches go to them and come back in order.

They are plain actors, not a pipeline of Ray Data, which promises no order (ray issue 64883), hangs if an actor dies
while errors are allowed (62746), and needs pandas and pyarrow on each node. Here the order is that of one process, and
what a dead worker had under way goes to another one.
"""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelr import signals
from labelr.buckets import mirror
from labelr.config import TagOptions
from labelr.errors import LabelrError, first_line, pluralize, preview
from labelr.tagging.pipeline import NO_PROBS, LabelSelection, Origin, Probs, Result, TaggedImage, Tagger
from labelr.version import __version__

log = logging.getLogger(__name__)

BATCH_SIZE = 128
"""Images that a worker tags at a time, at least: these are lost with it."""
CALLS = 2
"""Batches that a worker has at a time, so that it never waits for the next one."""
AHEAD = 2
"""Batches that may be done before an earlier one, as a multiple of those under way."""
MAX_LOSSES = 5
"""How often workers may end at the same images, or one after the other at their start."""
POLL_SECONDS, LOOK_SECONDS, LOST_SECONDS = 0.5, 10.0, 60.0
"""How often a signal is looked for, and nodes that have joined; how long a cluster may have no node that suffices."""


class Request(NamedTuple):
    """An image that a worker is asked to tag, with its result from an earlier run, which holds if its content does."""

    name: str
    previous: Result | None


class SharedHome(NamedTuple):
    """The ``LABELR_HOME`` of a command whose images are in a bucket.

    By the file `mark`, workers recognize the folder from another one under the same path.
    """

    folder: Path
    mark: Path


class Started(NamedTuple):
    """What a worker says of itself once it has loaded the model."""

    version: str
    digest: str
    precision: str
    batch_size: int


class Answer(NamedTuple):
    """The results of a batch without their probabilities, and those of the N images that did not fail, ``(N, L)``.

    One array is sent much faster than one for each image.
    """

    results: list[tuple[Result, Origin]]
    probs: Probs


@dataclass
class Worker:
    """An actor: a process on a node that holds the model, and tags as one process without Ray does.

    Attributes:
        model: The directory of the model.
        options: How it tags.
        base: The base folder of the images.
        home: Where stand-ins for images in a bucket are; None if they are in none.
        tagger: The model, from `start` on.
    """

    model: str
    options: TagOptions
    base: Path
    home: SharedHome | None = None
    tagger: Tagger = field(init=False, repr=False)  # Ray shows an actor before it is started

    def start(self) -> Started | LabelrError:
        """Loads the model; the error is a value, since Ray would wrap it in the text of its traceback."""
        node = socket.gethostname()
        if self.home and not os.path.exists(self.home.mark):
            hint = "for images in a bucket, set LABELR_HOME to a folder that all nodes share under the same path"
            return LabelrError(f"a worker on {node} does not see the LABELR_HOME of this run, {self.home.folder}", hint)
        try:
            if self.home:  # brings the content of objects as the command itself does
                os.environ["LABELR_HOME"] = str(self.home.folder)
                mirror.register()
            tagger = self.tagger = Tagger.load(self.model, self.options)
        except LabelrError as error:
            error.message = f"a worker on {node}: {error.message}"
            error.hint = error.hint or "name a model in a folder that all nodes share"
            return error
        if not os.path.isdir(self.base):
            hint = "name photos in a folder that all nodes share under the same path"
            return LabelrError(f"a worker on {node} does not see the folder {self.base}", hint)
        ExitStack().enter_context(tagger.model.one_thread_per_operation())  # until the process ends
        precision, size = str(tagger.settings["precision"]), tagger.batch_size
        return Started(__version__, tagger.model.info.digest, precision, -(-BATCH_SIZE // size) * size)

    def tag(self, requests: list[Request]) -> Answer:
        """The results of images, in order."""
        previous = dict(requests)
        images = list(self.tagger.tag(previous, self.base, previous.get))
        probs = [image.result.probs for image in images if not image.result.failed]
        results = [(image.result._replace(probs=NO_PROBS), image.origin) for image in images]
        return Answer(results, np.stack(probs) if probs else NO_PROBS)


@dataclass(eq=False)
class Batch:
    """Images in order, some of which a worker is asked for."""

    images: list[TaggedImage | Request]
    answer: Answer | None = None
    losses: int = 0

    @property
    def requests(self) -> list[Request]:
        """What a worker is asked for."""
        return [image for image in self.images if isinstance(image, Request)]

    @property
    def is_done(self) -> bool:
        """Whether all images are tagged."""
        return self.answer is not None or not self.requests

    def tagged(self, selection: LabelSelection) -> Iterator[TaggedImage]:
        """The images with their labels."""
        results, probs = self.answer or Answer([], NO_PROBS)
        rows, answered = iter(probs), iter(results)
        for image in self.images:
            if isinstance(image, Request):
                result, origin = next(answered)
                yield selection.apply(result if result.failed else result._replace(probs=next(rows)), origin)
            else:
                yield image


class Actors:
    """The workers on the nodes of a cluster that this process is connected to.

    A worker that has ended is replaced by a new one, wherever there is room; Ray's own restarts would wait for room on
    the node of the old one, and would run tasks twice that are no longer wanted.

    Signals are deferred in each call into Ray, whose compiled code would make a SystemError of `Stopped`.
    """

    def __init__(self, worker: Worker, num_gpus: float) -> None:
        import ray

        self._ray: Any = ray
        self._worker = worker
        self._num_gpus = num_gpus
        self._num_cpus = 0
        self._workers: set[Any] = set()
        self._free: deque[Any] = deque()
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, Batch]] = {}
        self._failures = 0
        self._looked = self._had_room = time.monotonic()
        self.started: Started | None = None
        self._look()

    def _look(self) -> None:
        """Starts a worker wherever a node has room for one more."""
        self._looked = time.monotonic()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._num_cpus = self._num_cpus or self._worker.options.threads or _cpus_per_worker(nodes, self._num_gpus)
        room = sum(_room(node, self._num_cpus, self._num_gpus) for node in nodes)
        if room:
            self._had_room = self._looked
        elif self.started is None or self._looked - self._had_room > LOST_SECONDS:
            raise LabelrError(
                f"no node of the Ray cluster has {self._needs} for a worker",
                "ask for less with `--threads` and `--num-gpus`, or add nodes",
            )
        for _ in range(room - len(self._workers)):
            self._add()

    def _add(self) -> None:
        worker = self._worker
        actor: Any = (
            self._ray.remote(Worker)
            .options(num_cpus=self._num_cpus, num_gpus=self._num_gpus, max_restarts=0, max_concurrency=CALLS)
            .remote(worker.model, replace(worker.options, threads=self._num_cpus), worker.base, worker.home)
        )
        self._workers.add(actor)
        self._starting[actor.start.remote()] = actor

    def wait_for_start(self) -> Started:
        """What the first worker says that has loaded the model.

        Raises:
            LabelrError: If it cannot load it, no node suffices for a worker, or workers end at their start.
            Stopped: If a signal has arrived.
        """
        start, is_told = time.monotonic(), False
        while self.started is None:
            self._wait()
            if not is_told and time.monotonic() - start > LOST_SECONDS:
                is_told = True
                log.warning("waiting for the Ray cluster: no worker with %s has started", self._needs)
        return self.started

    @property
    def _needs(self) -> str:
        gpus = f" and {self._num_gpus:g} GPU{'s' * (self._num_gpus != 1)}" if self._num_gpus else ""
        return pluralize(self._num_cpus, "CPU") + gpus

    def run(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches with their answers, in order; ends early if a signal has arrived."""
        window: deque[Batch] = deque()  # in order; a batch that is lost waits here for another worker
        waiting: deque[Batch] = deque()
        is_over = False
        while not signals.stop_requested():
            while not is_over and len(window) < (1 + AHEAD) * CALLS * len(self._workers):
                batch = next(batches, None)
                is_over = batch is None
                if batch is not None:
                    window.append(batch)
                    waiting.extend([] if batch.is_done else [batch])
            while waiting and self._free:
                self._send(waiting.popleft())
            if window and window[0].is_done:
                yield window.popleft()
            elif window:
                waiting.extendleft(self._wait())
            else:
                return

    @signals.deferred()
    def _send(self, batch: Batch) -> None:
        actor = self._free.popleft()
        self._running[actor.tag.remote(batch.requests)] = actor, batch

    @signals.deferred()
    def _wait(self) -> list[Batch]:
        """Waits for something to happen, and returns the batches that are lost.

        Raises:
            LabelrError: As `wait_for_start`, or if workers end at the same images again and again.
            Stopped: If a signal has arrived.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        lost = []
        ready, _ = self._ray.wait([*self._starting, *self._running], num_returns=1, timeout=POLL_SECONDS)
        for ref in ready:
            actor, batch = self._running.pop(ref, (None, None))
            try:
                value = self._ray.get(ref, timeout=LOOK_SECONDS)  # it is here, unless its node was lost
            except self._ray.exceptions.RayTaskError as error:  # of memory or a GPU, or our mistake, as in one process
                raise error.cause if isinstance(error.cause, LabelrError) else error from None
            except self._ray.exceptions.RayError as error:
                self._replace(actor or self._starting.pop(ref), batch, error)
                lost += [batch] if batch else []
                continue
            if batch:
                batch.answer, self._failures = value, 0
                self._free += [actor] if actor in self._workers else []
            else:
                self._greet(self._starting.pop(ref), value)
        return lost

    def _greet(self, actor: Any, started: Started | LabelrError) -> None:
        """Has a worker take batches; LabelrError if it has no model, or would give other results than the first one."""
        if isinstance(started, LabelrError):
            raise started
        self.started = self.started or started
        if started[:-1] != self.started[:-1]:
            first, other = (
                (f"labelr {w.version}, model {w.digest[:12]}, {w.precision}") for w in (self.started, started)
            )
            hint = "nodes of one run need the same labelr, model and kind of processor; set `--device` or `--no-amp`"
            raise LabelrError(f"two workers differ: {first}; {other}", hint)
        self._free += CALLS * [actor]

    def _replace(self, actor: Any, batch: Batch | None, error: Exception) -> None:
        """Starts a worker instead of one that has ended; LabelrError if that has happened too often."""
        if actor in self._workers:
            self._workers.remove(actor)
            self._free = deque(free for free in self._free if free is not actor)
            with suppress(Exception):
                self._ray.kill(actor)  # one that is only out of reach
            self._failures += batch is None
            log.info("a worker of the Ray cluster has ended, and is replaced: %s", first_line(error))
            self._add()
        if batch:
            batch.losses += 1
        if self._failures >= MAX_LOSSES:
            raise LabelrError(f"workers of the Ray cluster end at their start: {first_line(error)}", _MEMORY)
        if batch and batch.losses >= MAX_LOSSES:
            names = preview([request.name for request in batch.requests])
            raise LabelrError(
                f"{MAX_LOSSES} workers of the Ray cluster have ended at the same images: {names}", _MEMORY
            )


_MEMORY = "look for the reason in Ray's logs, such as memory that ran out; use fewer `--threads`"


def _cpus_per_worker(nodes: list[dict[str, float]], num_gpus: float) -> int:
    """The CPUs of a worker: all of the smallest node, or its share by GPUs, so that every node is in use."""
    usable = [node for node in nodes if _room(node, 1, num_gpus)]
    shares = [node["CPU"] * min(1, num_gpus / node["GPU"]) if num_gpus else node["CPU"] for node in usable]
    return max(1, int(min(shares, default=1)))


def _room(node: dict[str, float], num_cpus: int, num_gpus: float) -> int:
    """How many workers a node has room for."""
    cpus = int(node.get("CPU", 0) // num_cpus)
    return min(cpus, int(node.get("GPU", 0) // num_gpus)) if num_gpus else cpus
