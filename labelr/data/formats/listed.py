"""Tables that list labels by name: all of an image in one cell, or one row for each, with an optional confidence."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self

from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source, read_text
from labelr.data.formats.table import Table, read_table
from labelr.data.formats.tags import PRESENT, holds_lists, parse_confidence, split_tags
from labelr.data.formats.words import (
    COUNTS,
    LABEL_COLUMNS,
    LABEL_IDS,
    MARKS,
    NOTHING,
    PRESENCE,
    SPECIES_COLUMNS,
    SPLIT_MARKS,
    STATUS,
    STATUS_WORDS,
    Mark,
)
from labelr.data.label_table import Annotation, LabelTable, note_empty_images
from labelr.data.limits import Limits
from labelr.errors import LabelrError, preview

LONG = "one row an image and label"
OPEN_IMAGES_COLUMNS = {"imageid", "source", "labelname", "confidence"}
FLAGS = frozenset({
    "difficult", "isdepiction", "iscrowd", "isgroupof", "isinside", "isoccluded", "istruncated", "occluded",
    "truncated", "verified",
})  # fmt: skip
"""Columns of 0 and 1 that describe a box, not its label."""
CONFIDENCE_COLUMNS = PRESENCE | {"confidence", "predictionscore", "prob", "probability", "score"}
ZERO = re.compile(r"\+?0+([.,]0*)?")


class Confidences(NamedTuple):
    """The confidence of each row.

    Attributes:
        columns: The column that holds them, and that of counts with a 0, if there are any.
        values: In ``[0, 1]``, 1 if the table has no confidences, NaN in an invalid row.
        notes: How values between 0 and 1 are interpreted.
        invalid: The invalid rows, each with its reason.
    """

    columns: list[int]
    values: list[float]
    notes: list[str]
    invalid: dict[int, str]

    @classmethod
    def none(cls, rows: int) -> Self:
        """Those of a table without confidences."""
        return cls([], [1.0] * rows, [], {})


# --- all labels of an image in one cell ------------------------------------------------------------------------------


def fits_tags(source: Source) -> int:
    """Confidence that this is a table with a column of tags: 0, 1, or 2 where that column has a usual name."""
    if source.table is None or len(source.table.rows) < 2:
        return 0
    columns = source.columns
    if len(columns.chosen) > 1 or any(columns.table.holds_marks(number) for number in columns.chosen):
        return 0
    column = _tag_column(columns)
    if columns.has_repeats and not holds_lists(columns.table.column(column)):  # one row for each image and label
        return 0
    return 2 if columns.chosen or columns.table.keys[column] in (*LABEL_COLUMNS, *LABEL_IDS) else 1


def read_tags(source: Source) -> LabelTable:
    """The label table of a table of tags; rows of several annotators are joined by vote.

    Raises:
        LabelrError: If it is ambiguous how the cells are split, or rows of an image differ, unless they are skipped.
    """
    columns, options = source.columns, source.options
    table = columns.table
    column = _tag_column(columns)
    nameless = [number for number in columns.unassigned() if not table.header[number] and table.holds_text(number)]
    if nameless:
        raise LabelrError(
            f"{table.path}, row 1, column {nameless[0] + 1}: a column of words without a name",
            "name the column, or put cells that contain the separator in quotes",
        )
    invalid = columns.find_invalid()
    where = f'{table.path}, column "{table.header[column]}"'
    cells, separator = table.column(column), options.tag_separator
    if table.keys[column] in SPECIES_COLUMNS and not any(set(cell) & set("|;,\n") for cell in cells):
        separator = separator or "|"
    tags_of_rows, how = split_tags(cells, separator, where)
    has_lists = any(len(tags) > 1 for tags in tags_of_rows)  # then a number is no confidence of each of them
    confidences = Confidences.none(len(cells)) if has_lists else _read_confidences(columns, column)
    confidences = confidences._replace(invalid={**confidences.invalid, **invalid})
    empty_is_known = options.blank != "unknown"
    annotations = _merge_rows(columns, tags_of_rows, confidences, empty_is_known=empty_is_known)
    merged = {annotation.name: annotation for annotation in sorted(annotations, key=lambda one: bool(one.present))}
    meaning = "to which no label applies" if empty_is_known else "of which nothing is known"
    layout = f'tags in the column "{table.header[column]}"{how}{table.described}'
    notes = [*columns.notes([column, *confidences.columns]), *confidences.notes]
    notes += note_empty_images(merged.values(), "a tag", meaning)
    return _to_label_table(columns, annotations, confidences, layout, notes, source.limits)


def _tag_column(columns: Columns) -> int:
    """The column of tags: the one with a usual name, else the only one of text; several may be equal."""
    table, candidates = columns.table, columns.label_columns
    if not candidates:
        raise LabelrError(
            f"{table.path} has no column of tags: {preview(table.header)}", "name the column with `--label-column NAME`"
        )
    cells = table.column(candidates[0])
    if any(table.column(column) != cells for column in candidates[1:]):
        names = [table.header[column] for column in candidates]
        raise LabelrError(
            f"{table.path}: labels may be in any of the columns {preview(names)}",
            columns.suggest_label_columns(candidates),
        )
    return candidates[0]


# --- one row for each image and label --------------------------------------------------------------------------------


def fits_long(source: Source) -> int:
    """Confidence that this is a table of images and labels in which images repeat: 0, 1, or 2 by the label column."""
    if source.table is None or len(source.table.rows) < 3:
        return 0
    columns = source.columns
    column = _label_column(columns)
    if column is None or not columns.has_repeats or (columns.chosen and columns.table.holds_marks(column)):
        return 0
    if holds_lists(columns.table.column(column)):  # a table of tags, in which rows of an image contradict each other
        return 0
    return 2 if columns.chosen or columns.table.keys[column] in (*LABEL_COLUMNS, *LABEL_IDS) else 1


def read_long(source: Source) -> LabelTable:
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
    confidences = _read_confidences(columns, column)
    invalid = {**confidences.invalid, **_find_contradictions(columns, column, confidences), **invalid}
    confidences = confidences._replace(invalid=invalid)
    if not columns.has_words_called(SPECIES_COLUMNS):  # columns of yes and no beside it describe the sighting
        _check_marks(columns, column)
    labels = ([label] * bool(label) for label in table.column(column))
    annotations = _merge_rows(columns, labels, confidences, empty_is_known=source.options.blank != "unknown")
    layout = f'{LONG}, in the column "{table.header[column]}"{table.described}'
    notes = [*columns.notes([column, *confidences.columns]), *confidences.notes]
    return _to_label_table(columns, annotations, confidences, layout, notes, source.limits)


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


def _label_column(columns: Columns) -> int | None:
    """The column of labels: that which the user names, or the first with a usual name, or the only one of text."""
    candidates = columns.label_columns
    is_named = bool(candidates) and columns.table.keys[candidates[0]] in LABEL_COLUMNS
    return candidates[0] if is_named or len(candidates) == 1 else None


def _check_marks(columns: Columns, label_column: int) -> None:
    """Raises LabelrError where a further column of yes and no may negate the labels of its rows."""
    table = columns.table
    known = {label_column, *columns.metadata(), *table.columns_called(FLAGS | CONFIDENCE_COLUMNS | SPLIT_MARKS)}
    for number in (number for number in columns.free if number not in known):
        cells = {MARKS.get(cell.lower()) for cell in table.column(number)}
        name = table.header[number]
        if cells <= {Mark.YES, Mark.NO, Mark.BLANK} and Mark.NO in cells:
            raise LabelrError(
                f'{table.path}: the column "{name}" of yes and no may mean whether the label of a row applies',
                f"rename it to `confidence` if it does, else exclude it with `--exclude {shlex.quote(name)}`",
            )


# --- Open Images -----------------------------------------------------------------------------------------------------


def fits_open_images(source: Source) -> int:
    """Confidence that this is a table of image labels or boxes of Open Images: 0 or 3."""
    return 3 if source.table is not None and set(source.table.keys) >= OPEN_IMAGES_COLUMNS else 0


def read_open_images(source: Source) -> LabelTable:
    """The label table of a table of Open Images; a label that no row gives to an image is unknown.

    Raises:
        LabelrError: If it is no such table, or a row is invalid, unless the images of such rows are skipped.
    """
    table = source.require_table()
    if not fits_open_images(source):
        raise LabelrError(
            f"{table.path} is not a table of Open Images: {preview(table.header)}", "name another `--layout`"
        )
    columns = Columns.find(table, source.options, file=table.keys.index("imageid"))
    table = columns.table
    invalid = columns.find_invalid(unique=False)
    display_names, notes = _read_display_names(source)
    label_column = table.keys.index("labelname")
    confidences = _read_confidences(columns, label_column)
    confidences = confidences._replace(invalid={**confidences.invalid, **invalid})
    labels = ([display_names.get(code, code)] * bool(code) for code in table.column(label_column))
    merged = _merge_rows(columns, labels, confidences, empty_is_known=False)
    annotations = [annotation._replace(complete=False) for annotation in merged]
    notes = [*columns.notes(columns.free), *notes, *confidences.notes]  # its other columns are known
    return _to_label_table(columns, annotations, confidences, "labels of Open Images", notes, source.limits)


def _read_display_names(source: Source) -> tuple[dict[str, str], list[str]]:
    """The display names of label codes from a file of class descriptions beside the table, and a note."""
    found = sorted(path for path in source.path.parent.glob("*class-descriptions*.csv") if path.is_file())
    if not found:
        return {}, ["labels are codes: for names, put class-descriptions.csv of Open Images beside the table"]
    rows = read_table(found[0], read_text(found[0], limits=source.limits).content, source.limits).rows
    names = {row[0]: row[1] for row in rows if len(row) == 2 and row[0].lower() != "labelname"}
    return names, [f"names of labels are from {found[0].name}"]


# --- confidences, and the rows of an image ---------------------------------------------------------------------------


def _read_confidences(columns: Columns, label_column: int) -> Confidences:
    """The confidence of each row, which is 0 where a column of counts says that there is none of its label.

    Raises:
        LabelrError: If a confidence is invalid, unless such rows are skipped.
    """
    table = columns.table
    free = [number for number in columns.free if number not in (label_column, *columns.chosen)]
    found = [n for n in free if table.keys[n] in CONFIDENCE_COLUMNS or _is_status(table, n)]
    confidences = _read_column(columns, found[0]) if found else Confidences.none(len(table.body))
    counts = [number for number in free if table.keys[number] in COUNTS]
    return _without_zeros(confidences, columns, counts[0], label_column) if counts else confidences


def _is_status(table: Table, number: int) -> bool:
    """Whether a column called `STATUS` says whether the labels of the rows apply, and nothing else."""
    words = {cell.lower() for cell in table.column(number)} if table.keys[number] == STATUS else set()
    return bool(words - {""}) and words <= {"", *STATUS_WORDS}


def _without_zeros(confidences: Confidences, columns: Columns, number: int, label_column: int) -> Confidences:
    """The confidences, 0 where a column of counts is 0, unless the label of the row means that there is nothing."""
    table = columns.table
    cells, labels = table.column(number), table.column(label_column)
    is_zero = [
        ZERO.fullmatch(cell) is not None and label.lower() not in NOTHING
        for cell, label in zip(cells, labels, strict=True)
    ]
    if not any(is_zero) or _numbers_rows(columns.names, cells):
        return confidences
    note = f'rows with 0 in the column "{table.header[number]}", whose label does not apply: {sum(is_zero):,}'
    return confidences._replace(
        columns=[*confidences.columns, number],
        values=[0.0 if zero else value for zero, value in zip(is_zero, confidences.values, strict=True)],
        notes=[*confidences.notes, note],
    )


def _numbers_rows(names: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether cells number the rows of each image from 0, and an image has several."""
    seen: Counter[str] = Counter()
    for name, cell in zip(names, cells, strict=True):
        if cell != str(seen[name]):
            return False
        seen[name] += 1
    return max(seen.values(), default=0) > 1


