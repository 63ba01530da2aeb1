"""Tagging on a Ray cluster: its workers open and predict the images, and all else stays in this process.

So the journal, the files and the tables are written as without a cluster, and are the same byte for byte.
"""

import logging
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labelr import files, locks, signals
from labelr.buckets.addresses import root
from labelr.config import NO_CLUSTER, TagOptions
from labelr.errors import LabelrError, first_line
from labelr.model.predictor import Predictor, available_cpus
from labelr.tagging.actors import Actors, Batch, Request, SharedHome, Started, Worker
from labelr.tagging.pipeline import MAX_TASKS, Result, TaggedImage, Tagger, Task
from labelr.version import __version__

ANSWER_SECONDS, CONNECT_SECONDS = 5.0, 60.0
"""How long an address has to answer, and then to answer as Ray does."""
STORE_BYTES = 100 * 2**20
"""Shared memory of a cluster on this machine: only paths and probabilities are in it."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What Ray reads from the environment when it is imported: it sends nothing, and prints nothing."""
TEMPORARY_PREFIX = "labelr-ray-"
MAX_TEMPORARY = 23
"""Characters of the path of a temporary folder in which those of Ray's sockets are short enough for the system."""


@dataclass(frozen=True)
class ClusterTagger(Tagger):
    """A tagger whose images are opened and predicted on a cluster."""

    actors: Actors
    started: Started

    @property
    def settings(self) -> dict[str, Any]:
        """As `Tagger`; the precision is that of the workers."""
        return {**super().settings, "precision": self.started.precision}

    def tag(self, names: Iterable[str], base: Path, previous: Callable[[str], Result | None]) -> Iterator[TaggedImage]:
        """The labels of each image, in order. Images whose file is unchanged are not sent."""
        for batch in self.actors.run(self._batches(names, base, previous)):
            yield from batch.tagged(self.selection)

    def _batches(self, names: Iterable[str], base: Path, previous: Callable[[str], Result | None]) -> Iterator[Batch]:
        images: list[TaggedImage | Request] = []
        num_requests = 0
        for name in names:
            result = previous(name)
            task = Task.of(name, base, result) if result else None
            if task and task.previous and task.unchanged:
                images.append(self.selection.apply(task.previous))
            else:
                images.append(Request(name, task.previous if task else None))
                num_requests += 1
            if num_requests == self.started.batch_size or len(images) == MAX_TASKS + self.started.batch_size:
                yield Batch(images)
                images, num_requests = [], 0
        if images:
            yield Batch(images)


class IdleTagger(Tagger):
    """A tagger for a cluster that has no images to tag."""

    @property
    def settings(self) -> dict[str, Any]:
        """As `Tagger`, without the precision, which only the cluster knows."""
        return {name: value for name, value in super().settings.items() if name != "precision"}


@contextmanager
def load_tagger(
    model: str | Path | Predictor | None, options: TagOptions, base: Path, *, is_idle: bool
) -> Iterator[Tagger]:
    """A tagger for images below a folder, on the cluster that the options name until the end of the context.

    One that is `is_idle`, for an empty folder or a preview, needs no cluster.

    Raises:
        LabelrError: As `Tagger.load`, or if the cluster cannot be used.
    """
    # the model is also loaded here, for its labels and thresholds, where there may be no GPU
    loading = replace(options, ray=NO_CLUSTER, num_gpus=0, device="cpu", amp=None, tf32=False)
    if is_idle:
        yield IdleTagger.load(model, loading)
        return
    with _connected(options) as connection, _shared_home(base) as home:
        with signals.deferred():  # raised within an import, `Stopped` may keep Python's lock, which Ray's imports need
            tagger = Tagger.load(model, loading)
        connection.wait()
        device = ("cuda" if options.num_gpus else "cpu") if options.device == "auto" else options.device
        own = TagOptions(
            device=device, amp=options.amp, tf32=options.tf32, threads=options.threads, workers=options.workers,
            max_pixels=options.max_pixels, engine=options.engine,
            gallery=options.reads_images_again,  # writes none, but keeps the content of objects as one process does
        )  # fmt: skip
        folder = os.path.abspath(tagger.model.path)
        with signals.deferred():
            actors = Actors(Worker(folder, own, base, home), options.num_gpus)
        started = actors.wait_for_start()
        if (started.version, started.digest) != (__version__, tagger.model.info.digest):
            raise LabelrError(
                f"the workers have labelr {started.version} and model {started.digest[:12]}, and this process "
                f"{__version__} and {tagger.model.info.digest[:12]}",
                "install the same labelr on all nodes, and name a model in a folder that they share",
            )
        yield ClusterTagger(tagger.model, tagger.selection, options, actors, started)


