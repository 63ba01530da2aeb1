"""Corrects a label file: names of images as they are, no copies of rows, and nothing in cells that cannot be read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from labelr import files, serialization
from labelr.config import ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.formats import camtrap, listed, wide
from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.table import CHANGES
from labelr.data.formats.words import Mark
from labelr.errors import LabelrError

MEANINGS = {1.0: "1", 0.0: "0"}
"""How the corrected table writes what is known; ``?`` for unknown."""


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
        files.write_atomically(path, serialization.rows_text(self.rows))


def fix_labels(dataset: Dataset, options: ReadOptions) -> FixedTable:
    """The corrected label file of a data set: for a table the same columns, for another file one column a label.

    Rows are left out whose image does not exist or open, that have another number of cells than the header, or the same
    cells as an earlier row, and those of images whose rows differ. Cells that are neither yes nor no are emptied.
    """
    is_table = not dataset.source.is_dir() and not dataset.layout.startswith(camtrap.DESCRIPTION)
    columns = _columns_of(dataset, options) if is_table else None
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
    """The labels of a file that is not a table, or of several, with the names of the images as they are."""
    extra = {
        name: column
        for name, column in (("group", dataset.groups), ("split", dataset.named_splits))
        if column and name not in dataset.labels
    }
    marks = np.where(np.isnan(dataset.targets), "", np.where(dataset.targets == 1, "1", "0")).tolist()
    names = {file: name for name, file in dataset.findings.matched.items()}
    texts = {file: _name_change(names.get(file, file), file) for file in dataset.files}
    changes = [Change(None, file, text) for file, text in texts.items() if text]
    rows = [
        [file, *own, *cells, texts[file]]
        for file, cells, *own in zip(dataset.files, marks, *extra.values(), strict=True)
    ]
    changes += [Change(None, "", f"{name} left out: the image does not exist") for name in dataset.findings.missing]
    return FixedTable([["filename", *extra, *dataset.labels, CHANGES], *rows], changes)


def _fix_table(dataset: Dataset, columns: Columns, options: ReadOptions) -> FixedTable:
    table, matched = columns.table, dataset.findings.matched
    invalid = columns.find_invalid(unique=not dataset.layout.startswith(listed.LONG))
    left_out = {
        row: reason
        for row, name in enumerate(columns.names)
        if (reason := invalid.get(row) or _why_left_out(dataset, name, matched.get(name, "")))
    }
    kept = [row for row in range(len(columns.names)) if row not in left_out]
    corrected = _correct_marks(dataset, columns, kept, options)
    rows = [[*table.header, CHANGES]]
    changes = [Change(number, "", f"left out: {reason}") for number, reason in table.invalid.items()]
    changes += [Change(table.numbers[row + 1], "", f"left out: {reason}") for row, reason in left_out.items()]
    changes += [Change(number, "", "left out: it has the same cells as an earlier row") for number in columns.copies]
    for row in kept:
        name, fixed = columns.names[row], list(table.body[row])
        file, texts = matched[name], corrected.get(row, {})
        own = [text for text in (_name_change(name, file),) if text]
        own += [_cell_change(fixed[column], text, table.header[column]) for column, text in texts.items()]
        for column, text in texts.items():
            fixed[column] = text
        _set_name(fixed, columns, file)
        rows.append([*fixed, "; ".join(own)])
        changes += [Change(table.numbers[row + 1], file, text) for text in own]
    return FixedTable(rows, sorted(changes, key=lambda change: change.row or 0))


def _correct_marks(
    dataset: Dataset, columns: Columns, kept: Sequence[int], options: ReadOptions
) -> Mapping[int, Mapping[int, str]]:
    """The corrected cells of marks by row and column: those that are neither yes nor no are emptied.

    An empty cell and -1 mean what they mean by the rest of the table: cells that would mean another thing without the
    rows that are left out are written as 1, 0 or ?.
    """
    if dataset.layout.startswith(wide.DESCRIPTION):
        marks = wide.read_marks(columns)
    elif dataset.layout.startswith(wide.CLASSES):
        marks = wide.mark_columns(columns)
    else:
        return {}
    is_invalid = marks.codes[kept] == Mark.OTHER
    codes = np.where(is_invalid, Mark.BLANK, marks.codes[kept])
    before, _ = wide.to_targets(columns.table, marks, options)
    try:
        after, _ = wide.to_targets(columns.table, wide.Marks(marks.columns, codes), options)
    except LabelrError:  # what -1 means is no longer clear
        after = np.where((codes == Mark.MINUS) | (codes == Mark.BLANK), np.inf, before[kept])
    differs = ~((before[kept] == after) | (np.isnan(before[kept]) & np.isnan(after)))
    corrected: dict[int, dict[int, str]] = defaultdict(dict)
    for index, label in np.argwhere(is_invalid | differs).tolist():
        text = MEANINGS.get(float(before[kept[index], label]), "?") if differs[index, label] else ""
        corrected[kept[index]][marks.columns[label]] = text
    return corrected


def _cell_change(cell: str, text: str, column: str) -> str:
    return f'{f"written as {text}" if text else "emptied"}: "{cell}" in the column "{column}"'


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