def _read_column(columns: Columns, column: int) -> Confidences:
    table = columns.table
    cells = table.column(column)
    values = [parse_confidence(cell) for cell in cells]
    invalid = {
        row: f'{table.location(row, column)}: expected a number from 0 to 1, got "{cells[row]}"'
        for row, value in enumerate(values)
        if math.isnan(value)
    }
    if invalid and (not columns.options.skip_invalid or len(invalid) == len(values)):
        exclude = f"`--exclude {shlex.quote(table.header[column])}`"
        raise LabelrError(
            next(iter(invalid.values())),
            "correct the cell, skip the images of such rows with `--skip-invalid`, or, if they are no confidences of "
            f"the labels, leave the column out with {exclude}",
        )
    between = sum(0 < value < 1 for value in values)
    note = f"rows with a confidence between 0 and 1, which count as yes from {PRESENT}, else as no: {between:,}"
    return Confidences([column], values, [note] if between else [], invalid)


def _merge_rows(
    columns: Columns, labels: Iterable[Collection[str]], confidences: Confidences, *, empty_is_known: bool
) -> list[Annotation]:
    """What the rows of an image, or those of each of its annotators, say of it: a label applies if any row affirms it.

    Images with an invalid row are left out. Where no row of an image has a label, none applies if `empty_is_known`.
    """
    merged: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for name, judge, own, confidence in zip(columns.names, columns.judges, labels, confidences.values, strict=True):
        present, absent = merged.setdefault((name, judge), (set(), set()))
        (present if confidence >= PRESENT else absent).update(own)
    for present, absent in merged.values():
        absent.difference_update(present)
    split_of = dict(zip(columns.names, columns.splits, strict=True))
    skipped = {columns.names[row] for row in confidences.invalid}
    return [
        Annotation(name, present, absent, split_of[name], complete=empty_is_known or bool(present or absent))
        for (name, _), (present, absent) in merged.items()
        if name not in skipped
    ]


def _to_label_table(
    columns: Columns,
    annotations: Iterable[Annotation],
    confidences: Confidences,
    layout: str,
    notes: Sequence[str],
    limits: Limits,
) -> LabelTable:
    """The label table of merged rows; those of several annotators of an image are joined by vote."""
    skipped = {columns.names[row] for row in confidences.invalid}
    return LabelTable.of(
        annotations,
        layout,
        groups=columns.groups,
        notes=notes,
        invalid=[*columns.table.invalid.values(), *confidences.invalid.values()],
        aside=[*columns.table.aside, *sorted(skipped - {""})],
        limits=limits,
    )
