"""From image files to labels: opens images in batches on threads, predicts, and selects the labels to write."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.buckets import objects
from labelr.config import TagOptions
from labelr.data.images import Pixels, UnreadableError, content_digest, decode, open_file
from labelr.errors import LabelrError, preview, printable, suggest
from labelr.fields import SettingError, hint_of_list
from labelr.model.calibration import decide
from labelr.model.engine import resolve_predictor
from labelr.model.predictor import NOT_FINITE, Predictor, is_finite, micro_batch_size
from labelr.processors import in_batches, map_ahead
from labelr.scoring.thresholds import choose_thresholds, read_by_label

FILE_COLUMN = "filename"
"""The column of file names in tables of results."""
OPEN_SIZE = 8
"""Images that a thread opens at a time if another device than the CPU predicts."""
MAX_TASKS = 512
"""Maximum number of tasks in a batch, most of them unchanged images."""
NO_PROBS = np.empty(0, np.float32)

Probs = NDArray[np.float32]
Origin = Literal["new", "touched", "unchanged"]
FileStatus = tuple[int, int, int]
"""Size, modification time and status change time. As long as they are the same, the content is not read again; the
last one reveals that two files of equal size and modification time were swapped."""


def file_status(path: Path) -> FileStatus:
    """The status of a file; a size of -1 if it has none. The reason is found when the file is opened."""
    try:
        return files.state_of(path)
    except OSError:
        return -1, 0, 0


class Result(NamedTuple):
    """What the journal keeps of an image.

    Attributes:
        name: Path relative to the base folder of all inputs.
        status: Status of the file when it was read.
        digest: SHA-256 of the file, in hexadecimal; empty if it cannot be read.
        width: Width of the upright image in pixels; 0 if it cannot be opened.
        height: Height of the upright image in pixels.
        reason: Why the image cannot be opened or its files cannot be written; empty if it was tagged.
        probs: Probabilities of all labels of the model, shape ``(L,)``; empty if the image cannot be opened.
        pages: Number of further pages or frames, which are not used.
        note: What else is not used of the image, for the user; empty if all is used.
    """

    name: str
    status: FileStatus
    digest: str
    width: int
    height: int
    reason: str
    probs: Probs
    pages: int = 0
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether the image has no labels."""
        return bool(self.reason)


class TaggedImage(NamedTuple):
    """An image with the labels to write.

    Attributes:
        result: The result that the labels are selected from.
        probs: Probabilities of the K selected labels, shape ``(K,)``; empty if the image failed.
        applies: Which of these labels apply, shape ``(K,)``; empty if the image failed.
        origin: ``"new"`` if the image was opened in this run; ``"unchanged"`` if its file is the same as in the
            previous run, ``"touched"`` if only the times of its file changed.
    """

    result: Result
    probs: Probs
    applies: NDArray[np.bool_]
    origin: Origin

    @property
    def name(self) -> str:
        """Path relative to the base folder of all inputs."""
        return self.result.name

    @property
    def ranked(self) -> list[int]:
        """Indices of the labels that apply, the most probable first."""
        return [index for index in np.argsort(-self.probs, kind="stable").tolist() if self.applies[index]]


@dataclass(frozen=True)
class LabelSelection:
    """Which of the L labels of a model are written, and when each of them applies.

    Attributes:
        labels: Names by which the K selected labels are written.
        columns: Their indices among the labels of the model, shape ``(K,)``.
        thresholds: Their thresholds, shape ``(K,)``.
        threshold: Where the thresholds come from: ``"auto"`` for the model, one number for all labels, or a file.
        top_k: Maximum number of labels per image; None for no limit.
        min_labels: Minimum number of labels per image.
        always: Further tags of each image, in formats of tags.
    """

    labels: tuple[str, ...]
    columns: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    threshold: str | float = "auto"
    top_k: int | None = None
    min_labels: int = 0
    always: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Predictor, options: TagOptions) -> Self:
        """The selection that the options describe.

        Raises:
            LabelrError: If an option names an unknown label, no label is left, or a table cannot be used.
        """
        for option in ("only", "exclude"):
            for name in getattr(options, option):
                if name not in model.labels:
                    hint = hint_of_list(option, name) or suggest(name, model.labels)
                    hint = hint or f"choose among its labels: {preview(model.labels, 10)}"
                    raise SettingError(f"{option}: the model has no label {name!r}", hint)
        columns = [
            column
            for column, label in enumerate(model.labels)
            if (not options.only or label in options.only) and label not in options.exclude
        ]
        if not columns:
            raise SettingError("no label is left to write", "leave out fewer labels with `--only` and `--exclude`")
        thresholds, threshold = choose_thresholds(model, options.threshold, options.threshold_file, options.encoding)
        labels, always = written_names(model.labels, columns, options)
        return cls(labels, np.array(columns), thresholds[columns], threshold, options.top_k, options.min_labels, always)

    def tags(self, image: "TaggedImage") -> list[str]:
        """The tags of an image: those that all images get, and its labels, the most probable first."""
        return [*self.always, *(self.labels[index] for index in image.ranked)]

    def apply(self, result: Result, origin: Origin = "unchanged") -> TaggedImage:
        """The labels of an image; none if it failed."""
        if result.failed:
            return TaggedImage(result, NO_PROBS, np.empty(0, np.bool_), origin)
        probs = result.probs[self.columns]
        return TaggedImage(result, probs, self.applies(probs), origin)

    def tagged(self, results: Iterable[Result]) -> Iterator[TaggedImage]:
        """The images among some results that did not fail."""
        return (self.apply(result) for result in results if not result.failed)

    def applies(self, probs: Probs) -> NDArray[np.bool_]:
        """Which of the K labels are written for images with these probabilities; both of shape ``(..., K)``."""
        applies = decide(probs, self.thresholds)
        if self.top_k is None and not self.min_labels:
            return applies
        order = np.lexsort((-probs, ~applies), axis=-1)  # those that reach their thresholds, then the most probable
        num_written = np.maximum(applies.sum(axis=-1, keepdims=True), self.min_labels)
        if self.top_k is not None:
            num_written = np.minimum(num_written, self.top_k)
        np.put_along_axis(applies, order, np.arange(probs.shape[-1]) < num_written, axis=-1)
        return applies


