"""The XML in an xlsx or ods: its size before anything expands it, and what calamine does not tell of a sheet."""

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from labelr.data.formats.parsers import check_xml, iterate_xml, local_name
from labelr.data.limits import Limits
from labelr.errors import preview

MAX_COLUMNS = 16_384
"""Of Excel, LibreOffice and their formats."""
Format = tuple[str, int, str]
"""The text before a number, the number of its digits, and the text after it."""
Range = tuple[tuple[int, int], tuple[int, int]]
"""The first and the last cell of merged cells, each by its row and column from 0."""
_PARTS = (".xml", ".rels", ".bin")
"""The endings of what is read of an archive; others are pictures."""
_PLACE = re.compile(rb"""\sr=["']([A-Z]{0,9})([0-9]{1,9})["']""")
"""The place of a cell or row in a sheet of an xlsx."""
_CELL = re.compile(rb"<(?:\w+:)?c[ />]")
_SHARED = "xl/sharedStrings.xml"
_TEXT = re.compile(rb"<(?:\w+:)?si[ />].*?</(?:\w+:)?si>", re.DOTALL)
_REFERENCE = re.compile(rb"""\st=["']s["'][^>]*>\s*<(?:\w+:)?v>\s*([0-9]{1,9})""")
"""The texts that the cells of an xlsx share, and the number of one in a cell."""
_ROW_END = re.compile(rb"</(?:\w+:)?row>")
_ODS_ROW = re.compile(rb"<table:table |<table:table-row(?=[\s/>])([^>]*?)(?:/>|>(.*?)</table:table-row>)", re.DOTALL)
"""The beginning of a sheet of an ods, or one of its rows."""
_ODS_CELL = re.compile(
    rb"<table:(?:covered-)?table-cell(?=[\s/>])([^>]*?)(?:/>|>(.*?)</table:(?:covered-)?table-cell>)", re.DOTALL
)
_REPEATED = re.compile(rb"""number-(?:rows|columns)-repeated=["']([0-9]+)""")
_NUMBER_FORMAT = re.compile(r'(?:\[[^\]]*\])?(?:"([^"]*)")?(0+)(?:"([^"]*)")?(?:;.*)?')
"""A number format that pads with zeros, or adds text, such as ``0000`` or ``"IMG_"0000".jpg"``."""


def check_archive(path: Path, content: bytes, limits: Limits) -> None:
    """Raises LabelrError if the parts of an xlsx or ods are too large, or its sheets have too many cells."""
    size = 0
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for entry in archive.infolist():
            if PurePosixPath(entry.filename).suffix not in _PARTS:
                continue
            with archive.open(entry) as file:
                part = file.read(limits.size + 1 - size)  # whatever size it declares
            size += len(part)
            limits.check_size(path, max(size, entry.file_size), ", uncompressed,")
            if entry.filename.endswith(".xml"):
                check_xml(BytesIO(part))
                rows, columns = _extent_of_ods(part) if entry.filename == "content.xml" else _extent_of_xlsx(part)
                limits.check_cells(path, rows * columns, "cells, empty ones included")
        limits.check_size(path, _size_of_texts(archive, limits), ", with each text as often as it is in a cell,")


def _size_of_texts(archive: zipfile.ZipFile, limits: Limits) -> int:
    """The size of all texts in the cells of an xlsx, of which one that is stored once may be in a million cells."""
    names = archive.namelist()
    if _SHARED not in names:
        return 0
    with archive.open(_SHARED) as file:
        sizes = [len(found[0]) for found in _TEXT.finditer(file.read(limits.size))]
    size = 0
    for name in names:
        if name.startswith("xl/worksheets/") and name.endswith(".xml"):
            with archive.open(name) as file:
                places = Counter(int(found[1]) for found in _REFERENCE.finditer(file.read(limits.size)))
            size += sum(count * sizes[place] for place, count in places.items() if place < len(sizes))
    return size


def _extent_of_xlsx(part: bytes) -> tuple[int, int]:
    """The numbers of rows and columns up to the last cell in a part of an xlsx; 0 in one that is no sheet."""
    places = _PLACE.findall(part)
    rows = max(map(int, {row for _, row in places}), default=0)
    columns = max(map(_number_of_column, {name.decode() for name, _ in places}), default=0)
    pieces = [] if places else _ROW_END.split(part)  # rows and cells without a place follow each other
    return max(rows, len(pieces)), max([columns, *(len(_CELL.findall(piece)) for piece in pieces)])


