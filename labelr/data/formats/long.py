"""The long table: one row for each image and label, with an optional confidence; also the tables of Open Images."""

import shlex

from labelr.data.formats.columns import Columns
from labelr.data.formats.confidences import (
    CONFIDENCE_COLUMNS,
    Confidences,
    merge_rows,
    read_confidences,
    to_label_table,
)
from labelr.data.formats.source import Source, read_text
from labelr.data.formats.table import read_table
from labelr.data.formats.tags import holds_lists
from labelr.data.formats.words import LABEL_COLUMNS, MARKS, PRESENCE, SPECIES_COLUMNS, Mark
from labelr.data.label_table import LabelTable
from labelr.errors import LabelrError, preview

DESCRIPTION = "one row an image and label"
OPEN_IMAGES_COLUMNS = {"imageid", "source", "labelname", "confidence"}
FLAGS = frozenset({
    "difficult", "isdepiction", "iscrowd", "isgroupof", "isinside", "isoccluded", "istruncated", "occluded", "split",
    "truncated", "verified",
})  # fmt: skip
"""Columns of 0 and 1 that describe a box, not its label."""


def fits(source: Source) -> int:
    """Confidence that this is a table of images and labels in which images repeat: 0, 1, or 2 by the label column."""
    if source.table is None or len(source.table.rows) < 3:
        return 0
    columns = source.columns
    column = _label_column(columns)
    if column is None or not columns.has_repeats or (columns.chosen and columns.table.holds_marks(column)):
        return 0
    if holds_lists(columns.table.column(column)):  # a table of tags, in which rows of an image contradict each other
        return 0
    return 2 if columns.chosen or columns.table.keys[column] in LABEL_COLUMNS else 1


def fits_open_images(source: Source) -> int:
    """Confidence that this is a table of image labels or boxes of Open Images: 0 or 3."""
    return 3 if source.table is not None and set(source.table.keys) >= OPEN_IMAGES_COLUMNS else 0


def read(source: Source) -> LabelTable:
    """The label table of a long table; a label that no row gives to an image does not apply to it.

    Raises:
        LabelrError: If a row is invalid, unless the images of such rows are skipped.
    """
    columns, column = source.columns, _label_column(source.columns)
    table = columns.table
    if column is None:
        raise LabelrError(
            f"{table.path} has no column of labels: {preview(table.header)}",
            "name the column with `--label-column NAME`",
        )
    invalid = columns.find_invalid(unique=False)
    confidences = read_confidences(columns, column)
    invalid = {**confidences.invalid, **_find_contradictions(columns, column, confidences), **invalid}
    confidences = confidences._replace(invalid=invalid)
    if not columns.has_words_called(SPECIES_COLUMNS):  # columns of yes and no beside it describe the sighting
        _check_marks(columns, column)
    labels = ([label] * bool(label) for label in table.column(column))
    annotations = merge_rows(columns, labels, confidences, empty_is_known=source.options.blank != "unknown")
    layout = f'{DESCRIPTION}, in the column "{table.header[column]}"{table.described}'
    notes = [*columns.notes([column, *confidences.columns]), *confidences.notes]
    return to_label_table(columns, annotations, confidences, layout, notes, source.limits)


def _find_contradictions(columns: Columns, label_column: int, confidences: Confidences) -> dict[int, str]:
    """The rows that deny a label which another row of the image affirms, or the reverse; LabelrError if not skipped.

    Only a column of 0 and 1 alone says so: of confidences between them the highest counts.
    """
    table = columns.table
    if columns.annotator is not None or not {table.keys[number] for number in confidences.columns} & PRESENCE:
        return {}
    rows: dict[tuple[str, str], dict[float, int]] = {}
    for row, key in enumerate(zip(columns.names, table.column(label_column), strict=True)):
        rows.setdefault(key, {})[confidences.values[row]] = row
    found = {
        row: f"{table.location(row)}: rows of {name} contradict each other on {label}"
        for (name, label), own in rows.items()
        if len(own) > 1
        for row in own.values()
    }
    if found and not columns.options.skip_invalid:
        raise LabelrError(
            next(iter(found.values())), "correct the rows, or leave such images out with `--skip-invalid`"
        )
    return found


def read_open_images(source: Source) -> LabelTable:
    """The label table of a table of Open Images; a label that no row gives to an image is unknown."""
    table = source.require_table()
    if not fits_open_images(source):
        raise LabelrError(
            f"{table.path} is not a table of Open Images: {preview(table.header)}", "name another `--layout`"
        )
    columns = Columns.find(table, source.options, file=table.keys.index("imageid"))
    table = columns.table
    display_names, notes = _read_display_names(source)
    label_column = table.keys.index("labelname")
    confidences = read_confidences(columns, label_column)
    labels = ([display_names.get(code, code)] * bool(code) for code in table.column(label_column))
    merged = merge_rows(columns, labels, confidences, empty_is_known=False)
    annotations = [annotation._replace(split="", complete=False) for annotation in merged]
    notes += confidences.notes
    return to_label_table(columns, annotations, confidences, "labels of Open Images", notes, source.limits)


def _label_column(columns: Columns) -> int | None:
    """The column of labels: that which the user names, or the first with a usual name, or the only one of text."""
    candidates = columns.label_columns
    is_named = bool(candidates) and columns.table.keys[candidates[0]] in LABEL_COLUMNS
    return candidates[0] if is_named or len(candidates) == 1 else None


def _check_marks(columns: Columns, label_column: int) -> None:
    """Raises LabelrError where a further column of yes and no may negate the labels of its rows."""
    table = columns.table
    known = {label_column, *columns.metadata(), *table.columns_called(FLAGS | CONFIDENCE_COLUMNS)}
    for number in columns.free:
        cells = {MARKS.get(cell.lower()) for cell in table.column(number)}
        name = table.header[number]
        if number not in known and cells <= {Mark.YES, Mark.NO, Mark.BLANK} and Mark.NO in cells:
            raise LabelrError(
                f'{table.path}: the column "{name}" of yes and no may mean whether the label of a row applies',
                f"rename it to `confidence` if it does, else exclude it with `--exclude {shlex.quote(name)}`",
            )


def _read_display_names(source: Source) -> tuple[dict[str, str], list[str]]:
    """The display names of label codes from a file of class descriptions beside the table, and a note."""
    found = sorted(path for path in source.path.parent.glob("*class-descriptions*.csv") if path.is_file())
    if not found:
        return {}, ["labels are codes: for names, put class-descriptions.csv of Open Images beside the table"]
    rows = read_table(found[0], read_text(found[0], limits=source.limits).content, source.limits).rows
    names = {row[0]: row[1] for row in rows if len(row) == 2 and row[0].lower() != "labelname"}
    return names, [f"names of labels are from {found[0].name}"]
