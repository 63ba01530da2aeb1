"""Several columns of classes: a row for each image, and a label for each word of a column, such as ``season=Fall``."""

import numpy as np

from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.table import Mark
from labelr.data.label_table import LabelTable, Targets
from labelr.errors import LabelrError


def fits(source: Source) -> int:
    """Confidence that the user names several columns, of which some hold words: 0 or 3."""
    if source.table is None or len(source.options.label_column) < 2:
        return 0
    columns = source.columns
    return 0 if all(columns.table.holds_marks(number) for number in columns.chosen) else 3


def read(source: Source) -> LabelTable:
    """The label table of columns of classes; a column of marks is a label itself.

    An image has one class of a column. Where the cell is empty, the labels of that column are unknown.

    Raises:
        LabelrError: If no columns are named, or rows of an image differ, unless such images are skipped.
    """
    columns, options = source.columns, source.options
    table = columns.table
    if not columns.chosen:
        raise LabelrError(f"{table.path}: the columns of classes are not named", "use `--label-column` for each")
    invalid = columns.find_invalid()
    kept = [row for row in range(len(columns.names)) if row not in invalid]
    labels: list[str] = []
    blocks: list[Targets] = []
    for number in columns.chosen:
        own, targets = _read_column(columns, number, blank=0.0 if options.blank == "no" else np.nan)
        labels += own
        blocks.append(targets)
    names = [table.header[number] for number in columns.chosen]
    return LabelTable.of_rows(
        f"classes in the columns {', '.join(names)}{table.described}",
        [columns.names[row] for row in kept],
        labels,
        np.concatenate(blocks, axis=1)[kept],
        groups=columns.groups,
        splits=[columns.splits[row] for row in kept],
        notes=columns.notes(columns.chosen),
        invalid=[*table.invalid, *invalid.values()],
        aside=[*table.aside, *(columns.names[row] for row in invalid if columns.names[row])],
    )


def _read_column(columns: Columns, number: int, *, blank: float) -> tuple[list[str], Targets]:
    """The labels of a column, and its targets, shape ``(N, labels)``; empty cells are `blank`."""
    name, cells = columns.table.header[number], columns.table.column(number)
    if columns.table.holds_marks(number):
        values = {Mark.YES: 1.0, Mark.NO: 0.0, Mark.BLANK: blank}
        marks = [columns.table.marks.get(cell.lower(), Mark.OTHER) for cell in cells]
        return [name], np.array([[values.get(mark, np.nan)] for mark in marks], dtype=np.float32)
    unknown = {cell for cell in cells if columns.table.marks.get(cell.lower()) in (Mark.BLANK, Mark.UNKNOWN)}
    classes = sorted(set(cells) - unknown)
    targets = np.zeros((len(cells), len(classes)), dtype=np.float32)
    for row, cell in enumerate(cells):
        if cell in unknown:
            targets[row] = blank
        else:
            targets[row, classes.index(cell)] = 1
    return [f"{name}={value}" for value in classes], targets
