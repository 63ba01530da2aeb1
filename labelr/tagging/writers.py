"""One writer for each output format; it is given one image after the other, in order."""

import csv
import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.errors import LabelrError

_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.EINVAL)


class UnwritableNameError(LabelrError):
    """An image's name does not do for the file of its labels: too long, or taken by a folder."""


class Writer(Protocol):
    """Takes the results of images one after the other."""

    def write(self, name: str, probs: NDArray[np.float32], applies: NDArray[np.bool_]) -> None:
        """Takes one image.

        Args:
            name: The image's path relative to the input folder, with forward slashes.
            probs: The probability of each label, shape ``(L,)``.
            applies: Whether each label applies, shape ``(L,)``.
        """
        ...


class ImageFiles:
    """One CSV an image, ``a/b.jpg.csv``: the labels that apply, ``label,probability``, the most probable first."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self.folder = folder
        self.labels = labels

    def write(self, name: str, probs: NDArray[np.float32], applies: NDArray[np.bool_]) -> None:
        """Writes the file of one image; see `Writer.write`."""
        ranked = [index for index in np.argsort(-probs, kind="stable") if applies[index]]
        rows = [(self.labels[index], shown(probs[index])) for index in ranked]
        path = self.folder / f"{name}.csv"
        try:
            files.make_folder(path.parent)
            files.write_atomically(path, files.csv_text(("label", "probability"), rows), durable=False)
        except LabelrError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NAME_ERRORS:
                raise UnwritableNameError(error.message) from error
            raise


class Tables:
    """``labels.csv`` with 0 or 1 and ``probabilities.csv``, a row an image and a column a label."""

    def __init__(self, labels: "Table", probabilities: "Table") -> None:
        self.labels = labels
        self.probabilities = probabilities

    def write(self, name: str, probs: NDArray[np.float32], applies: NDArray[np.bool_]) -> None:
        """Adds a row to both tables; see `Writer.write`."""
        self.labels.add([name, *applies.astype(int)])
        self.probabilities.add([name, *map(shown, probs)])


class Table:
    """A CSV file that grows under a temporary name and is put in place when it is whole."""

    def __init__(self, path: Path, header: Iterable[str]) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.name}.tmp")
        with files.writing(path):
            self.file = self.draft.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.add(header)

    def add(self, row: Iterable[object]) -> None:
        """Adds a row.

        Raises:
            LabelrError: If it cannot be written.
        """
        with files.writing(self.path):
            self.rows.writerow(row)

    def finish(self) -> None:
        """Puts the table in place.

        Raises:
            LabelrError: If it cannot be written.
        """
        with files.writing(self.path):
            self.file.close()
            self.draft.replace(self.path)

    def discard(self) -> None:
        """Deletes what was written."""
        with suppress(OSError):  # a full disk may not take the last of it
            self.file.close()
        self.draft.unlink(missing_ok=True)


def shown(prob: float) -> str:
    """A probability as it is written, with six decimals."""
    return f"{prob:.6f}"
