"""Long tables: one row an image and label, with an optional confidence; also those of Open Images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from labelr.config import ReadOptions
from labelr.data.formats.records import Entry, Records, normal
from labelr.data.formats.sheet import (
    NUMBERS,
    PROBE_ROWS,
    TEXTS,
    Sheet,
    columns_called,
    find_file_column,
    find_part_column,
    read_parts,
    read_sheet,
)
from labelr.data.formats.source import Source, read_text
from labelr.data.formats.tags import holds_text
from labelr.data.formats.wide import BLANK, MARKS, NO, YES
from labelr.errors import LabelrError, some

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
    column = _label_column(sheet, file_column)
    if column is None or len(set(names)) == len(names):
        return 0
    return 2 if sheet.keys[column] in LABEL_COLUMNS else 1


def fits_open_images(source: Source) -> int:
    """Whether this is a table of image labels or boxes of Open Images: 3 it is, 0 not."""
    return 3 if source.sheet is not None and set(source.sheet.keys) >= OPEN_IMAGES_COLUMNS else 0


def read(source: Source) -> Records:
    """The records of a long table; a label that no row gives to an image does not apply to it."""
    sheet = source.table
    sheet.check_shape()
    file_column = find_file_column(sheet)
    column = _label_column(sheet, file_column)
    if column is None:
        raise LabelrError(f"{sheet.path} has no column of labels: {some(sheet.header)}", "call it `label`")
    part = find_part_column(sheet)
    parts = read_parts(sheet, part) or [""] * len(sheet.body)
    names = [normal(name) for name in sheet.column(file_column)]
    unnamed = next((row for row, name in enumerate(names) if not name), None)
    if unnamed is not None:
        raise LabelrError(f"{sheet.where(unnamed)}: no file name", "name the image, or delete the row")
    confidences, note = _confidences(sheet)
    _check_marks(sheet, {file_column, column}, source.options)
    said = _gather(names, sheet.column(column), confidences)
    part_of = dict(zip(names, parts, strict=True))
    used = {
        file_column,
        column,
        part,
        *(number for number, name in enumerate(sheet.keys) if name in CONFIDENCE_COLUMNS),
    }
    return Records.of(
        (Entry(name, present, part=part_of[name]) for name, (present, _) in said.items()),
        f'one row an image and label, in the column "{sheet.header[column]}"{sheet.separated}',
        notes=[*sheet.left_out(used), *note],
    )


def read_open_images(source: Source) -> Records:
    """The records of a table of Open Images: a label that no row gives to an image is unknown."""
    sheet = source.table
    sheet.check_shape()
    if not fits_open_images(source):
        raise LabelrError(f"{sheet.path} is no table of Open Images: {some(sheet.header)}", "name another `--layout`")
    columns = {name: sheet.keys.index(name) for name in OPEN_IMAGES_COLUMNS}
    shown, notes = _display_names(source)
    labels = [shown.get(label, label) for label in sheet.column(columns["labelname"])]
    confidences, note = _confidences(sheet)
    said = _gather(sheet.column(columns["imageid"]), labels, confidences)
    entries = (Entry(name, present, absent, complete=False) for name, (present, absent) in said.items() if name)
    return Records.of(entries, "labels of Open Images", notes=[*notes, *note])


def _label_column(sheet: Sheet, file_column: int) -> int | None:
    """The column of labels: the one that is called so, else the only one of text; None where there is no such."""
    named = [number for number, name in enumerate(sheet.keys) if name in LABEL_COLUMNS and number != file_column]
    if named:
        return named[0]
    others = set(range(len(sheet.header))) - {file_column} - columns_called(sheet, NUMBERS | TEXTS)
    text = [number for number in sorted(others) if holds_text(sheet.column(number, PROBE_ROWS))]
    return text[0] if len(text) == 1 else None


def _confidences(sheet: Sheet) -> tuple[list[float], list[str]]:
    """The confidence of each row, 1 where the table has none, and what is assumed of those between 0 and 1."""
    column = next((number for number, name in enumerate(sheet.keys) if name in CONFIDENCE_COLUMNS), None)
    if column is None:
        return [1.0] * len(sheet.body), []
    values = []
    for row, cell in enumerate(sheet.column(column)):
        try:
            code = MARKS.get(cell.lower())
            values.append(float(code == YES) if code in (YES, NO) else float(cell.replace(",", ".") or 1))
        except ValueError:
            values.append(math.nan)
        if not 0 <= values[-1] <= 1:
            where = f'{sheet.where(row)}, column "{sheet.header[column]}"'
            raise LabelrError(f'{where}: expected a number from 0 to 1, got "{cell}"', "correct the cell")
    between = sum(0 < value < 1 for value in values)
    note = f"rows with a confidence between 0 and 1, which from {PRESENT} on count as yes, below as no: {between:,}"
    return values, [note] if between else []


def _check_marks(sheet: Sheet, used: set[int], options: ReadOptions) -> None:
    """Raises LabelrError where a further column of yes and no may deny the labels of its rows."""
    known = used | columns_called(sheet, NUMBERS | TEXTS | FLAGS | CONFIDENCE_COLUMNS)
    for number in sorted(set(range(len(sheet.header))) - known):
        cells = {MARKS.get(cell.lower()) for cell in sheet.column(number)}
        name = sheet.header[number]
        if cells <= {YES, NO, BLANK} and NO in cells and name not in options.exclude:
            raise LabelrError(
                f'{sheet.path}: the column "{name}" of yes and no may say whether the label of a row applies',
                f"call it `confidence` if it does, else leave it out with `--exclude {name}`",
            )


def _gather(
    names: Iterable[str], labels: Iterable[str], confidences: Iterable[float]
) -> Mapping[str, tuple[set[str], set[str]]]:
    """For each image the labels that at least one row affirms, and those that rows only deny."""
    said: dict[str, tuple[set[str], set[str]]] = {}
    for name, label, confidence in zip(names, labels, confidences, strict=True):
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
