"""Tables: the cells of a CSV file or of JSON objects under a header, and what their columns hold."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import ReadOptions
from labelr.data.label_table import SPLIT_NAMES, normalize_name
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, preview, suggest

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
csv.field_size_limit(2**31 - 1)  # instead of 128 kB: a cell may hold the polygons of an image
END = "\udfff"
"""A line appended after the last one; decoded text never contains it."""


class Mark(IntEnum):
    """What a cell of a label column means."""

    NO, YES, BLANK, UNKNOWN, MINUS, OTHER = range(6)


_SPELLINGS = {
    Mark.YES: (
        "1", "1.0", "1,0", "true", "t", "yes", "y", "x", "✓", "✔", "wahr", "ja", "j", "vrai", "oui", "verdadero",
    ),
    Mark.NO: ("0", "0.0", "0,0", "false", "f", "no", "n", "falsch", "nein", "faux", "non", "falso"),
    Mark.BLANK: ("",),
    Mark.UNKNOWN: ("na", "nan", "null", "n/a", "?"),
    Mark.MINUS: ("-1", "-1.0"),
}  # fmt: skip
MARKS = {spelling: mark for mark, spellings in _SPELLINGS.items() for spelling in spellings}
"""What a cell of a label column may hold, in lower case; spreadsheets localise true and false."""

FILE_COLUMNS = (
    "filename", "file", "filepath", "imagename", "imagepath", "imagefile", "imagefilename", "imageindex", "image",
    "img", "imgname", "imgpath", "path", "sourcefile", "imageid", "photo", "name", "id", "key",
)  # fmt: skip
"""Names of the column of file names, the most certain first; like all names below as `column_key` normalizes them."""
CERTAIN_FILE_COLUMNS = FILE_COLUMNS[:8]
SPLIT_COLUMNS = frozenset({"split", "subset", "partition", "mluse"})
NUMBERS = frozenset({
    "age", "annotationid", "confidence", "depth", "filesize", "fold", "followup#", "height", "id", "index", "isvalid",
    "number", "partition", "patientid", "regioncount", "regionid", "score", "size", "subset", "width",
    "xmax", "xmin", "ymax", "ymin",
})  # fmt: skip
"""Columns of numbers, which may happen to be 0 and 1: not labels unless the user names them."""
TEXTS = frozenset({
    "annotator", "author", "caption", "comment", "comments", "completedat", "createdat", "date", "description",
    "group", "leadtime", "license", "note", "notes", "remark", "remarks", "sex", "source", "time", "timestamp", "title",
    "updatedat", "url", "user",
})  # fmt: skip
"""Columns of text that are not tags, and not labels if they are empty."""
PROBE_ROWS = 100


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

    def columns_called(self, names: Collection[str]) -> set[int]:
        """The columns with one of these names, and nameless ones that count the rows."""
        return {number for number, key in enumerate(self.keys) if key in names or (not key and self._counts(number))}

    def _counts(self, number: int) -> bool:
        """Whether a column of several rows counts them, from 0 or 1."""
        cells = self.column(number)
        return len(cells) > 1 and any(cells == [str(first + row) for row in range(len(cells))] for first in (0, 1))

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
    filled = [row for row in _filled_rows(path, text, delimiter) if row[0] > 1 or not declared]
    if not filled:
        raise LabelrError(f"{path} is empty", "add a header and one row for each image")
    return Table(path, delimiter, [cells for _, cells in filled], [number for number, _ in filled])


def _fitness(path: Path, text: str, delimiter: str) -> tuple[int, int]:
    """How well a delimiter fits: the number of first rows as wide as the header, then the width of the header."""
    widths: list[int] = []
    with suppress(LabelrError):  # reported when the table is read with the best delimiter
        widths.extend(len(cells) for _, cells in islice(_filled_rows(path, text, delimiter), 20))
    return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)


def _filled_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that have any content, stripped, each with its number from 1."""
    escaped = "'" in text  # labelr escapes formulas for spreadsheets
    lines = chain(io.StringIO(text, newline=""), [END])
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
            if cells == [END]:
                return
            if cells and cells[-1].endswith(END):
                raise LabelrError(f"{path}, row {number}: a quoted cell is not closed", "close the quote, or delete it")
            stripped = list(map(str.strip, cells))
            if escaped:
                stripped = list(map(files.unescape_formula, stripped))
            if any(stripped):
                yield number, stripped
    except csv.Error as error:
        raise LabelrError(f"{path} is not a table: {error}", "save it as CSV again") from error


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


