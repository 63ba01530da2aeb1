"""Vectors in a cell, such as ``[0, 1, 0]``: one number for each label, in an order that the file does not tell."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from labelr.data.formats.table import NUMBER_MARK, PROBE_ROWS, Mark, Table, marks_among

WRAPPING = re.compile(r"(?:(?:np\.)?(?:array|tensor)\()?\s*[\[({]([^\[\](){}]*)[\])}]\s*(?:,[^)]*)?\)?")
"""Brackets of Python, NumPy and PyTorch around a vector."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|true|false", re.IGNORECASE)
_NOTHING = (Mark.BLANK, Mark.UNKNOWN)
MARK = {"true": "1", "false": "0"}


def read_vector(cell: str) -> list[str]:
    """The numbers of a cell that holds several and nothing else, as they are written; empty for any other cell."""
    inside = WRAPPING.fullmatch(cell.strip())
    parts = [part.strip("'\"") for part in re.split(r"[,;|\s]+", inside[1] if inside else cell) if part]
    return parts if len(parts) > 1 and all(map(NUMBER.fullmatch, parts)) else []


def vector_size(cells: Sequence[str], *, strict: bool = False) -> int:
    """The number of labels if most cells that are not empty are vectors of one size, of 0, 1 or probabilities; else 0.

    Lists of class numbers, such as ``[3, 17]``, are no vectors. With `strict`, all numbers are 0, 1 or -1.
    """
    filled = [cell for cell in cells if cell]
    vectors = [vector for cell in filled if (vector := read_vector(cell))]
    sizes = Counter(map(len, vectors)).most_common(1)
    if not sizes or 2 * sizes[0][1] < len(filled) or all(map(_is_decimal_comma, filled)):
        return 0
    values = [MARK.get(n.lower(), n) for vector in vectors if len(vector) == sizes[0][0] for n in vector]
    if strict:
        return sizes[0][0] * all(float(value) in (0, 1, -1) for value in values)
    return sizes[0][0] * (2 * sum(-1 <= float(value) <= 1 for value in values) > len(values))


def _is_decimal_comma(cell: str) -> bool:
    """Whether a cell is 1, 0 or -1 with a decimal comma, such as ``1,00``."""
    return "," in cell and NUMBER_MARK.fullmatch(cell) is not None


def divide_vectors(table: Table, named: Collection[int], others: Collection[int] = ()) -> Table:
    """The table with a column for each number of cells that hold vectors; rows with another cell there are left out.

    Args:
        table: The table.
        named: The columns that hold labels by their names.
        others: Columns that may hold them if their cells are vectors of 0 and 1 throughout.
    """
    for number in sorted({*named, *others}, reverse=True):  # from the last on: the numbers of the others stay
        size = vector_size(table.column(number, PROBE_ROWS), strict=number not in named)
        if size:
            table = _divide(table, number, table.header[number] or "label", size)
    return table


def _divide(table: Table, number: int, name: str, size: int) -> Table:
    labels = [f"{name}_{position}" for position in range(1, size + 1)]
    header, rows, numbers, invalid = table.header, [], [table.numbers[0]], dict(table.invalid)
    for row, cells in enumerate(table.body):
        values = [MARK.get(value.lower(), value) for value in read_vector(cells[number])]
        if table.marks.get(cells[number].lower()) in _NOTHING:
            values = [""] * size
        if len(values) == size and all(value.lower() in marks_among([values]) for value in values):
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
