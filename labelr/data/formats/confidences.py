"""Confidences of the labels of rows: from which one on a label applies, and how rows of an image are merged."""

import math
import shlex
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import NamedTuple, Self, TypeVar

from labelr.config import ReadOptions
from labelr.data.formats.column_names import PRESENCE
from labelr.data.formats.columns import Columns
from labelr.data.formats.table import MARKS, Mark
from labelr.errors import LabelrError

CONFIDENCE_COLUMNS = PRESENCE | {"confidence", "predictionscore", "prob", "probability", "score"}
KeyT = TypeVar("KeyT", bound=Hashable)
PRESENT = 0.5
"""A label applies if a row gives it at least this confidence."""


class Confidences(NamedTuple):
    """The confidence of each row.

    Attributes:
        columns: The column that holds them, if there is one.
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


def read_confidences(columns: Columns, options: ReadOptions) -> Confidences:
    """The confidence of each row; raises LabelrError if one is invalid, unless such rows are skipped."""
    table = columns.table
    found = [number for number in table.columns_called(CONFIDENCE_COLUMNS) if table.keys[number]]
    column = next(
        (n for n in sorted(found) if table.header[n] not in options.exclude and n not in columns.chosen), None
    )
    if column is None:
        return Confidences.none(len(table.body))
    cells = table.column(column)
    values = [_parse_confidence(cell) for cell in cells]
    invalid = {
        row: f'{table.location(row, column)}: expected a number from 0 to 1, got "{cells[row]}"'
        for row, value in enumerate(values)
        if math.isnan(value)
    }
    if invalid and (not options.skip_invalid or len(invalid) == len(values)):
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
    code = MARKS.get(cell.lower())
    try:
        value = float(code == Mark.YES) if code in (Mark.YES, Mark.NO) else float(cell.replace(",", ".") or 1)
    except ValueError:
        return math.nan
    return value if 0 <= value <= 1 else math.nan


def merge_rows(
    keys: Iterable[KeyT], labels: Iterable[Collection[str]], confidences: Confidences
) -> Mapping[KeyT, tuple[set[str], set[str]]]:
    """For each key of rows, such as an image, the labels that any row affirms, and those that its rows only negate."""
    merged: dict[KeyT, tuple[set[str], set[str]]] = {}
    for key, own, confidence in zip(keys, labels, confidences.values, strict=True):
        present, absent = merged.setdefault(key, (set(), set()))
        (present if confidence >= PRESENT else absent).update(own)
    for present, absent in merged.values():
        absent.difference_update(present)
    return merged
