"""Tables: their separator, their cells, and which column names the images."""

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from labelr import files
from labelr.data.images import has_image_suffix
from labelr.data.label_table import SPLIT_NAMES
from labelr.errors import LabelrError, preview, suggest

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
csv.field_size_limit(2**31 - 1)  # instead of 128 kB: a cell may hold the polygons of an image
FILE_COLUMNS = (
    "filename", "file", "filepath", "imagename", "imagepath", "imagefile", "imagefilename", "imageindex", "image",
    "img", "imgname", "imgpath", "path", "sourcefile", "imageid", "photo", "name", "id", "key",
)  # fmt: skip
"""What the column of file names is called, the surest first, in lower case without spaces, `_` and `-`."""
SURE_COLUMNS = FILE_COLUMNS[:8]
NUMBERS = frozenset({
    "age", "annotationid", "confidence", "depth", "filesize", "fold", "followup#", "height", "id", "index", "isvalid",
    "number", "partition", "patientid", "regioncount", "regionid", "score", "size", "subset", "width",
    "xmax", "xmin", "ymax", "ymin",
})  # fmt: skip
"""Columns of numbers that may happen to be 0 and 1: no labels, unless the user names them."""
TEXTS = frozenset({
    "annotator", "author", "caption", "comment", "comments", "completedat", "createdat", "date", "description",
    "group", "leadtime", "license", "note", "notes", "remark", "remarks", "sex", "source", "time", "timestamp", "title",
    "updatedat", "url", "user",
})  # fmt: skip
"""Columns of words that are no tags, and of which nothing is known if they are empty."""
PART_COLUMNS = frozenset({"split", "subset", "partition", "mluse"})
PROBE_ROWS = 100
END = "\udfff"
"""A line behind the last one; no text that was decoded holds it."""


@dataclass(frozen=True)
class Sheet:
    """The cells of a table.

    Attributes:
        path: Its file.
        separator: What divides its cells; empty for objects.
        rows: Its cells as text without spaces around it, the first row included; rows without content are left out.
        numbers: The number of each row in the file, counted in records from 1.
    """

    path: Path
    separator: str
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
    def separated(self) -> str:
        """How its cells are divided, as the end of a description; nothing for objects."""
        return f", {SEPARATORS[self.separator]}-separated" if self.separator else ""

    @property
    def keys(self) -> list[str]:
        """The names of its columns, made comparable by `key`."""
        return [key(name) for name in self.header]

    def column(self, number: int, rows: int | None = None) -> list[str]:
        """The cells of a column below the header; a row that is too short has an empty one."""
        return [row[number] if number < len(row) else "" for row in islice(self.rows, 1, rows and rows + 1)]

    def left_out(self, used: Collection[int | None]) -> list[str]:
        """A sentence that names the columns that are not among those used; none where there are no such."""
        others = [name for number, name in enumerate(self.header) if number not in used and name]
        return [f"no label columns, left out: {preview(others, 10)}"] if others else []

    def where(self, row: int) -> str:
        """How messages name a row of the body."""
        return f"{self.path}, row {self.numbers[row + 1]}"

    def check_shape(self) -> None:
        """Raises LabelrError unless there are rows, all as wide as the header."""
        if len(self.rows) < 2:
            raise LabelrError(f"{self.path} has no rows below its header", "give it one row an image")
        width = len(self.header)
        for number, cells in zip(self.numbers, self.rows, strict=True):
            if len(cells) != width:
                raise LabelrError(
                    f"{self.path}, row {number}: expected {width} cells as in the header, got {len(cells)}",
                    "correct the row",
                )


def key(name: str) -> str:
    """A column's name made comparable: lower case, without spaces, `_` and `-`."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def read_sheet(path: Path, text: str) -> Sheet:
    """The cells of a table.

    Raises:
        LabelrError: If it is empty or no table.
    """
    said = re.match(r'"?sep=([,;\t])"?\r?\n', text)  # as Excel writes for itself
    separator = said[1] if said else max(SEPARATORS, key=lambda one: _fitness(path, text, one))
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, cells in _records(path, text, separator):
        if number > 1 or not said:
            numbers.append(number)
            rows.append(cells)
    if not rows:
        raise LabelrError(f"{path} is empty", "give it a header and one row an image")
    return Sheet(path, separator, rows, numbers)


def _fitness(path: Path, text: str, separator: str) -> tuple[int, int]:
    """How well a separator fits a table: first rows as wide as the header, then the header's width."""
    widths: list[int] = []
    with suppress(LabelrError):  # which is told when the table is read with the separator that fits best
        widths.extend(len(cells) for _, cells in islice(_records(path, text, separator), 20))
    return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that have any content, each with its number from 1."""
    try:
        guarded = "'" in text  # what labelr writes for spreadsheets
        for row, cells in _rows(path, text, separator):
            stripped = [cell.strip() for cell in cells]
            if guarded:
                stripped = [files.unescape_formula(cell) for cell in stripped]
            if any(stripped):
                yield row, stripped
    except csv.Error as error:
        raise LabelrError(f"{path} is not a table: {error}", "save it as CSV again") from error


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table as they are, each with its number from 1."""
    lines = chain(io.StringIO(text, newline=""), [END])
    for row, cells in enumerate(csv.reader(lines, delimiter=separator), start=1):
        if cells == [END]:
            return
        if cells and cells[-1].endswith(END):
            raise LabelrError(
                f"{path}, row {row}: a quote opens a cell that never ends", "close the quote, or delete it"
            )
        yield row, cells


