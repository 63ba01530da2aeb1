"""Tables: the cells of a CSV file or of JSON objects, under a header."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from labelr import files
from labelr.errors import LabelrError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
csv.field_size_limit(2**31 - 1)  # instead of 128 kB: a cell may hold the polygons of an image
END = "\udfff"
"""A line appended after the last one; decoded text never contains it."""


@dataclass(frozen=True)
class Table:
    """The cells of a table.

    Attributes:
        path: Its file.
        delimiter: The character between its cells; empty for JSON objects.
        rows: Its cells as stripped text, including the header; rows without content are left out.
        numbers: The number of each row in the file, counted in records from 1.
    """

    path: Path
    delimiter: str
    rows: list[list[str]]
    numbers: list[int]

    @property
    def header(self) -> list[str]:
        """The first row."""
        return self.rows[0]

    @property
    def body(self) -> list[list[str]]:
        """The rows below the header."""
        return self.rows[1:]

    @property
    def delimited(self) -> str:
        """The end of a description such as ``, comma-separated``; empty for JSON objects."""
        return f", {DELIMITERS[self.delimiter]}-separated" if self.delimiter else ""

    @cached_property
    def keys(self) -> list[str]:
        """The column names, normalized by `column_key`."""
        return [column_key(name) for name in self.header]

    def column(self, number: int, rows: int | None = None) -> list[str]:
        """The cells of a column below the header, of the first `rows` rows; empty where a row is too short."""
        return [row[number] if number < len(row) else "" for row in islice(self.rows, 1, rows and rows + 1)]

    def location(self, row: int, column: int | None = None) -> str:
        """A row of the body, or one of its cells, as messages name it."""
        place = f"{self.path}, row {self.numbers[row + 1]}"
        return place if column is None else f'{place}, column "{self.header[column]}"'

    def check_shape(self) -> None:
        """Raises LabelrError unless there are rows, all as wide as the header."""
        if len(self.rows) < 2:
            raise LabelrError(f"{self.path} has no rows below its header", "add one row for each image")
        width = len(self.header)
        for number, cells in zip(self.numbers, self.rows, strict=True):
            if len(cells) != width:
                raise LabelrError(
                    f"{self.path}, row {number}: expected {width} cells as in the header, got {len(cells)}",
                    "correct the row",
                )


def column_key(name: str) -> str:
    """A column name in lower case without spaces, `_` and `-`."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def read_table(path: Path, text: str) -> Table:
    """The cells of a delimited text.

    Raises:
        LabelrError: If it is empty or not a table.
    """
    declared = re.match(r'"?sep=([,;\t])"?\r?\n', text)  # Excel writes such a line for itself
    delimiter = declared[1] if declared else max(DELIMITERS, key=lambda candidate: _fitness(path, text, candidate))
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, cells in _filled_rows(path, text, delimiter):
        if number > 1 or not declared:
            numbers.append(number)
            rows.append(cells)
    if not rows:
        raise LabelrError(f"{path} is empty", "add a header and one row for each image")
    return Table(path, delimiter, rows, numbers)


def _fitness(path: Path, text: str, delimiter: str) -> tuple[int, int]:
    """How well a delimiter fits: the number of first rows as wide as the header, then the width of the header."""
    widths: list[int] = []
    with suppress(LabelrError):  # reported when the table is read with the best delimiter
        widths.extend(len(cells) for _, cells in islice(_filled_rows(path, text, delimiter), 20))
    return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)


def _filled_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that have any content, stripped, each with its number from 1."""
    try:
        escaped = "'" in text  # labelr escapes formulas for spreadsheets
        for number, cells in _rows(path, text, delimiter):
            stripped = [cell.strip() for cell in cells]
            if escaped:
                stripped = [files.unescape_formula(cell) for cell in stripped]
            if any(stripped):
                yield number, stripped
    except csv.Error as error:
        raise LabelrError(f"{path} is not a table: {error}", "save it as CSV again") from error


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """All rows, each with its number from 1."""
    lines = chain(io.StringIO(text, newline=""), [END])
    for number, cells in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
        if cells == [END]:
            return
        if cells and cells[-1].endswith(END):
            raise LabelrError(f"{path}, row {number}: a quoted cell is not closed", "close the quote, or delete it")
        yield number, cells


def table_of_objects(path: Path, objects: Sequence[Mapping[str, Any]]) -> Table:
    """JSON objects as a table with a column for each key and a row for each object, such as ``metadata.jsonl``.

    Lists become JSON, booleans ``true`` and ``false``, null an empty cell, and an object its categories or labels. An
    object with an error and without labels, as `labelr tag` writes for an unreadable image, is left out.
    """
    kept = {number: fields for number, fields in enumerate(objects, start=1) if not _is_failure(fields)}
    names = list(dict.fromkeys(name for fields in kept.values() for name in fields))
    rows = [[_cell(fields.get(name)) for name in names] for fields in kept.values()]
    return Table(path, "", [[name.strip() for name in names], *rows], [0, *kept])


def _is_failure(fields: Mapping[str, Any]) -> bool:
    return isinstance(fields.get("error"), str) and "labels" in fields and fields["labels"] is None


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("categories", "category", "labels", "label") if key in value), None)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
