"""Corrects a label file: names of images as they are, no copies of rows, and nothing in cells that cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from labelr import files
from labelr.config import ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.formats import long, wide
from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.table import Mark
from labelr.errors import LabelrError

CHANGES = "changes"
"""The column of a corrected table that says what was changed in each row."""


class Change(NamedTuple):
    """What was changed in a row, or why it was left out.

    Attributes:
        row: The number of the row in the label file; None for a file that is not a table.
        filename: The image, as the corrected table names it; empty where the row is left out.
        change: What was changed.
    """

    row: int | None
    filename: str
    change: str


class FixedTable(NamedTuple):
    """A corrected label file: its rows with the header first, and all changes, those of left out rows included."""

    rows: list[list[str]]
    changes: list[Change]

    def write(self, path: Path) -> None:
        """Writes the table as a CSV. Raises LabelrError if that is not possible."""
        header, *body = self.rows
        files.write_atomically(
            path, files.csv_text(header, ([files.escape_formula(cell) for cell in row] for row in body))
        )


def fix_labels(dataset: Dataset, options: ReadOptions) -> FixedTable:
    """The corrected label file of a data set: for a table the same columns, for another file one column a label.

    Rows are left out whose image does not exist or open, that have another number of cells than the header, or the same
    cells as an earlier row, and those of images whose rows differ. Cells that are neither yes nor no are emptied.
    """
    columns = None if dataset.source.is_dir() else _columns_of(dataset, options)
    return _fix_names(dataset) if columns is None else _fix_table(dataset, columns, options)


def _columns_of(dataset: Dataset, options: ReadOptions) -> Columns | None:
    source = Source(dataset.source, dataset.root, replace(options, skip_invalid=True))
    if source.table is None:
        return None
    try:
        return source.columns
    except LabelrError:  # a layout without a header
        return None


def _fix_names(dataset: Dataset) -> FixedTable:
    """The labels of a file that is not a table, with the names of the images as they are."""
    marks = np.where(np.isnan(dataset.targets), "", np.where(dataset.targets == 1, "1", "0")).tolist()
    names = {file: name for name, file in dataset.findings.matched.items()}
    texts = {file: _name_change(names.get(file, file), file) for file in dataset.files}
    changes = [Change(None, file, text) for file, text in texts.items() if text]
    rows = [[file, *cells, texts[file]] for file, cells in zip(dataset.files, marks, strict=True)]
    changes += [Change(None, "", f"{name} left out: the image does not exist") for name in dataset.findings.missing]
    return FixedTable([["filename", *dataset.labels, CHANGES], *rows], changes)


def _fix_table(dataset: Dataset, columns: Columns, options: ReadOptions) -> FixedTable:
    table = columns.table
    emptied = _invalid_cells(columns, options) if dataset.layout.startswith(wide.DESCRIPTION) else {}
    invalid = columns.find_invalid(unique=not dataset.layout.startswith(long.DESCRIPTION))
    rows, changes = [[*table.header, CHANGES]], [Change(None, "", f"left out: {reason}") for reason in table.invalid]
    for row, (name, cells) in enumerate(zip(columns.names, table.body, strict=True)):
        number = table.numbers[row + 1]
        file = dataset.findings.matched.get(name, "")
        reason = invalid.get(row) or _why_left_out(dataset, name, file)
        if reason:
            changes.append(Change(number, "", f"left out: {reason}"))
            continue
        empty = emptied.get(row, ())
        own = [text for text in (_name_change(name, file),) if text]
        own += [f'emptied: "{cells[column]}" in the column "{table.header[column]}"' for column in empty]
        fixed = ["" if column in empty else cell for column, cell in enumerate(cells)]
        _set_name(fixed, columns, file)
        rows.append([*fixed, "; ".join(own)])
        changes += [Change(number, file, text) for text in own]
    changes += [Change(number, "", "left out: it has the same cells as an earlier row") for number in columns.copies]
    return FixedTable(rows, sorted(changes, key=lambda change: change.row or 0))


def _invalid_cells(columns: Columns, options: ReadOptions) -> Mapping[int, Sequence[int]]:
    """The columns of the cells of each row that are neither yes nor no."""
    marks = wide.read_marks(columns, options)
    rows = np.flatnonzero((marks.codes == Mark.OTHER).any(axis=1)).tolist()
    return {row: [marks.columns[index] for index in np.flatnonzero(marks.codes[row] == Mark.OTHER)] for row in rows}


def _why_left_out(dataset: Dataset, name: str, file: str) -> str:
    if not file:
        return f"{name or 'its image'} does not exist"
    return f"{file} cannot be opened ({dataset.unreadable[file]})" if file in dataset.unreadable else ""


def _name_change(name: str, file: str) -> str:
    return "" if name == file else f'file name corrected: "{name}" is {file}'


def _set_name(cells: list[str], columns: Columns, file: str) -> None:
    """Writes the name of an image into its cells; with a column of folders, its folder there."""
    if columns.others:
        path = PurePosixPath(file)
        for number in columns.others:
            cells[number] = ""
        cells[columns.others[0]] = "" if path.parent == PurePosixPath() else str(path.parent)
        file = path.name
    cells[columns.file] = file