@dataclass(frozen=True)
class Columns:
    """The columns of a table with the file name, group and split of each row, by number.

    Attributes:
        table: The table.
        exclude: Names of columns that the user excludes.
        file: The column of file names.
        group: The column that the user names as groups; None without one.
        split: The column of splits; None without one.
    """

    table: Table
    exclude: tuple[str, ...]
    file: int
    group: int | None
    split: int | None

    @classmethod
    def find(cls, table: Table, options: ReadOptions, *, file: int | None = None) -> "Columns":
        """The columns of a table; `file` is found unless it is given.

        Raises:
            LabelrError: If there is no column of file names, or not the column of groups that the user names.
        """
        file = _find_file_column(table) if file is None else file
        group = None
        if options.group is not None:
            if options.group not in table.header:
                hint = suggest(options.group, table.header) or "name one of its columns with `--group`"
                raise LabelrError(f"{table.path} has no column {options.group!r}", hint)
            group = table.header.index(options.group)
        return cls(table, options.exclude, file, group, _find_split_column(table))

    @cached_property
    def names(self) -> list[str]:
        """The normalized file name of each row."""
        return [normalize_name(name) for name in self.table.column(self.file)]

    @property
    def groups(self) -> dict[str, str] | None:
        """The group of each image by its name; None without a column of groups."""
        return None if self.group is None else dict(zip(self.names, self.table.column(self.group), strict=True))

    def read_splits(self) -> list[str] | None:
        """The split of each row as train, val or test; None without a column of splits.

        Raises:
            LabelrError: If a cell holds anything else.
        """
        if self.split is None:
            return None
        cells = self.table.column(self.split)
        for row, cell in enumerate(cells):
            if cell.lower() not in SPLIT_NAMES:
                where = self.table.location(row, self.split)
                raise LabelrError(f'{where}: expected train, val or test, got "{cell}"', "correct the cell")
        return [SPLIT_NAMES[cell.lower()] for cell in cells]

    def has_repeats(self, rows: int) -> bool:
        """Whether an image occurs more than once in the first `rows` rows."""
        names = self.table.column(self.file, rows)
        return len(set(names)) < len(names)

    def unassigned(self) -> list[int]:
        """The columns that hold neither file names nor groups nor splits."""
        return [n for n in range(len(self.table.header)) if n not in (self.file, self.group, self.split)]

    def named_or_text(self, names: Collection[str]) -> list[int]:
        """The columns with one of these names, else those of text that is not known to be metadata."""
        free = [number for number in self.unassigned() if self.table.header[number] not in self.exclude]
        named = [number for number in free if self.table.keys[number] in names]
        if named:
            return named
        metadata = self.table.columns_called(NUMBERS | TEXTS)
        return [n for n in free if n not in metadata and _holds_text(self.table.column(n, PROBE_ROWS))]

    def ignored_note(self, used: Collection[int]) -> list[str]:
        """A note that names the columns that are not used; empty if all are."""
        others = [name for number in self.unassigned() if number not in used and (name := self.table.header[number])]
        return [f"columns that hold no labels, ignored: {preview(others, 10)}"] if others else []

    def check_named(self) -> None:
        """Raises LabelrError where a row has no file name."""
        for row, name in enumerate(self.names):
            if not name:
                raise LabelrError(f"{self.table.location(row)}: no file name", "name the image, or delete the row")

    def check_unique(self) -> None:
        """Raises LabelrError where a row has no file name, or two rows have the same one."""
        self.check_named()
        rows = defaultdict(list)
        for name, number in zip(self.names, self.table.numbers[1:], strict=True):
            rows[name].append(number)
        repeated = {name: numbers for name, numbers in rows.items() if len(numbers) > 1}
        if repeated:
            listed = preview([f"{name} (rows {' and '.join(map(str, numbers))})" for name, numbers in repeated.items()])
            raise LabelrError(
                f"{self.table.path} lists {len(repeated):,} images more than once: {listed}",
                "keep one row for each image",
            )


def _holds_text(cells: Sequence[str]) -> bool:
    """Whether cells hold words rather than marks or numbers."""
    filled = [cell for cell in cells if cell]
    words = [cell for cell in filled if cell.lower() not in MARKS and not re.fullmatch(r"[-+.\deE]+", cell)]
    return bool(filled) and 2 * len(words) > len(filled)


def _find_file_column(table: Table) -> int:
    """The column of file names: by a certain name, by cells with image suffixes, else by any common name."""
    first = next((name for name in table.header if has_image_suffix(name)), None)
    if first is not None:
        raise LabelrError(
            f"{table.path} has no header: its first row names an image, {first}",
            "add a header: `filename`, and a name for each label",
        )
    named = [table.keys.index(key) for key in FILE_COLUMNS if key in table.keys]
    named += [number for number, name in enumerate(table.header) if name.lower().endswith("_file_name")]
    holding = [
        number
        for number in range(len(table.header))
        if (cells := table.column(number, PROBE_ROWS)) and all(map(has_image_suffix, cells))
    ]
    certain = [number for number in named if table.keys[number] in CERTAIN_FILE_COLUMNS]
    for candidates in ([number for number in named if number in holding], certain, holding, named):
        if candidates:
            return candidates[0]
    raise LabelrError(
        f"{table.path} has no column of file names: {preview(table.header)}", "name that column `filename`"
    )


def _find_split_column(table: Table) -> int | None:
    """The column called `split` or similar, if most of its cells are names of splits."""
    for number, key in enumerate(table.keys):
        if key in SPLIT_COLUMNS:
            cells = [cell.lower() for cell in table.column(number)]
            if sum(cell in SPLIT_NAMES for cell in cells) > len(cells) / 2:
                return number
    return None
