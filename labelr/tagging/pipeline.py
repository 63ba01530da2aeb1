"""From files to results: whole batches on threads, each of which opens its images and runs them through the network."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import numpy as np

from labelr.data.images import Decoded, Unreadable, content_digest, decode, open_file
from labelr.data.prefetch import map_ahead
from labelr.model.predict import Model
from labelr.tagging.inputs import Found
from labelr.tagging.journal import Result

BATCH_SIZES = {"cpu": 8}
"""Images that go through the network at a time, always as many: what it says of one is then the same among others.

Small ones on a CPU, which computes them as fast, and whose cores end their last batches at nearly the same time then.
"""
DEFAULT_BATCH_SIZE = 64
MOST_AT_A_TIME = 512
"""Images of which nothing has to be done, and which are passed on together."""
NO_PROBS = np.empty(0, np.float32)


class Task(NamedTuple):
    """An image, and what is known of it.

    Attributes:
        found: The image.
        size: Of its file, in bytes; -1 where it cannot be looked at.
        mtime_ns: When the file was last changed.
        ctime_ns: When the file or its name was last changed.
        known: Its result from before, if there is one.
    """

    found: Found
    size: int
    mtime_ns: int
    ctime_ns: int
    known: Result | None

    @classmethod
    def of(cls, found: Found, known: Result | None) -> "Task":
        """The task of an image as it is now."""
        try:
            status = found.path.stat()
        except OSError:
            return cls(found, -1, 0, 0, known)
        return cls(found, status.st_size, status.st_mtime_ns, status.st_ctime_ns, known)

    @property
    def unchanged(self) -> bool:
        """Whether its result from before still holds; one that failed is looked at again."""
        known = self.known
        return known is not None and not known.failed and known[1:4] == self[1:4]


class Looked(NamedTuple):
    """A file that was opened: its digest, and what was seen; None where it is as it was known to be."""

    digest: str
    image: Decoded | Unreadable | None


def results(model: Model, tasks: Iterable[Task], *, max_pixels: int) -> Iterator[list[tuple[Task, Result]]]:
    """The result of each image, in order, some images at a time.

    As many batches are under way as the model's machine has threads, so that every core is busy whichever takes longer,
    opening files or computing; torch should take one thread for each of them.

    Args:
        model: Says which labels there are.
        tasks: The images; taken as they are needed.
        max_pixels: A picture with more pixels is not opened.
    """

    def work(batch: list[Task]) -> list[tuple[Task, Result]]:
        return list(zip(batch, _batch_results(model, batch, max_pixels), strict=True))

    threads = max(model.machine.threads, model.machine.workers)
    return map_ahead(work, _batches(tasks, batch_size(model)), threads=threads, ahead=2 * threads)


def batch_size(model: Model) -> int:
    """How many images go through a model at a time."""
    return BATCH_SIZES.get(model.machine.device.type, DEFAULT_BATCH_SIZE)


def _batches(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    """The tasks in lists, of which as many have to be done as fit the network."""
    batch: list[Task] = []
    to_do = 0
    for task in tasks:
        batch.append(task)
        to_do += not task.unchanged
        if to_do == size or len(batch) == MOST_AT_A_TIME:
            yield batch
            batch, to_do = [], 0
    if batch:
        yield batch


def _batch_results(model: Model, batch: list[Task], max_pixels: int) -> Iterator[Result]:
    looked = [None if task.unchanged else _look(task, model, max_pixels) for task in batch]
    images = [one.image for one in looked if one is not None]
    probs = _probs(model, [image for image in images if isinstance(image, Decoded)])
    for task, one in zip(batch, looked, strict=True):
        if one is None or one.image is None:
            yield cast("Result", task.known)._replace(size=task.size, mtime_ns=task.mtime_ns, ctime_ns=task.ctime_ns)
        elif isinstance(one.image, Unreadable):
            reason = one.image.reason
            yield Result(task.found.name, *task[1:4], one.digest, 0, 0, reason, NO_PROBS)
        else:
            width, height = one.image.width, one.image.height
            yield Result(task.found.name, *task[1:4], one.digest, width, height, "", next(probs))


def _look(task: Task, model: Model, max_pixels: int) -> Looked:
    """Opens a file, once for its digest and its pixels."""
    file = open_file(task.found.path)
    if isinstance(file, Unreadable):
        return Looked("", file)
    with file:
        digest = content_digest(file)
        if isinstance(digest, Unreadable):
            return Looked("", digest)
        if task.known and not task.known.failed and task.known.digest == digest:
            return Looked(digest, None)
        wanted = model.info.preprocessing
        return Looked(digest, decode(file, wanted.image_size, rule=wanted.resize, max_pixels=max_pixels))


def _probs(model: Model, images: list[Decoded]) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """The probabilities of images, each ``(L,)``."""
    if not images:
        return iter(())
    side = model.info.preprocessing.image_size
    # filled up with nothing, since a batch's size shows in the last digits
    batch = np.zeros((batch_size(model), side, side, 3), np.uint8)
    for row, image in enumerate(images):
        batch[row] = image.pixels
    return iter(model.predict_pixels([batch])[: len(images)])
