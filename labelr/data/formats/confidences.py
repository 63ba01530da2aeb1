"""Confidences of the labels of rows: from which one on a label applies, and how the rows of an image are merged."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self

from labelr.data.formats.columns import Columns
from labelr.data.formats.table import Table
from labelr.data.formats.words import COUNTS, MARKS, NOTHING, PRESENCE, STATUS, Mark
from labelr.data.label_table import Annotation, LabelTable
from labelr.data.limits import Limits
from labelr.errors import LabelrError

CONFIDENCE_COLUMNS = PRESENCE | {"confidence", "predictionscore", "prob", "probability", "score"}
STATUS_WORDS = {"present": 1.0, "absent": 0.0}
"""The words of Darwin Core for whether there is something."""
ZERO = re.compile(r"\+?0+([.,]0*)?")
PRESENT = 0.5
"""A label applies if a row gives it at least this confidence."""


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


def read_confidences(columns: Columns, label_column: int) -> Confidences:
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
    values = [_parse_confidence(cell) for cell in cells]
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


def _parse_confidence(cell: str) -> float:
    """The value of a cell in ``[0, 1]``; NaN for anything else."""
    if cell.lower() in STATUS_WORDS:
        return STATUS_WORDS[cell.lower()]
    code = MARKS.get(cell.lower())
    try:
        value = float(code == Mark.YES) if code in (Mark.YES, Mark.NO) else float(cell.replace(",", ".") or 1)
    except ValueError:
        return math.nan
    return value if 0 <= value <= 1 else math.nan


def merge_rows(
    columns: Columns, labels: Iterable[Collection[str]], confidences: Confidences, *, empty_is_known: bool
) -> list[Annotation]:
    """What the rows of an image, or those of each of its annotators, say of it: a label applies if any row affirms it.

    Images with an invalid row are left out. Where no row of an image has a label, none applies if `empty_is_known`.
    """
    merged: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for name, judge, own, confidence in zip(columns.names, columns.judges, labels, confidences.values, strict=True):
        present, absent = merged.setdefault((name, judge), (set(), set()))
        (present if confidence >= PRESENT else absent).update(own)
    split_of = dict(zip(columns.names, columns.splits, strict=True))
    skipped = {columns.names[row] for row in confidences.invalid}
    return [
        Annotation(name, present, absent - present, split_of[name], complete=empty_is_known or bool(present or absent))
        for (name, _), (present, absent) in merged.items()
        if name not in skipped
    ]


def to_label_table(
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
