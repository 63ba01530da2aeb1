"""The wide table: one row for each image, and a column for each label, or columns of classes such as ``season``."""

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from labelr.config import ReadOptions
from labelr.data.formats import words
from labelr.data.formats.arrange import CLASS_NUMBER
from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.table import PROBE_ROWS, Table
from labelr.data.formats.tags import split_tags
from labelr.data.formats.words import MARKS, Mark, marks_among
from labelr.data.label_table import LabelTable, Targets, is_from_python, repeated_names
from labelr.errors import LabelrError, pluralize, preview

Codes = NDArray[np.int8]
DESCRIPTION = "one column a label"
CLASSES = "classes in the columns"
SLOT_NUMBER = re.compile(r"[\s_.-]*\d+$")
"""The end of the name of one of several equal columns of classes, such as ``label2`` beside ``label1``."""
MIN_DERIVED_ROWS = 10
"""In fewer rows it may be by chance that a label follows from others."""


def fits(source: Source) -> int:
    """Confidence that this is a table with a column of marks: 0, 1 where images repeat, or 2."""
    if source.table is None or len(source.table.rows) < 2:
        return 0
    columns = source.columns
    if any(not columns.table.holds_marks(number) for number in columns.chosen):
        return 0
    marks = read_marks(columns, rows=2 * PROBE_ROWS)
    keys = {columns.table.keys[number] for number in marks.columns}
    # Beside words in such a column, what is marked describes them.
    certain = words.LABEL_COLUMNS if keys <= words.PRESENCE else words.SPECIES_COLUMNS
    if columns.has_words_called(certain) and not {*source.options.only} & {*columns.table.header}:
        return 0
    return 0 if not marks.columns else 1 if columns.has_repeats else 2


def read(source: Source) -> LabelTable:
    """The label table of a wide table; rows of several annotators are joined by vote.

    Raises:
        LabelrError: If a cell is neither a mark nor empty, or rows of an image differ, unless such rows are skipped.
    """
    columns, options = source.columns, source.options
    table = columns.table
    skipped = columns.find_invalid()
    marks = read_marks(columns)
    if not marks.columns and options.exclude:
        raise LabelrError(f"no label of {table.path} is left", "exclude fewer with `--exclude`")
    _check_labels(table, marks.columns)
    labels = [table.header[column] for column in marks.columns]
    source.limits.check_labels(labels)
    targets, assumptions, invalid = read_targets(table, marks, options)
    notes = [*columns.notes(marks.columns), *assumptions, *_note_derived_labels(labels, targets)]
    return columns.label_table(f"{DESCRIPTION}{table.described}", labels, targets, notes, {**skipped, **invalid})


@dataclass(frozen=True)
class Marks:
    """The label columns of a table, and the codes of their cells, shape ``(N, L)``."""

    columns: list[int]
    codes: Codes


def read_marks(columns: Columns, rows: int | None = None) -> Marks:
    """The label columns: those that the user names, and those whose filled cells are mostly marks.

    A named column without a filled cell is a label of which nothing is known yet, or that no image has where only yes
    is marked. In a table with columns of other things it may be another one of these, unless it is between labels.
    """
    table, options = columns.table, columns.options
    wanted = {*options.only, *options.label_column}
    special = {*range(len(table.header))} - {*columns.unassigned()} | columns.metadata(words.NO_MARKS)
    special |= {number for number in table.columns_called(words.LABEL_IDS) if _holds_numbers(table, number)}
    candidates = [
        number
        for number, name in enumerate(table.header)
        if name not in options.exclude
        and (number not in special or name in wanted)
        and number != columns.file
        and (not columns.chosen or number in columns.chosen)
    ]
    codes = _encode(table.body[:rows], candidates)
    filled = (codes != Mark.BLANK) & (codes != Mark.UNKNOWN)
    marked = (filled & (codes != Mark.OTHER)).sum(axis=0)
    is_label = (marked > 0) & (2 * marked >= filled.sum(axis=0))
    for index in np.flatnonzero(is_label & (codes == Mark.OTHER).any(axis=0)):
        is_label[index] = not table.mixes_words(candidates[index])
    is_label |= _are_empty_labels(columns, candidates, is_label, codes)
    is_label |= np.array([table.header[number] in wanted for number in candidates], dtype=bool)
    chosen = np.flatnonzero(is_label)
    return Marks([candidates[index] for index in chosen], codes[:, chosen])