def written_names(
    labels: Sequence[str], columns: Sequence[int], options: TagOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names by which the labels in `columns` are written, and the tags of every image, all of them different.

    Raises:
        LabelrError: If the table of names cannot be used, a name would be written for two labels, or one that is
            written into txt files would be several tags there.
    """
    renamed: dict[str, tuple[str, str]] = {}
    if options.rename is not None:
        renamed = read_by_label(Path(options.rename), "written", "--rename", labels, options.encoding)
    names: dict[str, str] = {}
    chosen = [labels[column] for column in columns]
    for label in sorted(chosen, key=lambda label: label in renamed):  # so that a row is to blame
        cell, where = renamed.get(label, ("", ""))
        name = cell or label
        if name in names:
            raise LabelrError(
                f"{where}: {label!r} and {names[name]!r} would both be written as {name!r}",
                "give each label a name of its own, or leave one out with `--exclude`",
            )
        _check_text(name, where, options)
        names[name] = label
    prefix = options.prefix or ""
    _check_text(prefix, "prefix", options)
    by_label = {label: f"{prefix}{name}" for name, label in names.items()}
    if clash := next((label for label, name in by_label.items() if name == FILE_COLUMN), None):
        raise LabelrError(
            f"{clash!r} would be written as {FILE_COLUMN!r}, the column of file names",
            "give the label another name with `--rename FILE`, or leave it out with `--exclude`",
        )
    written = tuple(by_label[label] for label in chosen)
    return written, _always(written, options)


def _always(written: Sequence[str], options: TagOptions) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag.strip() for tag in options.always))
    for tag in tags:
        if not tag:
            raise SettingError("always: the tag is empty", "name a tag, such as `--always holiday`")
        _check_text(tag, "always", options)
    taken = [tag for tag in tags if tag in written]
    if taken:
        raise SettingError(
            f"always: {preview(taken)} is a label of the model", f"leave it out of the labels: `--exclude {taken[0]}`"
        )
    return tags


def _check_text(text: str, where: str, options: TagOptions) -> None:
    """Raises LabelrError if a name, or a part of it, has characters that files of tags cannot hold, as line breaks.

    `where` is where a user has given it; empty for a label of the model, which only txt files may not hold.
    """
    if where and (printable(text, line=False) != text or "\n" in text):
        raise LabelrError(f"{where}: {text!r} has characters that are not printable", "delete them")
    if "txt" in options.formats and ("," in text or "".join(text.splitlines()) != text):
        hint = (
            "delete the comma" if where else "give it another name with `--rename FILE`, or leave it out: `--exclude`"
        )
        raise LabelrError(f"{where or 'labels'}: {text!r} would be several tags in txt files", hint)


class Task(NamedTuple):
    """An image to tag: the present status of its file, and its result from an earlier run unless that failed."""

    name: str
    path: Path
    status: FileStatus
    previous: Result | None

    @classmethod
    def of(cls, name: str, base: Path, previous: Result | None) -> "Task":
        """The task of an image with its result from an earlier run, if any. A failed image is tried again."""
        path = base / name
        return cls(name, path, file_status(path), None if previous is None or previous.failed else previous)

    @property
    def unchanged(self) -> bool:
        """Whether the previous result is still valid."""
        return self.previous is not None and self.previous.status == self.status


class Opened(NamedTuple):
    """The result of a task, how it was obtained, and the pixels from which to predict its probabilities, if any."""

    result: Result
    origin: Origin
    pixels: Pixels | None = None


@dataclass(frozen=True)
class Tagger:
    """A model with the options that it is applied with, and the labels that they select."""

    model: Predictor
    selection: LabelSelection
    options: TagOptions

    @classmethod
    def load(cls, model: str | Path | Predictor | None, options: TagOptions) -> Self:
        """A tagger with a model that is loaded already, or by name or directory; None for the default model.

        Raises:
            LabelrError: If the model cannot be loaded, or the options do not suit it.
        """
        loaded = resolve_predictor(model, options)
        return cls(loaded, LabelSelection.of(loaded, options), options)

    @property
    def batch_size(self) -> int:
        """The number of images that go through the network together."""
        return micro_batch_size(self.model.runtime, self.model.info.preprocessing.image_size)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the images that the results depend on, by names for users, ready for JSON."""
        selection, options, machine = self.selection, self.options, self.model.runtime
        threshold = selection.threshold
        if isinstance(threshold, str):
            threshold += f" ({hashlib.sha256(selection.thresholds.tobytes()).hexdigest()[:8]})"
        return {
            "model": f"{self.model.name} ({self.model.info.digest[:12]})",
            "threshold": threshold,
            "labels": list(selection.labels),
            "model labels": [self.model.labels[column] for column in selection.columns.tolist()],
            "always": list(selection.always),
            "top k": options.top_k,
            "min labels": options.min_labels,
            "formats": list(options.formats),
            "csv style": options.csv_style,
            "in place": options.in_place,
            "append": options.append,
            "xmp name": options.xmp_name,
            "xmp root": options.xmp_root or None,
            "embed": options.embed,
            "max pixels": options.max_pixels,
            "precision": f"{machine.precision} on {machine.kind}",
        }

    def tag(self, names: Iterable[str], base: Path, previous: Callable[[str], Result | None]) -> Iterator[TaggedImage]:
        """The labels of each image, in order.

        There are at least as many batches in progress as threads. On a CPU, each thread opens files and predicts, so
        that all cores are busy whichever takes longer. Any other device is used by the calling thread alone, in larger
        batches, while the threads open files. Use it inside the model's `one_thread_per_operation`.

        Args:
            names: The images, relative to the base folder; taken as they are needed.
            base: The base folder.
            previous: Gives the result of an earlier run by the name of an image.
        """
        threads = max(self.model.runtime.threads, self.model.runtime.workers)
        tasks = objects.read_ahead(
            (Task.of(name, base, previous(name)) for name in names), lambda task: None if task.unchanged else task.path
        )
        size = self.batch_size
        if self.model.runtime.kind == "cpu":
            tagged: Iterator[list[TaggedImage]] = map_ahead(
                lambda batch: self._predict_batch(self._open_batch(batch)), _batches(tasks, size),
                threads=threads, ahead=2 * threads,
            )  # fmt: skip
        else:
            opened = map_ahead(self._open_batch, _batches(tasks, OPEN_SIZE), threads=threads, ahead=2 * threads)
            tagged = map(self._predict_batch, in_batches(chain.from_iterable(opened), size))
        return chain.from_iterable(tagged)

    def _open_batch(self, batch: list[Task]) -> list[Opened]:
        return list(map(self._open, batch))

    def _predict_batch(self, batch: list[Opened]) -> list[TaggedImage]:
        probs = iter(self._predict([pixels for _, _, pixels in batch if pixels is not None]))
        return [
            self.selection.apply(result if pixels is None else _with_probs(result, next(probs)), origin)
            for result, origin, pixels in batch
        ]

    def _open(self, task: Task) -> Opened:
        previous, wanted = task.previous, self.model.info.preprocessing
        if previous and task.unchanged:
            return Opened(previous, "unchanged")
        result = Result(task.name, task.status, "", 0, 0, "", NO_PROBS)
        try:
            with open_file(task.path) as file:
                result = result._replace(digest=content_digest(file))
                if previous and previous.digest == result.digest:
                    return Opened(previous._replace(status=task.status), "touched")
                image = decode(
                    file, wanted.image_size, rule=wanted.resize, max_pixels=self.options.max_pixels,
                    value_range=wanted.value_range,
                )  # fmt: skip
        except UnreadableError as error:
            return Opened(result._replace(reason=str(error)), "new")
        finally:
            if not self.options.reads_images_again:
                objects.release(task.path)
        result = result._replace(width=image.width, height=image.height, pages=image.pages, note=image.note)
        return Opened(result, "new", image.pixels)

    def _predict(self, pixels: list[Pixels]) -> Probs:
        """The probabilities of N images, shape ``(N, L)``."""
        if not pixels:
            return np.empty((0, len(self.model.labels)), np.float32)
        # padded with zeros, since the last digits of the probabilities depend on the size of the batch
        batch = np.zeros((self.batch_size, *pixels[0].shape), np.uint8)
        batch[: len(pixels)] = pixels
        return self.model.predict_pixels([batch])[: len(pixels)]


def _with_probs(result: Result, probs: Probs) -> Result:
    """The result of an image with its probabilities ``(L,)``; it has failed if they are not numbers."""
    return result._replace(probs=probs) if is_finite(probs) else result._replace(reason=NOT_FINITE)


def _batches(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    """The tasks in lists with `size` changed images each."""
    batch: list[Task] = []
    changed = 0
    for task in tasks:
        batch.append(task)
        changed += not task.unchanged
        if changed == size or len(batch) == MAX_TASKS:
            yield batch
            batch, changed = [], 0
    if batch:
        yield batch
