"""Limits on label files, so that no file takes more than about 10 seconds and 1 GB: all follow from ``--max-cells``."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from labelr import files
from labelr.config import MAX_CELLS
from labelr.errors import LabelrError

BYTES_PER_CELL = 10
"""A label file may have this many bytes for each of the cells that it may have."""
CELLS_PER_COLUMN = 200
"""A table may have one column, and a data set one label, for this many cells: work on a column has a fixed cost."""
TARGETS_PER_CELL = 4
"""A target, which is a number, takes less memory than the text of a cell: there may be this many times as many."""
CELLS_OF_ROW = 8
"""A row of a table takes as long to read as this many cells in it."""
CELLS_OF_YAML = 40
"""A value in YAML takes as long to read as this many cells of a CSV."""
CELLS_OF_XML = 5
"""An element of XML, or a cell of a spreadsheet, takes as long to read as this many cells of a CSV."""
CELLS_OF_KEY = 2
"""A key of JSON takes as long to read as this many of its other values."""
CELLS_OF_OBJECT = 8
"""An object of JSON takes as much memory as this many of its other values."""
MAX_NESTING = 100
"""Lists and objects within each other in YAML."""
MAX_NAME = 4096
"""Characters in the path of an image; no system has longer ones."""
MAX_LABEL = 1000
"""Characters of a label; a longer one is a caption, or a cell whose quote is missing."""
MAX_LITERAL = 100_000
"""Characters of a cell that holds a list as Python writes it: its parser takes a hundred times as many bytes."""


@dataclass(frozen=True)
class Limits:
    """How much a label file may hold.

    Attributes:
        cells: The number of cells, or of values in JSON.
        path: The label file or folder.
    """

    cells: int = MAX_CELLS
    path: Path = Path()

    @property
    def size(self) -> int:
        """The size of a file in bytes."""
        return self.cells * BYTES_PER_CELL

    @property
    def cell_size(self) -> int:
        """The number of characters in a cell of a CSV."""
        return self.size // 10

    def check_size(self, path: Path, size: int, what: str = "") -> None:
        """Raises LabelrError if a file has too many bytes; `what` says which if they are not those on disk."""
        self._check(f"{path}{what} has {size / 1e6:,.1f} MB", size, BYTES_PER_CELL, f"{self.size / 1e6:,.1f} MB")

    def check_cells(self, path: Path, number: int, what: str = "cells", *, weight: int = 1) -> None:
        """Raises LabelrError if a file has too many cells, or values of another kind that count as `weight` cells."""
        self._check(f"{path} has {number:,} {what}", number * weight, 1, f"{self.cells // weight:,}")

    def check_columns(self, path: Path, number: int, what: str = "columns") -> None:
        """Raises LabelrError if a table has too many columns, or a data set too many labels."""
        most = self.cells // CELLS_PER_COLUMN
        self._check(f"{path} has {number:,} {what}", number * CELLS_PER_COLUMN, 1, f"{most:,}")

    def check_labels(self, labels: Collection[str]) -> None:
        """Raises LabelrError if the label file has too many labels, or one that is too long."""
        self.check_columns(self.path, len(labels), "labels")
        longest = max(labels, key=len, default="")
        if len(longest) > MAX_LABEL:
            raise LabelrError(
                f"{self.path} has a label of {len(longest):,} characters, {longest[:40]!r}..., "
                f"and at most {MAX_LABEL:,} are read",
                "name the column of labels with `--label-column`, or the separator with `--tag-separator`",
            )

    def check_targets(self, images: int, labels: Collection[str]) -> None:
        """Raises LabelrError if the label file has too many labels, too long ones, or too many for its images."""
        self.check_labels(labels)
        number = images * len(labels)
        what = f"{self.path} has {len(labels):,} labels for {images:,} images, which are {number:,} targets"
        self._check(what, number, TARGETS_PER_CELL, f"{self.cells * TARGETS_PER_CELL:,}")

    def _check(self, found: str, number: int, per_cell: int, most: str) -> None:
        needed = -(-number // per_cell)
        if needed > self.cells:
            raise LabelrError(
                f"{found}, and at most {most} are read",
                f"raise the limit with `--max-cells {needed}`, which takes memory and time, if the file is right",
            )


DEFAULT_LIMITS = Limits()


def read_bytes(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The content of a regular file that is not too large; a LabelrError for any other file."""
    try:
        with files.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            limits.check_size(path, size)
            return file.read(min(limits.size, size + 2**20))  # Python reserves as much at once
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror or error}") from error