def sheet_of(path: Path, objects: Sequence[Mapping[str, Any]]) -> Sheet:
    """Objects as a table, a column a key and a row an object, numbered from 1, as in ``metadata.jsonl``.

    Lists become JSON, true and false words, and null nothing; of an object with boxes their categories are taken. One
    with an error and null for labels, as `labelr tag` writes of images that do not open, says nothing of its image and
    is left out.
    """
    said = {number: one for number, one in enumerate(objects, start=1) if not _is_failure(one)}
    fields = list(dict.fromkeys(field for one in said.values() for field in one))
    rows = [[_cell(one.get(field)) for field in fields] for one in said.values()]
    return Sheet(path, "", [[field.strip() for field in fields], *rows], [0, *said])


def _is_failure(one: Mapping[str, Any]) -> bool:
    return isinstance(one.get("error"), str) and "labels" in one and one["labels"] is None


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("categories", "category", "labels", "label") if key in value), None)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def find_file_column(sheet: Sheet) -> int:
    """The number of the column of file names: by a sure name, by cells that end like images, else by any usual name.

    Raises:
        LabelrError: If there is none.
    """
    keys = sheet.keys
    first = next((name for name in sheet.header if has_image_suffix(name)), None)
    if first is not None:
        raise LabelrError(
            f"{sheet.path} has no header: its first row names an image, {first}",
            "put a row on top: `filename`, and a name for each label",
        )
    named = [keys.index(name) for name in FILE_COLUMNS if name in keys]
    named += [number for number, name in enumerate(sheet.header) if name.lower().endswith("_file_name")]
    holding = [number for number in range(len(keys)) if _holds_files(sheet.column(number, PROBE_ROWS))]
    sure = [number for number in named if keys[number] in SURE_COLUMNS]
    for candidates in ([number for number in named if number in holding], sure, holding, named):
        if candidates:
            return candidates[0]
    raise LabelrError(f"{sheet.path} has no column of file names: {preview(sheet.header)}", "call it `filename`")


def _holds_files(cells: Sequence[str]) -> bool:
    return bool(cells) and all(has_image_suffix(cell) for cell in cells)


def columns_called(sheet: Sheet, names: Collection[str]) -> set[int]:
    """The columns with one of these names, and a nameless one that counts the rows."""
    return {number for number, name in enumerate(sheet.keys) if name in names or (not name and _counts(sheet, number))}


def _counts(sheet: Sheet, number: int) -> bool:
    """Whether a column of several rows counts them, from 0 or 1."""
    cells = sheet.column(number)
    return len(cells) > 1 and any(cells == [str(first + row) for row in range(len(cells))] for first in (0, 1))


def check_unique(sheet: Sheet, names: Sequence[str]) -> None:
    """Raises LabelrError where a row has no name, or two rows have the same one."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if not name:
            raise LabelrError(f"{sheet.where(row)}: no file name", "name the image, or delete the row")
        rows.setdefault(name, []).append(sheet.numbers[row + 1])
    twice = {name: numbers for name, numbers in rows.items() if len(numbers) > 1}
    if twice:
        listed = preview([f"{name} (rows {' and '.join(map(str, numbers))})" for name, numbers in twice.items()])
        raise LabelrError(
            f"{sheet.path} lists {len(twice):,} images more than once: {listed}", "keep one row for each image"
        )


def find_group_column(sheet: Sheet, name: str | None) -> int | None:
    """The number of the column that the user named as groups.

    Raises:
        LabelrError: If there is no such column.
    """
    if name is None:
        return None
    if name not in sheet.header:
        hint = suggest(name, sheet.header) or "name one with `--group`"
        raise LabelrError(f"{sheet.path} has no column {name!r}", hint)
    return sheet.header.index(name)


def find_part_column(sheet: Sheet) -> int | None:
    """The number of the column `split` or `subset`, if most of what it holds are names of parts."""
    for number, name in enumerate(sheet.keys):
        if name in PART_COLUMNS:
            cells = [cell.lower() for cell in sheet.column(number)]
            if sum(cell in SPLIT_NAMES for cell in cells) > len(cells) / 2:
                return number
    return None


def read_parts(sheet: Sheet, column: int | None) -> tuple[str, ...] | None:
    """The part of each row of the body under labelr's names, from the column of that number, if there is one.

    Raises:
        LabelrError: If a cell holds anything else.
    """
    if column is None:
        return None
    cells = sheet.column(column)
    for row, cell in enumerate(cells):
        if cell.lower() not in SPLIT_NAMES:
            where = f'{sheet.where(row)}, column "{sheet.header[column]}"'
            raise LabelrError(f'{where}: expected train, val or test, got "{cell}"', "correct the cell")
    return tuple(SPLIT_NAMES[cell.lower()] for cell in cells)
