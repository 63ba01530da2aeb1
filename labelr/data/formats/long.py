"""Long tables: one row an image and label, with an optional confidence; also those of Open Images."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from labelr.config import ReadOptions
from labelr.data.formats.sheet import (
    NUMBERS,
    PROBE_ROWS,
    TEXTS,
    Sheet,
    columns_called,
    find_file_column,
    find_group_column,
    find_part_column,
    read_parts,
    read_sheet,
)
from labelr.data.formats.source import Source, read_text
from labelr.data.formats.tags import holds_text
from labelr.data.formats.wide import BLANK, MARKS, NO, YES
from labelr.data.label_table import Annotation, LabelTable, normalize_name
from labelr.errors import LabelrError, preview

LABEL_COLUMNS = frozenset({"category", "categoryname", "class", "classname", "label", "labelname", "tag", "tagname"})
CONFIDENCE_COLUMNS = frozenset({"confidence", "prob", "probability", "score"})
OPEN_IMAGES_COLUMNS = {"imageid", "source", "labelname", "confidence"}
FLAGS = frozenset({
    "difficult", "isdepiction", "iscrowd", "isgroupof", "isinside", "isoccluded", "istruncated", "occluded", "split",
    "truncated", "verified",
})  # fmt: skip
"""Columns of 0 and 1 that speak of a box, not of its label."""
PRESENT = 0.5
"""A row of at least this confidence says that the label applies, any other that it does not."""


def fits(source: Source) -> int:
    """Whether this is a table of images and labels in which images come again: 0 no, 1 it may be, 2 it is."""
    sheet = source.sheet
    if sheet is None or len(sheet.rows) < 3:
        return 0
    try:
        file_column = find_file_column(sheet)
    except LabelrError:
        return 0
    names = sheet.column(file_column, 10 * PROBE_ROWS)
    column = _label_column(sheet, file_column, source.options)
    if column is None or len(set(names)) == len(names):
        return 0
    return 2 if sheet.keys[column] in LABEL_COLUMNS else 1


def fits_open_images(source: Source) -> int:
    """Whether this is a table of image labels or boxes of Open Images: 3 it is, 0 not."""
    return 3 if source.sheet is not None and set(source.sheet.keys) >= OPEN_IMAGES_COLUMNS else 0


def read(source: Source) -> LabelTable:
    """The records of a long table; a label that no row gives to an image does not apply to it.

    Raises:
        LabelrError: If a row cannot be understood, unless the images of such rows are to be left out.
    """
    sheet, options = source.table, source.options
    sheet.check_shape()
    file_column = find_file_column(sheet)
    column = _label_column(sheet, file_column, options)
    if column is None:
        raise LabelrError(f"{sheet.path} has no column of labels: {preview(sheet.header)}", "call it `label`")
    part, group = find_part_column(sheet), find_group_column(sheet, options.group)
    parts = read_parts(sheet, part) or [""] * len(sheet.body)
    names = [normalize_name(name) for name in sheet.column(file_column)]
    unnamed = next((row for row, name in enumerate(names) if not name), None)
    if unnamed is not None:
        raise LabelrError(f"{sheet.where(unnamed)}: no file name", "name the image, or delete the row")
    confidences = _confidences(sheet, options)
    used = {file_column, column, part, group}
    _check_marks(sheet, used, options)
    part_of = dict(zip(names, parts, strict=True))
    known = options.blank != "unknown"  # what is to be said of an image whose rows have no label
    entries = (
        Annotation(name, present, split=part_of[name], complete=known or bool(present or absent))
        for name, (present, absent) in _gather(names, sheet.column(column), confidences).items()
    )
    used |= {number for number, name in enumerate(sheet.keys) if name in CONFIDENCE_COLUMNS}
    layout = f'one row an image and label, in the column "{sheet.header[column]}"{sheet.separated}'
    return _records(source, names, entries, layout, [*sheet.left_out(used), *confidences.notes], confidences)


def read_open_images(source: Source) -> LabelTable:
    """The records of a table of Open Images: a label that no row gives to an image is unknown."""
    sheet = source.table
    sheet.check_shape()
    if not fits_open_images(source):
        raise LabelrError(
            f"{sheet.path} is no table of Open Images: {preview(sheet.header)}", "name another `--layout`"
        )
    columns = {name: sheet.keys.index(name) for name in OPEN_IMAGES_COLUMNS}
    shown, notes = _display_names(source)
    labels = [shown.get(label, label) for label in sheet.column(columns["labelname"])]
    names = sheet.column(columns["imageid"])
    confidences = _confidences(sheet, source.options)
    said = _gather(names, labels, confidences)
    entries = (Annotation(name, present, absent, complete=False) for name, (present, absent) in said.items() if name)
    return _records(source, names, entries, "labels of Open Images", [*notes, *confidences.notes], confidences)


def _label_column(sheet: Sheet, file_column: int, options: ReadOptions) -> int | None:
    """The column of labels: the one that is called so, else the only one of text; None where there is no such."""
    special = {file_column, find_part_column(sheet), find_group_column(sheet, options.group)}
    columns = [
        number for number, name in enumerate(sheet.header) if number not in special and name not in options.exclude
    ]
    named = [number for number in columns if sheet.keys[number] in LABEL_COLUMNS]
    if named:
        return named[0]
    metadata = columns_called(sheet, NUMBERS | TEXTS)
    text = [number for number in columns if number not in metadata and holds_text(sheet.column(number, PROBE_ROWS))]
    return text[0] if len(text) == 1 else None


class _Confidences(NamedTuple):
    """How sure each row is of its label.

    Attributes:
        values: From 0 to 1, and 1 where the table says nothing; NaN in a row that cannot be understood.
        notes: What is assumed of those between 0 and 1.
        invalid: The rows that cannot be understood, each with its reason.
    """

    values: list[float]
    notes: list[str]
    invalid: dict[int, str]


def _confidences(sheet: Sheet, options: ReadOptions) -> _Confidences:
    """The confidence of each row.

    Raises:
        LabelrError: If a row cannot be understood, unless such rows are to be left out.
    """
    column = next((number for number, name in enumerate(sheet.keys) if name in CONFIDENCE_COLUMNS), None)
    if column is None:
        return _Confidences([1.0] * len(sheet.body), [], {})
    cells = sheet.column(column)
    values = [_confidence(cell) for cell in cells]
    invalid = {
        row: f'{sheet.where(row)}, column "{sheet.header[column]}": expected a number from 0 to 1, got "{cells[row]}"'
        for row, value in enumerate(values)
        if math.isnan(value)
    }
    if invalid and (not options.skip_invalid or len(invalid) == len(values)):
        hint = "correct the cell, or leave the images of such rows out with `--skip-invalid`"
        raise LabelrError(next(iter(invalid.values())), hint)
    between = sum(0 < value < 1 for value in values)
    note = f"rows with a confidence between 0 and 1, which from {PRESENT} on count as yes, below as no: {between:,}"
    return _Confidences(values, [note] if between else [], invalid)


def _confidence(cell: str) -> float:
    """What a cell says, from 0 to 1; NaN where that is anything else."""
    code = MARKS.get(cell.lower())
    try:
        value = float(code == YES) if code in (YES, NO) else float(cell.replace(",", ".") or 1)
    except ValueError:
        return math.nan
    return value if 0 <= value <= 1 else math.nan


def _records(
    source: Source,
    names: Sequence[str],
    entries: Iterable[Annotation],
    layout: str,
    notes: Sequence[str],
    confidences: _Confidences,
) -> LabelTable:
    """The records of entries but of images with an invalid row, with the groups that the user asks for.

    Args:
        source: The table.
        names: The image of each row.
        entries: One for each image.
        layout: As `LabelTable` has it.
        notes: Likewise.
        confidences: Of the rows.
    """
    aside = {names[row] for row in confidences.invalid}
    records = LabelTable.of(
        (entry for entry in entries if entry.name not in aside),
        layout,
        notes=notes,
        invalid=list(confidences.invalid.values()),
        aside=sorted(aside),
    )
    group = find_group_column(source.table, source.options.group)
    if group is None:
        return records
    group_of = dict(zip(names, source.table.column(group), strict=True))
    return replace(records, groups=tuple(group_of[name] for name in records.names))


def _check_marks(sheet: Sheet, used: Collection[int | None], options: ReadOptions) -> None:
    """Raises LabelrError where a further column of yes and no may deny the labels of its rows."""
    known = {*used} | columns_called(sheet, NUMBERS | TEXTS | FLAGS | CONFIDENCE_COLUMNS)
    for number in sorted(set(range(len(sheet.header))) - known):
        cells = {MARKS.get(cell.lower()) for cell in sheet.column(number)}
        name = sheet.header[number]
        if cells <= {YES, NO, BLANK} and NO in cells and name not in options.exclude:
            raise LabelrError(
                f'{sheet.path}: the column "{name}" of yes and no may say whether the label of a row applies',
                f"call it `confidence` if it does, else leave it out with `--exclude {name}`",
            )


def _gather(
    names: Iterable[str], labels: Iterable[str], confidences: _Confidences
) -> Mapping[str, tuple[set[str], set[str]]]:
    """For each image the labels that at least one row affirms, and those that rows only deny."""
    said: dict[str, tuple[set[str], set[str]]] = {}
    for name, label, confidence in zip(names, labels, confidences.values, strict=True):
        present, absent = said.setdefault(name, (set(), set()))
        if label:
            (present if confidence >= PRESENT else absent).add(label)
    for present, absent in said.values():
        absent.difference_update(present)
    return said


def _display_names(source: Source) -> tuple[dict[str, str], list[str]]:
    """The names of the labels, from a file of class descriptions beside the table, if there is one."""
    folder = source.path.parent
    found = sorted(path for path in folder.glob("*class-descriptions*.csv") if path.is_file())
    if not found:
        return {}, ["labels go by their codes: put class-descriptions.csv of Open Images beside the table for names"]
    rows: Sequence[Sequence[str]] = read_sheet(found[0], read_text(found[0]).content).rows
    names = {row[0]: row[1] for row in rows if len(row) == 2 and row[0].lower() != "labelname"}
    return names, [f"labels are named by {Path(found[0]).name}"]