def _extent_of_ods(part: bytes) -> tuple[int, int]:
    """The numbers of rows and columns up to the last cell of any sheet in the content of an ods."""
    rows = columns = row = 0
    for found in _ODS_ROW.finditer(part):
        if found[1] is None:
            row = 0
            continue
        width = last = 0
        for cell in _ODS_CELL.finditer(found[2] or b""):
            width += _repeated(cell[1])
            last = width if cell[2] or b"value" in cell[1] or b"formula" in cell[1] else last
        row += _repeated(found[1])
        rows, columns = row if last else rows, max(columns, last)
    return rows, columns


def _repeated(attributes: bytes) -> int:
    found = _REPEATED.search(attributes)
    return int(found[1][:9]) if found else 1


# --- what a sheet shows or hides beside its values -------------------------------------------------------------------


@dataclass
class Look:
    """What a sheet shows or hides beside its values.

    Attributes:
        formats: How numbers are shown that have leading zeros or text around them, by row and column from 0.
        merged: Merged cells; at first only those that calamine does not tell.
        hidden_columns: The letters of hidden columns.
        hidden_rows: The number of hidden rows.
        formulas: The number of formulas whose value is stored.
        uncomputed: The cells of formulas without a stored value.
        errors: The errors, such as ``#DIV/0!``, of the cells that hold one.
    """

    formats: dict[tuple[int, int], Format] = field(default_factory=dict)
    merged: list[Range] = field(default_factory=list)
    hidden_columns: list[str] = field(default_factory=list)
    hidden_rows: int = 0
    formulas: int = 0
    uncomputed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def notes(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """A sentence for each kind that there is in a sheet of these rows; titles may be merged across columns."""
        tall = sum(bottom > top for (top, _), (bottom, _) in self.merged)
        broad = sum(
            right > left and top < len(rows) and sum(map(bool, rows[top])) > 1
            for (top, left), (_, right) in self.merged
        )
        found = {
            f"hidden columns, read like the others: {preview(self.hidden_columns, 10)}": self.hidden_columns,
            f"hidden rows, read like the others: {self.hidden_rows:,}": self.hidden_rows,
            f"formulas, whose stored values are read: {self.formulas:,}": self.formulas,
            f"formulas without a stored value, taken as empty ({len(self.uncomputed):,}), until the spreadsheet is "
            f"opened and saved: {preview(self.uncomputed)}": self.uncomputed,
            f"cells with an error, taken as empty: {len(self.errors):,} "
            f"({preview(sorted(set(self.errors)))})": self.errors,
            f"merged cells, whose value counts for each of their rows: {tall:,}": tall,
            f"cells merged across columns, whose value counts for the first of them: {broad:,}": broad,
        }
        return [note for note, there in found.items() if there]


def look_at(content: bytes, sheet: str) -> Look:
    """What calamine does not tell of a sheet: hidden rows and columns, leading zeros, formulas; nothing for xls."""
    look = Look()
    with (
        suppress(zipfile.BadZipFile, KeyError, ParseError, StopIteration),
        zipfile.ZipFile(BytesIO(content)) as archive,
    ):
        if "content.xml" in archive.namelist():
            _look_at_ods(archive, sheet, look)
        elif "xl/workbook.xml" in archive.namelist():
            _look_at_xlsx(archive, sheet, look)
    return look


def _look_at_xlsx(archive: zipfile.ZipFile, sheet: str, look: Look) -> None:
    styles = _number_styles(archive)
    content = archive.read(_part_of(archive, sheet))
    if not styles and not re.search(rb"""hidden=|<(\w+:)?f[ >/]|\bt=["']e["']""", content):
        return  # nothing to find: parsing millions of cells takes long
    for name, element in _elements(content):
        is_hidden = element.get("hidden") in ("1", "true")
        if name == "col" and is_hidden:
            last = min(int(element.get("max", 1)), MAX_COLUMNS)
            look.hidden_columns += map(_letters, range(int(element.get("min", 1)), last + 1))
        elif name == "row":
            look.hidden_rows += is_hidden
            element.clear()
        elif name == "c":
            _look_at_cell(element, styles, look)


def _look_at_cell(cell: Element, styles: dict[str, Format], look: Look) -> None:
    place = cell.get("r", "")
    parts = {local_name(child.tag): child.text for child in cell}
    kind = cell.get("t", "n")
    look.errors += [parts.get("v") or ""] * (kind == "e")
    if "f" in parts:
        if parts.get("v") or kind == "str":  # the text may be empty
            look.formulas += 1
        else:
            look.uncomputed.append(place)
    match = re.fullmatch(r"([A-Z]+)(\d+)", place)
    if match and cell.get("s", "") in styles and kind == "n":
        look.formats[int(match[2]) - 1, _number_of_column(match[1]) - 1] = styles[cell.get("s", "")]


def _number_styles(archive: zipfile.ZipFile) -> dict[str, Format]:
    """The styles of cells whose numbers are shown with leading zeros or text around them."""
    if "xl/styles.xml" not in archive.namelist():
        return {}
    formats: dict[str, Format] = {}
    styles: list[str] = []
    for name, element in _elements(archive.read("xl/styles.xml")):
        match = _NUMBER_FORMAT.fullmatch(element.get("formatCode", ""))
        if name == "numFmt" and match and match[0] != "0":
            formats[element.get("numFmtId", "")] = match[1] or "", len(match[2]), match[3] or ""
        elif name == "cellXfs":
            styles = [style.get("numFmtId", "") for style in element]
    return {str(number): formats[code] for number, code in enumerate(styles) if code in formats}


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str:
    """The file of a sheet in an xlsx."""
    names = {
        element.get("name"): next(value for key, value in element.items() if key.endswith("}id"))
        for name, element in _elements(archive.read("xl/workbook.xml"))
        if name == "sheet"
    }
    targets = {
        element.get("Id"): element.get("Target", "")
        for _, element in _elements(archive.read("xl/_rels/workbook.xml.rels"))
    }
    target = targets[names[sheet]]
    return target.lstrip("/") if target.startswith("/") else str(PurePosixPath("xl") / target)


def _elements(content: bytes) -> Iterator[tuple[str, Element]]:
    """The elements of an XML, each when it ends, with its name."""
    return ((local_name(each.tag), each) for event, each in iterate_xml(BytesIO(content)) if event == "end")


def _look_at_ods(archive: zipfile.ZipFile, sheet: str, look: Look) -> None:
    table, row, column = "", 0, 0
    with archive.open("content.xml") as content:
        for event, element in iterate_xml(content):
            name, attributes = local_name(element.tag), _attributes_of(element)
            is_hidden = attributes.get("visibility", "visible") != "visible"
            if event == "start":
                table, row, column = (attributes.get("name", ""), 0, 0) if name == "table" else (table, row, column)
            elif table == sheet and name == "table-column":
                first, column = column, column + min(int(attributes.get("number-columns-repeated", 1)), MAX_COLUMNS)
                look.hidden_columns += map(_letters, range(first + 1, column + 1) if is_hidden else ())
            elif table == sheet and name == "table-row":
                look.hidden_rows += is_hidden and bool("".join(element.itertext()).strip())
                look.errors += ["".join(cell.itertext()) for cell in element if "error" in cell.attrib.values()]
                _look_at_ods_row(element, row, look)
                row += int(attributes.get("number-rows-repeated", 1))
                element.clear()


def _look_at_ods_row(element: Element, row: int, look: Look) -> None:
    """Finds merged cells, and numbers that are shown otherwise than they are stored."""
    column = 0
    for cell in element:
        attributes = _attributes_of(cell)
        last_row, last_column = (int(attributes.get(f"number-{kind}-spanned", 1)) - 1 for kind in ("rows", "columns"))
        if last_row or last_column:
            look.merged.append(((row, column), (row + last_row, column + last_column)))
        shown = re.fullmatch(r"(\D*)(\d+)(\D*)", "".join(cell.itertext()))
        if attributes.get("value-type") == "float" and shown and shown[0] != attributes.get("value"):
            look.formats[row, column] = shown[1], len(shown[2]), shown[3]
        column += int(attributes.get("number-columns-repeated", 1))


def _attributes_of(element: Element) -> dict[str, str]:
    return {local_name(key): value for key, value in element.items()}


def _number_of_column(letters: str) -> int:
    """The number of a column by its letters, counted from 1."""
    column = 0
    for letter in letters:
        column = 26 * column + ord(letter) - ord("A") + 1
    return column


def _letters(column: int) -> str:
    """The letters of a column, which is counted from 1."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
