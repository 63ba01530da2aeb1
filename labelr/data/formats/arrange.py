"""Brings a table into shape: rows above the header left out, a header added, rows as wide as it, vectors divided."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from labelr.config import ReadOptions
from labelr.data.formats.table import PROBE_ROWS, Table
from labelr.data.formats.words import (
    CERTAIN_FILE_COLUMNS,
    COORDINATES,
    FILE_COLUMNS,
    LABEL_COLUMNS,
    MARKS,
    NUMBER_MARK,
    NUMBERED_LABEL,
    Mark,
    column_key,
    marks_among,
)
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, pluralize, preview

CLASSES = "class"
"""The name of a column of class numbers in a list without a header."""
MAX_GROUP_ROWS = 3
"""Rows above a header that may name groups of columns."""
CLASS_NUMBER = re.compile(r"\d+(\.0+)?")
WRAPPING = re.compile(r"(?:(?:np\.)?(?:array|tensor)\()?\s*[\[({]([^\[\](){}]*)[\])}]\s*(?:,[^)]*)?\)?")
"""Brackets of Python, NumPy and PyTorch around a vector."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|true|false", re.IGNORECASE)
_NOTHING = (Mark.BLANK, Mark.UNKNOWN)
MARK = {"true": "1", "false": "0"}


def arrange(table: Table, options: ReadOptions) -> Table:
    """The table with one header and rows as wide as it: titles left out, a header added, cells of 0 and 1 divided.

    Rows of another width are left out, and listed as invalid.

    Raises:
        LabelrError: If there are no rows.
    """
    table = _with_ticks(_in_shape(_with_header(_without_groups(_without_titles(table)))))
    keys = table.keys
    free = [number for number, name in enumerate(table.header) if name not in options.exclude]
    named = [number for number in free if keys[number] in LABEL_COLUMNS or NUMBERED_LABEL.fullmatch(keys[number])]
    others: list[int] = []
    if options.label_column:
        named = [number for number in free if table.header[number] in options.label_column]
    elif not named and not any(map(table.holds_marks, free)):  # else they may be anything, such as colours
        others = [number for number in free if keys[number] not in COORDINATES]
    for number in sorted({*named, *others}, reverse=True):  # from the last on: the numbers of the others stay
        size = vector_size(table.column(number, PROBE_ROWS), strict=number not in named)
        table = _divide(table, number, size) if size else table
    return table


def _with_ticks(table: Table) -> Table:
    """The table with ``x`` in cells that repeat the name of their column, as surveys write choices that were ticked.

    A single such column may be one of tags, which has a tag of its own name.
    """
    names = [name.casefold() for name in table.header]
    ticked = {
        number
        for number, name in enumerate(names)
        if name and {cell.casefold() for cell in table.column(number, PROBE_ROWS)} <= {name, ""}
        if {cell.casefold() for cell in table.column(number)} == {name, ""}
    }
    if len(ticked) < 2:
        return table
    rows = [["x" if cell and number in ticked else cell for number, cell in enumerate(cells)] for cells in table.body]
    note = f"cells that repeat the name of their column, which count as yes: in {pluralize(len(ticked), 'column')}"
    return replace(table, rows=[table.header, *rows], notes=(*table.notes, note))


def _without_titles(table: Table) -> Table:
    """The table without first rows of a single cell, such as a title, or the number of images."""
    start = min(
        (next((place for place, cell in enumerate(row) if cell), 0) for row in table.rows[:PROBE_ROWS]), default=0
    )
    probed = [row[start:] for row in table.rows[:PROBE_ROWS]]  # a sheet may begin with empty columns
    first = next((row for row, cells in enumerate(probed) if not any(cells[:1]) or sum(map(bool, cells)) > 1), 0)
    if first and any(map(has_image_suffix, probed[first])) and not probed[first - 1][0].isdecimal():
        first -= 1  # the header: it has a name for each label, and none for the file names
    if not first or any(column_key(cells[0]) in FILE_COLUMNS for cells in probed[:first]):
        return table
    note = f"rows above the header, left out: {preview([cells[0] for cells in probed[:first]])}"
    return replace(table, rows=table.rows[first:], numbers=table.numbers[first:], notes=(*table.notes, note))