def _are_empty_labels(
    columns: Columns, candidates: Sequence[int], is_label: NDArray[np.bool_], codes: Codes
) -> NDArray[np.bool_]:
    """Which of the candidates without a filled cell are labels as well, shape ``(C,)``; see `read_marks`."""
    header = columns.table.header
    texts = columns.table.columns_called(words.TEXTS | words.ANNOTATOR_COLUMNS | words.FOLDER_COLUMNS)
    is_empty = ((codes == Mark.BLANK) | (codes == Mark.UNKNOWN)).all(axis=0)
    named = np.array([bool(header[number]) and number not in texts for number in candidates], dtype=bool)
    marks = codes[:, is_label]
    only_yes = bool(is_label.any()) and not ((marks == Mark.NO) | (marks == Mark.MINUS)).any()
    if not only_yes and not (is_label | is_empty).all():
        named &= np.logical_or.accumulate(is_label) & np.logical_or.accumulate(is_label[::-1])[::-1]  # between labels
    empty_labels: NDArray[np.bool_] = named & is_empty
    return empty_labels


def _encode(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> Codes:
    """The codes of the cells in some columns, shape ``(N, C)``; rows that are too short are left out."""
    if not columns:
        return np.empty((len(rows), 0), dtype=np.int8)
    pick = itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
    cells = [cell for row in rows if len(row) > columns[-1] for cell in pick(row)]
    distinct = set(cells)
    is_plain = all(cell.lower() in MARKS for cell in distinct)  # then columns need not be looked at one by one
    marks = marks_among([] if is_plain else (cells[number :: len(columns)] for number in range(len(columns))))
    codes = {cell: int(marks.get(cell.lower(), Mark.OTHER)) for cell in distinct}  # NumPy is slow on enums
    return np.fromiter(map(codes.__getitem__, cells), np.int8, len(cells)).reshape(-1, len(columns))


def read_targets(table: Table, marks: Marks, options: ReadOptions) -> tuple[Targets, list[str], dict[int, str]]:
    """The targets, shape ``(N, L)``, notes on the meaning of cells, and the rows with invalid ones with reasons.

    Raises:
        LabelrError: If a cell is neither a mark nor empty, unless such rows are skipped, or the meaning of -1 is open.
    """
    is_other = marks.codes == Mark.OTHER
    rows = np.flatnonzero(is_other.any(axis=1)).tolist()
    if rows and (not options.skip_invalid or len(rows) == len(is_other)):
        others = int(is_other.sum()) - 1
        more = f" ({pluralize(others, 'more cell')} like it)" if others else ""
        raise LabelrError(_describe_cell(table, marks, rows[0]) + more, _suggest_remedy(table, marks, rows[0]))
    return *to_targets(table, marks, options), {row: _describe_cell(table, marks, row) for row in rows}


def _suggest_remedy(table: Table, marks: Marks, row: int) -> str:
    """What to do about a row with a cell that is no mark; numbers in the only column of marks may be classes."""
    column = _other_column(marks, row)
    name = shlex.quote(table.header[column])
    cells = [cell for cell in table.column(column) if MARKS.get(cell.lower()) not in (Mark.BLANK, Mark.UNKNOWN)]
    if len(marks.columns) == 1 and all(map(CLASS_NUMBER.fullmatch, cells)):
        return f"if the numbers are classes, use `--label-column {name} --layout tags`; else correct the cell"
    return (
        "correct the cell (`?` stands for unknown), make such cells unknown in a corrected copy with `labelr check "
        f"DATA --fix FILE`, skip such rows with `--skip-invalid`, or exclude the column with `--exclude {name}`"
    )


def _other_column(marks: Marks, row: int) -> int:
    """The first column in which a row has a cell that is no mark."""
    return marks.columns[int((marks.codes[row] == Mark.OTHER).argmax())]


def _describe_cell(table: Table, marks: Marks, row: int) -> str:
    column = _other_column(marks, row)
    return f'{table.location(row, column)}: expected 0, 1 or nothing, got "{table.body[row][column]}"'


def to_targets(table: Table, marks: Marks, options: ReadOptions) -> tuple[Targets, list[str]]:
    """The targets, shape ``(N, L)``, and notes on the meaning of empty cells and of -1."""
    notes = []
    has = [bool((marks.codes == mark).any()) for mark in Mark]
    minus_one = options.minus_one
    if has[Mark.MINUS] and not has[Mark.NO] and minus_one == "auto":
        if has[Mark.BLANK] or has[Mark.UNKNOWN]:
            raise LabelrError(
                f"{table.path} holds -1 but no 0, so that -1 may mean no or unknown",
                "choose with `--minus-one no` or `--minus-one unknown`",
            )
        minus_one = "no"  # as in CelebA: otherwise nothing would say no
    if has[Mark.MINUS]:
        notes.append(f"-1 counts as {minus_one if minus_one != 'auto' else 'unknown'}")
    only_yes = has[Mark.YES] and not has[Mark.NO] and not has[Mark.MINUS]
    only_yes &= not is_from_python(table.path)  # there, NaN is unknown
    blank_is_no = has[Mark.BLANK] and (options.blank == "no" or (options.blank == "auto" and only_yes))
    if blank_is_no:
        reason = "" if options.blank == "no" else "no cell says no, so "
        notes.append(f"{reason}an empty cell counts as no (use `--blank unknown` for unknown)")
    elif options.blank == "auto" and not is_from_python(table.path):
        notes += _note_on_unknown(table, marks)
    values = np.full(len(Mark), np.nan, dtype=np.float32)
    values[[Mark.YES, Mark.NO]] = 1, 0
    values[[Mark.MINUS, Mark.BLANK]] = 0 if minus_one == "no" else np.nan, 0 if blank_is_no else np.nan
    return values[marks.codes], notes


def _note_on_unknown(table: Table, marks: Marks) -> list[str]:
    """What to note where no cell of a column says no, so that its empty cells, which count as unknown, may do."""
    has_yes, has_no, has_blank = ((marks.codes == mark).any(axis=0) for mark in (Mark.YES, Mark.NO, Mark.BLANK))
    unsaid = [table.header[marks.columns[label]] for label in np.flatnonzero(has_yes & has_blank & ~has_no)]
    hint = "an empty cell counts as unknown (use `--blank no` if it means no)"
    return [f"labels for which no cell says no: {preview(unsaid)}; {hint}"] if unsaid else []


def _note_derived_labels(labels: Sequence[str], targets: Targets) -> list[str]:
    """Notes on labels that follow from the others: that any of them applies, or that another one does not.

    Args:
        labels: L label names.
        targets: Shape ``(N, L)``; rows with an unknown cell do not count.
    """
    is_yes = (targets == 1)[~np.isnan(targets).any(axis=1)]
    if len(labels) < 3 or len(is_yes) < MIN_DERIVED_ROWS:
        return []
    varied = is_yes.any(axis=0) & ~is_yes.all(axis=0)
    counts = is_yes.sum(axis=1)
    is_any = varied & (is_yes == (counts > 0)[:, np.newaxis]).all(axis=0) & (counts != 1).all()
    sums = [labels[label] for label in np.flatnonzero(is_any).tolist()]
    columns: dict[bytes, list[int]] = defaultdict(list)  # bits of a column: comparing each two takes L * L * N
    for label in np.flatnonzero(varied).tolist():
        columns[np.packbits(is_yes[:, label]).tobytes()].append(label)
    opposites = []
    for own in columns.values():
        others = columns.get(np.packbits(~is_yes[:, own[0]]).tobytes(), [])
        if len(own) == len(others) == 1 and own < others:
            opposites.append(f"{labels[own[0]]} and {labels[others[0]]}")
    exclude = "leave out what is no label of its own with `--exclude NAME`"
    notes = [f"labels that apply wherever any other one does: {preview(sums)}; {exclude}"] * bool(sums)
    return notes + [f"labels that are the opposite of each other: {preview(opposites)}; {exclude}"] * bool(opposites)


def _holds_numbers(table: Table, column: int) -> bool:
    """Whether the first cells of a column are numbers, not all of them marks, such as counts or probabilities."""
    cells = [cell for cell in table.column(column, PROBE_ROWS) if cell]
    is_mark = [cell.lower() in table.marks for cell in cells]
    return not all(is_mark) and all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", cell) for cell in cells)


def _check_labels(table: Table, columns: Sequence[int]) -> None:
    """Raises LabelrError unless there are label columns, each with a name of its own."""
    if not columns:
        others = [n for n in sorted(table.columns_called(words.NO_MARKS)) if table.header[n]]
        with_texts = [*others, *sorted(table.columns_called(words.TEXTS))]
        texts = [shlex.quote(table.header[column]) for column in with_texts if table.holds_text(column)]
        numbers = [shlex.quote(table.header[column]) for column in others if not table.holds_text(column)]
        alternative = f", or take the words of a column with `--label-column {texts[0]}`" if texts else ""
        alternative = f", or select a column as a label with `--only {numbers[0]}`" if numbers else alternative
        measured = [name for number, name in enumerate(table.header) if name and _holds_numbers(table, number)]
        what = f": {preview(measured)} hold other numbers than 0 and 1" if measured else ""
        raise LabelrError(
            f"{table.path} has no label columns{what}", f"add one column of 0 and 1 for each label{alternative}"
        )
    nameless = [column for column in columns if not table.header[column]]
    if nameless:
        raise LabelrError(
            f"{table.path}, row 1, column {nameless[0] + 1}: a label without a name", "name the column, or delete it"
        )
    repeated = repeated_names(table.header[column] for column in columns)
    if repeated:
        raise LabelrError(
            f"{table.path} has {pluralize(len(repeated), 'label')} twice in its header: {preview(repeated)}",
            "rename or merge the columns",
        )


# --- columns of classes ----------------------------------------------------------------------------------------------


def fits_classes(source: Source) -> int:
    """Confidence that the user names several columns, of which some hold words: 0 or 3."""
    if source.table is None or len(source.options.label_column) < 2:
        return 0
    columns = source.columns
    return 0 if all(columns.table.holds_marks(number) for number in columns.chosen) else 3


def read_classes(source: Source) -> LabelTable:
    """The label table of columns of classes; a column of marks is a label itself, as in a wide table.

    Where the cell of a column of words is empty, the labels of that column are unknown. Columns that differ only in a
    number are slots for labels of one kind, which have no column name before them; where all of them are empty, none
    of these labels applies.

    Raises:
        LabelrError: If no columns are named, a cell of marks is neither a mark nor empty, or rows of an image differ,
            unless such rows are skipped.
    """
    columns, options = source.columns, source.options
    table = columns.table
    chosen = _named_columns(columns)
    if not chosen:
        raise LabelrError(f"{table.path}: the columns of classes are not named", "use `--label-column` for each")
    skipped = columns.find_invalid()
    marks = mark_columns(columns)
    targets_of_marks, assumptions, invalid = read_targets(table, marks, options)
    labels: list[str] = []
    blocks: list[Targets] = []
    for numbers in _properties(columns, chosen, marks.columns):
        if numbers[0] in marks.columns:
            own, targets = [table.header[numbers[0]]], targets_of_marks[:, [marks.columns.index(numbers[0])]]
        else:
            own, targets = _read_words(columns, numbers, source)
        labels += own
        blocks.append(targets)
    if repeated := repeated_names(labels):
        raise LabelrError(
            f"{table.path.name} has {pluralize(len(repeated), 'label')} in several of the columns: {preview(repeated)}",
            "rename a column",
        )
    layout = f"{CLASSES} {', '.join(table.header[number] for number in chosen)}{table.described}"
    notes = [*columns.notes(chosen), *assumptions]
    return columns.label_table(layout, labels, np.concatenate(blocks, axis=1), notes, {**skipped, **invalid})


def mark_columns(columns: Columns) -> Marks:
    """Those of the named columns that hold marks."""
    marked = list(filter(columns.table.holds_marks, _named_columns(columns)))
    return Marks(marked, _encode(columns.table.body, marked))


def _named_columns(columns: Columns) -> list[int]:
    """The columns that the user names and does not exclude, each once."""
    named = dict.fromkeys(columns.chosen)
    return [number for number in named if columns.table.header[number] not in columns.options.exclude]


def _properties(columns: Columns, chosen: Sequence[int], marked: Sequence[int]) -> list[list[int]]:
    """The named columns in their order, those of words together that differ only in a number."""
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number in chosen:
        name = columns.table.header[number]
        stem = (SLOT_NUMBER.sub("", name) or name).casefold()
        found[(number, "") if number in marked else (-1, stem)].append(number)
    return list(found.values())


def _read_words(columns: Columns, numbers: Sequence[int], source: Source) -> tuple[list[str], Targets]:
    """The labels of a column, or of several slots, and their targets, shape ``(N, labels)``."""
    table, options = columns.table, source.options
    is_slots = len(numbers) > 1
    prefix = "" if is_slots else f"{table.header[numbers[0]]}="
    tags_of: list[set[str]] = [set() for _ in columns.names]
    is_unknown = np.zeros(len(tags_of), dtype=bool)
    for number in numbers:
        cells = table.column(number)
        unknown = [table.marks.get(cell.lower()) == Mark.UNKNOWN for cell in cells]
        filled = ["" if is_na else cell for cell, is_na in zip(cells, unknown, strict=True)]
        has_lists = any(set(cell) & set("|;,\n") for cell in filled)
        separator = options.tag_separator or (None if has_lists else "|")  # words may have spaces
        tags, _ = split_tags(filled, separator, f'{table.path}, column "{table.header[number]}"')
        is_unknown |= np.array(unknown, dtype=bool)
        for own, found in zip(tags_of, tags, strict=True):
            own.update(found)
    if options.blank == "unknown" or (options.blank == "auto" and not is_slots):
        is_unknown[:] = True
    labels = sorted(set().union(*tags_of))
    source.limits.check_targets(len(tags_of), labels)
    place = {label: column for column, label in enumerate(labels)}
    targets = np.zeros((len(tags_of), len(labels)), dtype=np.float32)
    for row, own in enumerate(tags_of):
        targets[row, [place[label] for label in own]] = 1
    targets[is_unknown & np.array([not own for own in tags_of], dtype=bool)] = np.nan
    return [f"{prefix}{label}" for label in labels], targets
