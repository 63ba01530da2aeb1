"""The wide table: one row an image, a column of file names and one column a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from labelr.config import ReadOptions
from labelr.data.formats.sheet import (
    NUMBERS,
    PROBE_ROWS,
    TEXTS,
    Sheet,
    check_unique,
    columns_called,
    find_file_column,
    find_group_column,
    find_part_column,
    read_parts,
)
from labelr.data.formats.source import Source
from labelr.data.label_table import LabelTable, Targets, normalize_name
from labelr.errors import LabelrError, preview

YES, NO, BLANK, UNKNOWN, MINUS, OTHER = range(6)
_WAYS = {
    YES: ["1", "1.0", "1,0", "true", "t", "yes", "y", "x", "✓", "✔", "wahr", "ja", "j", "vrai", "oui", "verdadero"],
    NO: ["0", "0.0", "0,0", "false", "f", "no", "n", "falsch", "nein", "faux", "non", "falso"],
    BLANK: [""],
    UNKNOWN: ["na", "nan", "null", "n/a", "?"],
    MINUS: ["-1", "-1.0"],
}
MARKS = {way: code for code, ways in _WAYS.items() for way in ways}
"""What a cell of a label column may hold, in lower case; spreadsheets write true and false in their own language."""

Codes = NDArray[np.int8]


def fits(source: Source) -> int:
    """Whether this is a table with at least one column of marks: 0 no, 1 it may be, 2 it is."""
    sheet = source.sheet
    if sheet is None or len(sheet.rows) < 2:
        return 0
    try:
        table = _read_marks(sheet, source.options, rows=2 * PROBE_ROWS)
    except LabelrError:
        return 0
    names = sheet.column(table.file_column, 2 * PROBE_ROWS)
    return 0 if not table.columns else 1 if len(set(names)) < len(names) else 2


def read(source: Source) -> LabelTable:
    """The records of a wide table.

    Raises:
        LabelrError: If a cell cannot be understood, unless such rows are to be left out.
    """
    sheet, options = source.table, source.options
    sheet.check_shape()
    table = _read_marks(sheet, options)
    labels = [sheet.header[column] for column in table.columns]
    _check_labels(sheet, table.columns)
    invalid = (table.codes == OTHER).any(axis=1)
    if invalid.any() and (not options.skip_invalid or invalid.all()):
        raise _invalid_cell(sheet, table)
    targets, assumed = _to_targets(sheet, table, options)
    names = [normalize_name(name) for name in sheet.column(table.file_column)]
    check_unique(sheet, names)
    group, part = find_group_column(sheet, options.group), find_part_column(sheet)
    used = {table.file_column, group, part, *table.columns}
    kept = np.flatnonzero(~invalid).tolist()
    groups, parts = None if group is None else sheet.column(group), read_parts(sheet, part)
    return LabelTable(
        f"one column a label{sheet.separated}",
        tuple(names[row] for row in kept),
        tuple(labels),
        targets[kept],
        groups=tuple(groups[row] for row in kept) if groups else None,
        splits=tuple(parts[row] for row in kept) if parts else None,
        notes=(*sheet.left_out(used), *assumed),
        invalid=tuple(_describe_cell(sheet, table, row) for row in np.flatnonzero(invalid).tolist()),
        aside=tuple(names[row] for row in np.flatnonzero(invalid)),
    )


@dataclass(frozen=True)
class _Marks:
    """The label columns of a table, and what their cells hold as codes, shape ``(N, L)``."""

    file_column: int
    columns: list[int]
    codes: Codes


def _read_marks(sheet: Sheet, options: ReadOptions, rows: int | None = None) -> _Marks:
    file_column = find_file_column(sheet)
    special = {
        file_column,
        find_group_column(sheet, options.group),
        find_part_column(sheet),
        *columns_called(sheet, NUMBERS),
    }
    wanted = set(options.only)
    body = sheet.body[:rows]
    candidates = [
        column
        for column, name in enumerate(sheet.header)
        if name not in options.exclude and (column not in special or name in wanted) and column != file_column
    ]
    codes = _encode(body, candidates)
    filled = (codes != BLANK) & (codes != UNKNOWN)
    marked = (filled & (codes != OTHER)).sum(axis=0)
    is_label = (marked > 0) & (2 * marked >= filled.sum(axis=0))
    if is_label.any() or not filled.any():
        words = columns_called(sheet, TEXTS)
        named = np.array([bool(sheet.header[one]) and one not in words for one in candidates], dtype=bool)
        is_label |= named & ~filled.any(axis=0)  # a label of which nothing is known yet
    is_label |= np.array([sheet.header[column] in wanted for column in candidates], dtype=bool)
    chosen = np.flatnonzero(is_label)
    return _Marks(file_column, [candidates[column] for column in chosen], codes[:, chosen])


def _encode(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> Codes:
    """What the cells of some columns hold, as codes, shape ``(N, C)``; rows that are too short are left out."""
    if not columns:
        return np.empty((len(rows), 0), dtype=np.int8)
    pick = itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
    cells = [cell for row in rows if len(row) > columns[-1] for cell in pick(row)]
    codes = {cell: MARKS.get(cell.lower(), OTHER) for cell in set(cells)}
    return np.fromiter(map(codes.__getitem__, cells), np.int8, len(cells)).reshape(-1, len(columns))


def _to_targets(sheet: Sheet, table: _Marks, options: ReadOptions) -> tuple[Targets, list[str]]:
    """The targets, shape ``(N, L)``, and what was assumed of blanks and of -1."""
    codes, notes = table.codes, []
    has = [bool((codes == code).any()) for code in range(6)]
    if has[MINUS] and not has[NO] and options.minus_one == "auto":
        raise LabelrError(
            f"{sheet.path} holds -1 but no 0, so that -1 may mean no or unknown",
            "say which with `--minus-one no` or `--minus-one unknown`",
        )
    minus = 0.0 if options.minus_one == "no" else np.nan
    if has[MINUS]:
        notes.append(f"-1 counts as {options.minus_one if options.minus_one != 'auto' else 'unknown'}")
    lone = has[YES] and not has[NO] and not has[MINUS]
    blank_is_no = has[BLANK] and (options.blank == "no" or (options.blank == "auto" and lone))
    if blank_is_no:
        why = "" if options.blank == "no" else "no cell says no, so that "
        notes.append(f"{why}an empty cell counts as no (`--blank unknown` for the other)")
    values = np.full(6, np.nan, dtype=np.float32)
    values[[YES, NO, MINUS, BLANK]] = 1, 0, minus, 0 if blank_is_no else np.nan
    return values[codes], notes


def _check_labels(sheet: Sheet, columns: Sequence[int]) -> None:
    if not columns:
        numbers = [sheet.header[column] for column in sorted(columns_called(sheet, NUMBERS)) if sheet.header[column]]
        named = f", or say that {numbers[0]!r} is a label with `--only {numbers[0]}`" if numbers else ""
        raise LabelrError(f"{sheet.path} has no label columns", f"add one column of 0 and 1 for each label{named}")
    nameless = [column for column in columns if not sheet.header[column]]
    if nameless:
        raise LabelrError(
            f"{sheet.path}, row 1, column {nameless[0] + 1}: a label without a name", "name the column, or delete it"
        )
    labels = [sheet.header[column] for column in columns]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise LabelrError(
            f"{sheet.path}: {len(twice)} labels stand twice in the header: {preview(twice)}", "merge the columns"
        )


def _describe_cell(sheet: Sheet, table: _Marks, row: int) -> str:
    column = table.columns[int(np.flatnonzero(table.codes[row] == OTHER)[0])]
    where = f'{sheet.where(row)}, column "{sheet.header[column]}"'
    return f'{where}: expected 0, 1 or nothing, got "{sheet.body[row][column]}"'


def _invalid_cell(sheet: Sheet, table: _Marks) -> LabelrError:
    row, column = (int(index) for index in np.argwhere(table.codes == OTHER)[0])
    others = int((table.codes == OTHER).sum()) - 1
    more = f" ({others:,} more cells like it)" if others else ""
    exclude = f"`--exclude {sheet.header[table.columns[column]]}`"
    return LabelrError(
        _describe_cell(sheet, table, row) + more,
        f"correct the cell, leave such rows out with `--skip-invalid`, or the column with {exclude}",
    )