@contextmanager
def _shared_home(base: Path) -> Iterator[SharedHome | None]:
    """What workers need to open images in a bucket, until the end; None if they are in none."""
    if not files.is_elsewhere(base):
        yield None
        return
    with files.writing(root()):
        mark = tempfile.NamedTemporaryFile(  # noqa: SIM115 - errors of what follows are others
            prefix=files.DRAFT_PREFIX, suffix=files.DRAFT_SUFFIX, dir=root().parent
        )
    with mark:
        yield SharedHome(files.home(), Path(mark.name))


@contextmanager
def _connected(options: TagOptions) -> Iterator["Connection"]:
    """A connection to the cluster that the options name, which is being made; one on this machine is started."""
    if find_spec("ray") is None:
        raise LabelrError("tagging on a cluster needs the package ray", "install it with `pip install 'labelr[ray]'`")
    if options.ray not in ("local", "auto"):
        _check_address(options.ray)
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)} if options.ray == "local" else {}
    with _environment({**QUIET, **own}):  # by the token, nobody else can use a cluster on this machine
        connection = Connection(options)
        try:
            with signals.deferred():
                connection.start()
            yield connection
        finally:
            with signals.deferred():
                connection.end()


class Connection(threading.Thread):
    """Connects to a cluster while the model is loaded, and stays connected until the end.

    A thread of its own: in the main thread Ray would take the handler of SIGTERM away, and what it starts on Linux ends
    with the thread that has started it, also if this process is killed.
    """

    def __init__(self, options: TagOptions) -> None:
        super().__init__(name="ray", daemon=True)  # one that nobody answers does not keep this process alive
        self._options = options
        self._connected: Future[None] = Future()
        self._ended = threading.Event()

    def wait(self) -> None:
        """Returns once it is connected; LabelrError if it cannot be."""
        try:
            self._connected.result(timeout=None if self._options.ray == "local" else CONNECT_SECONDS)
        except TimeoutError as error:
            raise self._error("nothing there answers as Ray does") from error

    def end(self) -> None:
        """Disconnects, and stops a cluster on this machine; one that is still being connected to may not answer."""
        self._ended.set()
        if self.is_alive():
            self.join(None if self._connected.done() or self._options.ray == "local" else ANSWER_SECONDS)

    def run(self) -> None:
        """The work of the thread."""
        try:
            with _temporary_folder() as folder:
                is_ours = self._connect(folder)
                self._connected.set_result(None)
                self._ended.wait()
                if is_ours:
                    import ray

                    ray.shutdown()
        except BaseException as error:
            if self._connected.done():
                raise
            self._connected.set_exception(error)  # raised again by `wait`

    def _connect(self, folder: Path) -> bool:
        """Connects, and returns whether to disconnect at the end: not if other code has connected this process."""
        import ray

        if ray.is_initialized():
            return False
        logging.getLogger("ray").setLevel(logging.ERROR)
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
        try:
            if self._options.ray == "local":
                ray.init(
                    "local", num_cpus=max(available_cpus(), self._options.threads or 1), include_dashboard=False,
                    object_store_memory=STORE_BYTES, _temp_dir=str(folder), **quiet,
                )  # fmt: skip
            else:
                ray.init(self._options.ray, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise self._error(first_line(error).partition(". ")[0]) from error
        return True

    def _error(self, reason: str) -> LabelrError:
        if self._options.ray == "local":
            return LabelrError(f"no Ray cluster can be started on this machine: {reason}", "tag without `--ray`")
        hint = "start one with `ray start --head`, or name its address with `--ray HOST:PORT`"
        return LabelrError(f"no Ray cluster can be used by `--ray {self._options.ray}`: {reason}", hint)


def _check_address(address: str) -> None:
    """Raises LabelrError if nothing answers at an address, which Ray itself finds out after minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        hint = "name the address that `ray start --head` shows, such as 10.0.0.1:6379"
        reason = (getattr(error, "strerror", None) or first_line(error)).lower()
        raise LabelrError(f"no Ray cluster answers at {address}: {reason}", hint) from error


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables that are not set, until the end."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for the logs and sockets of a cluster, which is deleted at the end, or by the next run after a kill."""
    is_long = len(tempfile.gettempdir()) > MAX_TEMPORARY and os.path.isdir("/tmp")  # noqa: S108 - as Ray's own
    parent = "/tmp" if is_long else None  # noqa: S108
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with locks.locked(folder):
            for other in folder.parent.glob(f"{TEMPORARY_PREFIX}*"):
                with suppress(OSError, LabelrError):  # such as BusyError: it is in use
                    if other != folder and other.lstat().st_uid == folder.lstat().st_uid:
                        locks.remove_folder(other)
            yield folder
