"""One writer for each output format: files of single images as they come, tables of all at the end."""

import errno
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.data.formats.sidecar import separator_beside, with_tags
from labelr.errors import LabelrError
from labelr.tagging.choice import Choice
from labelr.tagging.journal import Result

_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.EINVAL)
LABELS_FILE, PROBABILITIES_FILE, JSONL_FILE, ERRORS_FILE = (
    "labels.csv", "probabilities.csv", "labels.jsonl", "errors.csv",
)  # fmt: skip


class UnwritableNameError(LabelrError):
    """The file of an image cannot be written: its name is too long, or taken by something else."""


class Tagged(NamedTuple):
    """An image with its labels.

    Attributes:
        result: What is known of it.
        probs: Of the K labels that are written, shape ``(K,)``.
        applies: Which of them apply, shape ``(K,)``.
    """

    result: Result
    probs: NDArray[np.float32]
    applies: NDArray[np.bool_]

    @classmethod
    def of(cls, result: Result, choice: Choice) -> "Tagged":
        """A result that did not fail, with the labels that a choice makes of it."""
        probs = result.probs[choice.columns]
        return cls(result, probs, choice.applies(probs))

    @property
    def ranked(self) -> list[int]:
        """The labels that apply, the most probable first."""
        return [index for index in np.argsort(-self.probs, kind="stable").tolist() if self.applies[index]]


class ImageWriter(Protocol):
    """Writes a file for each image.

    Attributes:
        shared: Whether a file that is there already is a person's too, and is never deleted.
    """

    shared: bool

    def path(self, name: str) -> Path:
        """Where the file of an image is."""
        ...

    def content(self, tagged: Tagged) -> bytes | None:
        """What the file of an image is to hold; None where it may stay as it is.

        Raises:
            UnwritableNameError: If what it holds already cannot be read.
        """
        ...


class ImageCsv:
    """``a/b.jpg.csv``: the labels that apply, ``label,probability``, the most probable first.

    Args:
        folder: Of the tree of files.
        labels: K label names.
    """

    shared = False

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self.folder = folder
        self.labels = labels

    def path(self, name: str) -> Path:
        """As `ImageWriter`."""
        return self.folder / f"{name}.csv"

    def content(self, tagged: Tagged) -> bytes:
        """As `ImageWriter`."""
        rows = [(files.escape_formula(self.labels[index]), shown(tagged.probs[index])) for index in tagged.ranked]
        return files.csv_text(("label", "probability"), rows).encode()


class ImageTxt:
    """``a/b.txt``: the labels that apply, the most probable first, divided by commas, as training tools read them.

    Args:
        folder: Of the tree of files.
        labels: K label names.
        append: Whether what a file holds already is kept, and only tags that are new are added behind it, divided as
            those of its folder are.
        images: Of the tree of images.
    """

    def __init__(self, folder: Path, labels: Sequence[str], *, append: bool, images: Path) -> None:
        self.folder = folder
        self.labels = labels
        self.shared = append
        self._images = images
        self._separators: dict[PurePath, str] = {}

    def path(self, name: str) -> Path:
        """As `ImageWriter`."""
        return (self.folder / name).with_suffix(".txt")

    def content(self, tagged: Tagged) -> bytes | None:
        """As `ImageWriter`."""
        tags = [self.labels[index] for index in tagged.ranked]
        if not self.shared:
            return (", ".join(tags) + "\n" if tags else "").encode("utf-8", "surrogateescape")
        path = self.path(tagged.result.name)
        try:
            return with_tags(path, tags, self._separator(PurePath(tagged.result.name).parent))
        except LabelrError as error:
            raise UnwritableNameError(error.message, "leave `--append` out") from error

    def _separator(self, folder: PurePath) -> str:
        """What divides tags in a folder of the tree, else in the one above it, else a comma."""
        if folder not in self._separators:
            found = separator_beside(self._images / folder, self.folder / folder)
            self._separators[folder] = found or (self._separator(folder.parent) if folder.name else ",")
        return self._separators[folder]


def exists(path: Path) -> bool:
    """Whether there is something of that name; not where the name is too long for anything."""
    try:
        return path.exists()
    except OSError:
        return False


def write(path: Path, content: bytes) -> None:
    """Writes the file of an image, in place of what is there.

    Raises:
        UnwritableNameError: If there can be no such file.
        LabelrError: If it cannot be written.
    """
    try:
        files.make_folder(path.parent)
        files.write_atomically(path, content, durable=False)
    except LabelrError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NAME_ERRORS:
            raise UnwritableNameError(error.message) from error
        raise


def remove(path: Path, folder: Path) -> None:
    """Deletes the file of an image, and the folders above it that are empty then, up to the output directory.

    Args:
        path: The file.
        folder: The output directory; folders elsewhere are people's own.
    """
    with suppress(OSError):
        path.unlink()
        if folder in path.parents:
            for parent in path.parents:
                if parent == folder:
                    break
                parent.rmdir()


Rows = Iterator[list[Any]]


def label_rows(images: Iterable[Tagged], choice: Choice) -> Rows:
    """The rows of ``labels.csv``: a column a label, 1 where it applies and 0 where not."""
    yield ["filename", *map(files.escape_formula, choice.labels)]
    yield from map(label_row, images)


def label_row(image: Tagged) -> list[Any]:
    """A row of ``labels.csv``."""
    return [files.escape_formula_in_path(image.result.name), *image.applies.astype(int).tolist()]


def probability_rows(images: Iterable[Tagged], choice: Choice) -> Rows:
    """The rows of ``probabilities.csv``: a column a label."""
    yield ["filename", *map(files.escape_formula, choice.labels)]
    for image in images:
        yield [files.escape_formula_in_path(image.result.name), *map(shown, image.probs.tolist())]


def error_rows(results: Iterable[Result]) -> Rows:
    """The rows of ``errors.csv``: each image of which nothing could be written, and why."""
    yield ["filename", "reason"]
    for result in results:
        if result.failed:
            yield [files.escape_formula_in_path(result.name), result.reason]


def blank_rows(names: Iterable[str], choice: Choice) -> Rows:
    """A table to be filled in: a column a label, whose cells are empty, and so unknown."""
    yield ["filename", *map(files.escape_formula, choice.labels)]
    yield from ([files.escape_formula_in_path(name), *[""] * len(choice.labels)] for name in names)


def json_line(result: Result, choice: Choice, model: str) -> str:
    """An image as one line of JSON; without labels and probabilities where it failed."""
    said: dict[str, Any] = {"path": result.name, "model": model}
    if result.failed:
        said |= {"size": None, "labels": None, "probabilities": None, "error": result.reason}
    else:
        tagged = Tagged.of(result, choice)
        probs = {label: round(prob, 6) for label, prob in zip(choice.labels, tagged.probs.tolist(), strict=True)}
        said |= {
            "size": [result.width, result.height], "labels": [choice.labels[index] for index in tagged.ranked],
            "probabilities": probs, "error": None,
        }  # fmt: skip
    return files.json_line(said)


def write_table(path: Path, rows: Rows) -> None:
    """Writes a CSV of any length in one piece.

    Raises:
        LabelrError: If it cannot be written; what was there before is whole.
    """
    with files.replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        files.write_rows(text, rows)
        text.detach()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a text of any length in one piece.

    Raises:
        LabelrError: If it cannot be written; what was there before is whole.
    """
    with files.replacing(path) as file:
        for line in lines:
            file.write(line.encode("utf-8"))


def shown(prob: float) -> str:
    """A probability as it is written, with six decimals."""
    return f"{prob:.6f}"
