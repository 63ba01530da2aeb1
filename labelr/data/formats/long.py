"""The long table: one row for each image and label, with an optional confidence; also the tables of Open Images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from labelr.config import ReadOptions
from labelr.data.formats.columns import LABEL_COLUMNS, Columns, quote
from labelr.data.formats.source import Source, read_text
from labelr.data.formats.table import MARKS, Mark, Table, read_table
from labelr.data.formats.tags import holds_lists
from labelr.data.label_table import Annotation, LabelTable
from labelr.errors import LabelrError, preview

DESCRIPTION = "one row an image and label"
CONFIDENCE_COLUMNS = frozenset({"confidence", "prob", "probability", "score"})
OPEN_IMAGES_COLUMNS = {"imageid", "source", "labelname", "confidence"}
FLAGS = frozenset({
    "difficult", "isdepiction", "iscrowd", "isgroupof", "isinside", "isoccluded", "istruncated", "occluded", "split",
    "truncated", "verified",
})  # fmt: skip
"""Columns of 0 and 1 that describe a box, not its label."""
PRESENT = 0.5
"""A label applies if a row gives it at least this confidence."""


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
    columns, options = source.columns, source.options
    table = columns.table
    column = _label_column(columns)
    if column is None:
        raise LabelrError(
            f"{table.path} has no column of labels: {preview(table.header)}",
            "name the column with `--label-column NAME`",
        )
    invalid = columns.find_invalid(unique=False)
    confidences = _read_confidences(table, options)
    confidences = confidences._replace(invalid={**confidences.invalid, **invalid})
    _check_marks(columns, column)
    split_of = dict(zip(columns.names, columns.splits, strict=True))
    empty_is_known = options.blank != "unknown"
    annotations = (
        Annotation(name, present, split=split_of[name], complete=empty_is_known or bool(present or absent))
        for name, (present, absent) in _merge_rows(columns.names, table.column(column), confidences).items()
    )
    used = {column, *(number for number, key in enumerate(table.keys) if key in CONFIDENCE_COLUMNS)}
    layout = f'{DESCRIPTION}, in the column "{table.header[column]}"{table.described}'
    return _to_label_table(columns, annotations, confidences, layout, columns.notes(used))


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
    codes = table.column(table.keys.index("labelname"))
    confidences = _read_confidences(table, source.options)
    merged = _merge_rows(columns.names, [display_names.get(code, code) for code in codes], confidences)
    annotations = (
        Annotation(name, present, absent, complete=False) for name, (present, absent) in merged.items() if name
    )
    return _to_label_table(columns, annotations, confidences, "labels of Open Images", notes)


def _label_column(columns: Columns) -> int | None:
    """The column of labels: that which the user names, or the first with a usual name, or the only one of text."""
    candidates = columns.named_or_text()
    is_named = bool(candidates) and columns.table.keys[candidates[0]] in LABEL_COLUMNS
    return candidates[0] if is_named or len(candidates) == 1 else None


class _Confidences(NamedTuple):
    """The confidence of each row.

    Attributes:
        values: In ``[0, 1]``, 1 if the table has no confidences, NaN in an invalid row.
        notes: How values between 0 and 1 are interpreted.
        invalid: The invalid rows, each with its reason.
    """

    values: list[float]
    notes: list[str]
    invalid: dict[int, str]


def _read_confidences(table: Table, options: ReadOptions) -> _Confidences:
    """The confidence of each row; raises LabelrError if one is invalid, unless such rows are skipped."""
    column = next((number for number, key in enumerate(table.keys) if key in CONFIDENCE_COLUMNS), None)
    if column is None:
        return _Confidences([1.0] * len(table.body), [], {})
    cells = table.column(column)
    values = [_parse_confidence(cell) for cell in cells]
    invalid = {
        row: f'{table.location(row, column)}: expected a number from 0 to 1, got "{cells[row]}"'
        for row, value in enumerate(values)
        if math.isnan(value)
    }
    if invalid and (not options.skip_invalid or len(invalid) == len(values)):
        hint = "correct the cell, or skip the images of such rows with `--skip-invalid`"
        raise LabelrError(next(iter(invalid.values())), hint)
    between = sum(0 < value < 1 for value in values)
    note = f"rows with a confidence between 0 and 1, which count as yes from {PRESENT}, else as no: {between:,}"
    return _Confidences(values, [note] if between else [], invalid)


def _parse_confidence(cell: str) -> float:
    """The value of a cell in ``[0, 1]``; NaN for anything else."""
    code = MARKS.get(cell.lower())
    try:
        value = float(code == Mark.YES) if code in (Mark.YES, Mark.NO) else float(cell.replace(",", ".") or 1)
    except ValueError:
        return math.nan
    return value if 0 <= value <= 1 else math.nan


def _to_label_table(
    columns: Columns, annotations: Iterable[Annotation], confidences: _Confidences, layout: str, notes: Sequence[str]
) -> LabelTable:
    """The label table of annotations, one for each image, without images that have an invalid row."""
    skipped = {columns.names[row] for row in confidences.invalid}
    return LabelTable.of(
        (annotation for annotation in annotations if annotation.name not in skipped),
        layout,
        groups=columns.groups,
        notes=[*notes, *confidences.notes],
        invalid=[*columns.table.invalid, *confidences.invalid.values()],
        aside=[*columns.table.aside, *sorted(skipped - {""})],
    )


def _check_marks(columns: Columns, label_column: int) -> None:
    """Raises LabelrError where a further column of yes and no may negate the labels of its rows."""
    table = columns.table
    known = {label_column, *columns.metadata(), *table.columns_called(FLAGS | CONFIDENCE_COLUMNS)}
    for number in columns.unassigned():
        if number in known:
            continue
        cells = {MARKS.get(cell.lower()) for cell in table.column(number)}
        name = table.header[number]
        if cells <= {Mark.YES, Mark.NO, Mark.BLANK} and Mark.NO in cells and name not in columns.exclude:
            raise LabelrError(
                f'{table.path}: the column "{name}" of yes and no may mean whether the label of a row applies',
                f"rename it to `confidence` if it does, else exclude it with `--exclude {quote(name)}`",
            )


def _merge_rows(
    names: Iterable[str], labels: Iterable[str], confidences: _Confidences
) -> Mapping[str, tuple[set[str], set[str]]]:
    """For each image the labels that any row affirms, and those that its rows only negate."""
    merged: dict[str, tuple[set[str], set[str]]] = {}
    for name, label, confidence in zip(names, labels, confidences.values, strict=True):
        present, absent = merged.setdefault(name, (set(), set()))
        if label:
            (present if confidence >= PRESENT else absent).add(label)
    for present, absent in merged.values():
        absent.difference_update(present)
    return merged


def _read_display_names(source: Source) -> tuple[dict[str, str], list[str]]:
    """The display names of label codes from a file of class descriptions beside the table, and a note."""
    found = sorted(path for path in source.path.parent.glob("*class-descriptions*.csv") if path.is_file())
    if not found:
        return {}, ["labels are codes: for names, put class-descriptions.csv of Open Images beside the table"]
    rows = read_table(found[0], read_text(found[0]).content).rows
    names = {row[0]: row[1] for row in rows if len(row) == 2 and row[0].lower() != "labelname"}
    return names, [f"names of labels are from {found[0].name}"]