def _without_groups(table: Table) -> Table:
    """The table without first rows that name groups of the columns below, as merged cells above a header do."""
    probed = table.rows[:PROBE_ROWS]
    if "" not in table.header and len(set(table.header)) == len(max(probed, key=len)):
        return table  # the most common case, soon
    columns = list(zip_longest(*probed, fillvalue=""))
    for count in range(1, min(MAX_GROUP_ROWS, len(probed) - 2) + 1):
        header = [cells[count] for cells in columns]
        files = [number for number, cells in enumerate(columns) if _holds_files_below(cells, count)]
        others = [cells for number, cells in enumerate(columns) if [number] != files]
        if len(files) == 1 and _are_groups(others, count, is_named=bool(header[files[0]])):
            header[files[0]] = header[files[0]] or next(filter(None, columns[files[0]][:count]), "")
            groups = dict.fromkeys(cells[row] for row in range(count) for cells in others if cells[row])
            note = f"names of groups of columns above the header, left out: {preview(list(groups))}"
            rows = [header, *table.rows[count + 1 :]]
            return replace(table, rows=rows, numbers=table.numbers[count:], notes=(*table.notes, note))
    return table


def _holds_files_below(cells: Sequence[str], count: int) -> bool:
    """Whether a column holds file names below a header, whose cell in the row `count` may be merged with those above.

    Either the header or all cells below it say so.
    """
    name = cells[count]
    is_merged = not name or set(cells[:count]) <= {"", name}
    is_certain = column_key(name) in CERTAIN_FILE_COLUMNS or all(map(has_image_suffix, cells[count + 1 :]))
    return is_merged and is_certain and not any(map(has_image_suffix, cells[: count + 1]))


def _are_groups(columns: Sequence[Sequence[str]], count: int, *, is_named: bool) -> bool:
    """Whether the first `count` rows of the columns beside the file names are of groups, and the next row of words.

    In a row of groups cells are empty or equal. Where the column of file names `is_named` in a row above alone, that
    row may be the header, and the next one explain it, unless a group has two columns on average.
    """
    most = len(columns) - 1 if is_named else len(columns) // 2
    are_words = all(cells[count].lower() not in MARKS and not NUMBER.fullmatch(cells[count]) for cells in columns)
    return are_words and all(0 < len({cells[row] for cells in columns} - {""}) <= most for row in range(count))


def _with_header(table: Table) -> Table:
    """The table with a header if it has none and its cells beside the file name are marks or a count of the rows."""
    first, below = table.header, table.rows[1 : PROBE_ROWS + 1]
    is_named = any(column_key(name) in FILE_COLUMNS for name in first)
    if below and {len(cells) for cells in below} == {len(first) + 1} and not any(map(has_image_suffix, first)):
        if not is_named and all(has_image_suffix(cells[0]) for cells in below):  # such as CelebA
            return replace(table, rows=[["filename", *first], *table.rows[1:]])
        if [cells[0] for cells in below] == [str(row) for row in range(1, len(below) + 1)]:  # R's write.table
            return replace(table, rows=[["", *first], *table.rows[1:]])
    images = [number for number, cell in enumerate(first) if has_image_suffix(cell)]
    others = [number for number in range(len(first)) if number not in images]
    if len(images) != 1 or not others or any(len(cells) != len(first) for cells in below):
        return table
    columns = {number: [cells[number] for cells in (first, *below)] for number in others}
    if images == [len(first) - 1] and _is_index(columns[0]):
        others = others[1:]
    names = _name_columns(table, columns, others)
    if not names:
        return table
    header = [names.get(number, "filename" if number in images else "index") for number in range(len(first))]
    labels, rows = preview(list(names.values())), table.rows
    if CLASSES in names.values():
        labels, column = "class_0, class_1, ...", header.index(CLASSES)
        rows = [[*cells[:column], f"class_{cells[column].split('.')[0]}", *cells[column + 1 :]] for cells in rows]
    note = f"the file has no header, so that its labels are called {labels}; name them in a first row"
    notes = table.notes if "label" in names.values() else (*table.notes, note)
    return replace(table, rows=[header, *rows], numbers=[0, *table.numbers], notes=notes)


def _is_index(cells: Sequence[str]) -> bool:
    """Whether the first column of a list counts its rows, as that of MXNet does; it is shuffled."""
    return all(map(str.isdecimal, cells)) and len(set(cells)) == len(cells)


def _name_columns(table: Table, columns: Mapping[int, Sequence[str]], numbers: Sequence[int]) -> dict[int, str]:
    """The names of columns of marks, of vectors or of class numbers in a file without a header; empty for other cells.

    A table with commas or semicolons was probably meant to have one, unless a cell holds a vector.
    """
    is_list = table.delimiter not in (",", ";")
    marks = marks_among(columns[number] for number in numbers)
    are_vectors = [all(map(read_vector, columns[number])) for number in numbers]
    are_marks = [all(cell.lower() in marks for cell in columns[number]) for number in numbers]
    are_classes = len(numbers) == 1 and is_list and all(map(CLASS_NUMBER.fullmatch, columns[numbers[0]]))
    if not numbers or not ((is_list and all(are_marks)) or are_classes or all(are_vectors)):
        return {}
    if len(numbers) == 1:
        return {numbers[0]: "label" if are_marks[0] or are_vectors[0] else CLASSES}
    return {number: f"label_{row}" for row, number in enumerate(numbers, start=1)}


def _in_shape(table: Table) -> Table:
    """The table without the rows that are not as wide as the header; empty cells at the end do not count."""
    if len(table.rows) < 2:
        raise LabelrError(f"{table.path} has no rows below its header", "add one row for each image")
    width = len(table.header)
    if all(len(cells) == width for cells in table.rows):
        return table
    rows = [cells if any(cells[width:]) else cells[:width] for cells in table.rows]
    ragged = {row: cells for row, cells in enumerate(rows) if len(cells) != width}
    kept = [row for row in range(len(rows)) if row not in ragged]
    return replace(
        table,
        rows=[rows[row] for row in kept],
        numbers=[table.numbers[row] for row in kept],
        invalid={
            (number := table.numbers[row]): f"{table.path}, row {number}: expected {width} cells as in the header, "
            f"got {len(cells)}"
            for row, cells in ragged.items()
        },
        aside=tuple(cell for cells in ragged.values() for cell in cells if has_image_suffix(cell)),
    )


# --- vectors ---------------------------------------------------------------------------------------------------------


def read_vector(cell: str) -> list[str]:
    """The numbers of a cell that holds several and nothing else, as they are written; empty for any other cell."""
    inside = WRAPPING.fullmatch(cell.strip())
    parts = [part.strip("'\"") for part in re.split(r"[,;|\s]+", inside[1] if inside else cell) if part]
    return parts if len(parts) > 1 and all(map(NUMBER.fullmatch, parts)) else []


def vector_size(cells: Sequence[str], *, strict: bool = False) -> int:
    """The number of labels if most cells that are not empty are vectors of one size, of 0, 1 or probabilities; else 0.

    Lists of class numbers, such as ``[3, 17]``, are no vectors, also where some of them hold 0 and 1 alone. With
    `strict`, all numbers are 0, 1 or -1.
    """
    filled = [cell for cell in cells if MARKS.get(cell.lower()) not in _NOTHING]
    sizes = Counter(len(vector) for cell in filled if (vector := read_vector(cell))).most_common(1)
    if not sizes or all(map(_is_decimal_comma, filled)):
        return 0
    rows = [[float(MARK.get(value.lower(), value)) for value in read_vector(cell)] for cell in filled]
    rows = [row for row in rows if len(row) == sizes[0][0]]
    if strict and not all(value in (0, 1, -1) for row in rows for value in row):
        return 0
    fitting = sum(all(-1 <= value <= 1 for value in row) for row in rows)
    return sizes[0][0] * (2 * fitting > len(filled))


def _is_decimal_comma(cell: str) -> bool:
    """Whether a cell is 1, 0 or -1 with a decimal comma, such as ``1,00``."""
    return "," in cell and NUMBER_MARK.fullmatch(cell) is not None


def _divide(table: Table, number: int, size: int) -> Table:
    """The table with a column for each number of the vectors in one; rows with another cell there are left out."""
    name = table.header[number] or "label"
    labels = [f"{name}_{position}" for position in range(1, size + 1)]
    header, rows, numbers, invalid = table.header, [], [table.numbers[0]], dict(table.invalid)
    for row, cells in enumerate(table.body):
        is_nothing = table.marks.get(cells[number].lower()) in _NOTHING
        values = [MARK.get(value.lower(), value.lower()) for value in read_vector(cells[number])]
        if is_nothing or (len(values) == size and all(map(NUMBER_MARK.fullmatch, values))):
            values = [""] * size if is_nothing else values
            rows.append([*cells[:number], *values, *cells[number + 1 :]])
            numbers.append(table.numbers[row + 1])
        else:
            place = table.location(row, number)
            invalid[table.numbers[row + 1]] = f'{place}: expected {size} numbers that are 0 or 1, got "{cells[number]}"'
    note = f'cells of the column "{name}" hold {size} numbers, read as the labels {labels[0]} to {labels[-1]}'
    return replace(
        table,
        rows=[[*header[:number], *labels, *header[number + 1 :]], *rows],
        numbers=numbers,
        notes=(*table.notes, note),
        invalid=invalid,
    )
