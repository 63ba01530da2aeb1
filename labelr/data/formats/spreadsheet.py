"""Spreadsheets, Parquet and Feather files, and DataFrames: their cells as the text that people see."""

import json
import re
import shlex
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import ExpatError

from labelr import files
from labelr.data.formats.archives import MAX_COLUMNS, check_archive, number_of_column
from labelr.data.formats.elements import iterate_xml
from labelr.data.formats.table import Table, strip_cell
from labelr.data.limits import DEFAULT_LIMITS, Limits, read_bytes
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, preview

if TYPE_CHECKING:
    import pandas as pd
    from python_calamine import CalamineSheet, CalamineWorkbook

SHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".fods")
COLUMNAR = (".parquet", ".pq", ".feather", ".arrow")
SUFFIXES = (*SHEETS, *COLUMNAR)
_BOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""The first bytes of xlsx and ods, and of xls."""
_PARQUET, _STREAM = b"PAR1", b"\xff\xff\xff\xff"
_ARROW = (b"ARROW1", b"FEA1", _STREAM)
"""The first bytes of Feather and other files of Arrow, of version 1 of Feather, and of a stream of Arrow."""
_OTHERS = {
    "a web page": re.compile(rb"\s*(<!doctype html|<html|<table|<meta )", re.IGNORECASE),
    "XML of Excel 2003": re.compile(rb"(?s).*urn:schemas-microsoft-com:office:spreadsheet"),
    "a flat XML spreadsheet": re.compile(rb"(?s).*<office:document\b"),
}
"""What programs call a spreadsheet, and labelr does not read, by the beginning of the file."""
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*")
"""The first bytes of images."""
MISSING = ("None", "nan", "NaT", "<NA>")
"""The text of the values of Python, NumPy and pandas that stand for none."""
NUMBER_FORMAT = re.compile(r'(?:\[[^\]]*\])?(?:"([^"]*)")?(0+)(?:"([^"]*)")?(?:;.*)?')
"""A number format that pads with zeros, or adds text, such as ``0000`` or ``"IMG_"0000".jpg"``."""
MAX_EXACT = 2.0**53
"""From here on, the numbers of spreadsheets are rounded."""
UNCOMPUTED = "formulas without a stored value"
"""How the note on such formulas begins."""
Format = tuple[str, int, str]
"""The text before a number, the number of its digits, and the text after it."""


def is_spreadsheet(path: Path) -> bool:
    """Whether a file is a spreadsheet, Parquet or Feather by its first bytes, whatever its suffix says."""
    head = _read_head(path)
    return head.startswith((*_BOOKS, _PARQUET, *_ARROW)) or bool(_kind_of_other(head))


def _read_head(path: Path) -> bytes:
    try:
        with files.open_regular(path) as file:
            return file.read(1000)
    except OSError:
        return b""


def _kind_of_other(head: bytes) -> str:
    """What a file is that programs open as a spreadsheet, and labelr does not; empty for anything else."""
    if head.startswith(_BOOKS):  # whose parts may not be compressed
        return ""
    return next((kind for kind, beginning in _OTHERS.items() if beginning.match(head)), "")


def read_spreadsheet(path: Path, sheet: str | None = None, limits: Limits = DEFAULT_LIMITS) -> Table:
    """The cells of a sheet, or of a Parquet or Feather file, with the row numbers that a spreadsheet shows.

    Args:
        path: The file.
        sheet: The name of the sheet; None takes the only one that has cells and is not hidden.
        limits: How much it may hold.

    Raises:
        LabelrError: If the file cannot be read, has no such sheet, or several of them, or a package is missing.
    """
    head, content = _read_head(path), read_bytes(path, limits)
    if head.startswith((_PARQUET, *_ARROW)):
        if sheet is not None:
            raise LabelrError(f"{path} has no sheets", "leave `--sheet` out")
        return _read_columnar(path, content, limits)
    if kind := _kind_of_other(head):
        raise LabelrError(
            f"{path} is {kind}, which labelr does not read",
            "open it in a spreadsheet program, save it as .xlsx or CSV, and use that file",
        )
    return _read_sheet(path, content, sheet, limits)


def table_of_frame(frame: "pd.DataFrame", path: Path, how: str = "") -> Table:
    """The cells of a DataFrame; its index is a column unless it only counts the rows.

    Args:
        frame: The DataFrame.
        path: What messages call it.
        how: What descriptions call it.

    Raises:
        LabelrError: If its columns have names of several levels.
    """
    if frame.columns.nlevels > 1:
        raise LabelrError(
            f"{path}: the columns have names of {frame.columns.nlevels} levels, such as {frame.columns[0]}",
            "join them first: `frame.columns = ['_'.join(names) for names in frame.columns]`",
        )
    if frame.index.nlevels > 1 or frame.index.name is not None or frame.index.dtype.kind not in "iu":
        names = [str(name or "") for name in frame.index.names]
        frame = frame.reset_index(names=names, drop=any(name in frame.columns for name in names))
    _check_pictures(frame, path)
    columns = [list(map(cell_text, map(_plain, frame.iloc[:, column].tolist()))) for column in range(frame.shape[1])]
    rows = [[cell_text(name) for name in frame.columns], *map(list, zip(*columns, strict=True))]
    return Table(path, rows, list(range(len(rows))), how)


def _check_pictures(frame: "pd.DataFrame", path: Path) -> None:
    """Raises LabelrError if a column holds the images themselves, and none has the names of image files."""
    firsts = [next(iter(frame.iloc[:, number].dropna()), None) for number in range(frame.shape[1])]
    inside = [number for number, value in enumerate(firsts) if _is_picture(value)]
    if inside and not any(isinstance(value, str) and has_image_suffix(value) for value in firsts):
        raise LabelrError(
            f'{path}: the column "{frame.columns[inside[0]]}" holds the images themselves, not their names',
            "write each image into a file, and a table with their names in a column `filename`",
        )


def _is_picture(value: Any) -> bool:
    if _is_struct(value):
        return value["bytes"] is not None
    return isinstance(value, bytes) and value.startswith(_PICTURES)


def _is_struct(value: Any) -> bool:
    """Whether a value is an image as the library ``datasets`` stores it: its bytes, or the path of its file."""
    return isinstance(value, dict) and value.keys() == {"bytes", "path"}


def _plain(value: Any) -> Any:
    """An array or number of NumPy, such as a list in a Parquet file, as a value of Python; others unchanged."""
    if _is_struct(value):
        return value["path"]
    return value.tolist() if type(value).__module__ == "numpy" else value


def cell_text(value: Any) -> str:
    """The text that a spreadsheet shows for a value: ``1`` for 1.0, ``true``, a date without a time; empty for none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        return strip_cell(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (list, tuple, set, dict)):
        return json.dumps(sorted(value) if isinstance(value, set) else value, ensure_ascii=False, default=str)
    text = str(value)
    if isinstance(value, bool):
        text = text.lower()
    return "" if text in MISSING else text.removesuffix(" 00:00:00")  # of a date


def _read_columnar(path: Path, content: bytes, limits: Limits) -> Table:
    is_parquet = content.startswith(_PARQUET)
    try:
        import pyarrow as pa
        from pyarrow import feather, ipc

        if is_parquet:
            table = _read_parquet(path, content, limits)
        elif content.startswith(_STREAM):
            table = ipc.open_stream(BytesIO(content)).read_all()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of version 1 of Feather, that it is old
                table = feather.read_table(pa.BufferReader(content))
        limits.check_cells(path, table.num_rows * max(table.num_columns, 1))
        limits.check_size(path, table.nbytes, ", uncompressed,")
        frame = table.to_pandas()
    except ImportError as error:
        raise LabelrError(f"{path} needs pyarrow to be read", "`pip install 'labelr[parquet]'`") from error
    except LabelrError:
        raise
    except Exception as error:  # pyarrow raises its own errors, which cannot be named without it
        raise LabelrError(f"{path} cannot be read: {error}", "write it again") from error
    cells = table_of_frame(frame, path, "Parquet" if is_parquet else "Arrow")
    limits.check_size(
        path, sum(len(cell) for row in cells.rows for cell in row), ", with each text as often as it occurs,"
    )
    return cells


def _read_parquet(path: Path, content: bytes, limits: Limits) -> Any:
    """The table of a Parquet file, whose texts stay in dictionaries: each may occur a million times."""
    from pyarrow import parquet

    about = parquet.read_metadata(BytesIO(content))
    limits.check_cells(path, about.num_rows * max(about.num_columns, 1))
    size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    limits.check_size(path, size, ", uncompressed,")
    columns = [about.schema.column(number) for number in range(about.num_columns)]
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    return parquet.ParquetFile(BytesIO(content), read_dictionary=texts).read()


def _read_sheet(path: Path, content: bytes, sheet: str | None, limits: Limits) -> Table:
    from python_calamine import CalamineError, PasswordError, load_workbook

    try:
        if content.startswith(_BOOKS[0]):
            check_archive(path, content, limits)
        with load_workbook(BytesIO(content)) as book:  # of whatever suffix
            chosen, notes = _choose_sheet(path, book, sheet, limits)
            name, ranges = chosen.name, chosen.merged_cell_ranges or []
            values = chosen.to_python(skip_empty_area=False)
        look = _look(content, name)
    except (CalamineError, ValueError, ExpatError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it is protected by a password" if isinstance(error, PasswordError) else error
        raise LabelrError(f"{path} cannot be read: {reason}", "save it again, or save the sheet as CSV") from error
    rows = [list(map(cell_text, own)) for own in values]
    for (row, column), (before, width, after) in look.formats.items():
        if row < len(rows) and column < len(rows[row]) and rows[row][column].isdigit():
            rows[row][column] = f"{before}{rows[row][column].zfill(width)}{after}"
    ranges = [*ranges, *look.merged]
    limits.check_cells(path, sum(min(end, len(rows)) - start for (start, _), (end, _) in ranges), "merged cells")
    _fill_merged(rows, ranges)
    numbers = [number for number, cells in enumerate(rows, start=1) if any(cells)]
    if not numbers:
        raise LabelrError(f"{path}: the sheet {name!r} is empty", "name another one with `--sheet NAME`")
    return Table(
        path, [rows[number - 1] for number in numbers], numbers, f'sheet "{name}"',
        notes=(*notes, *look.notes, *_note_merged(ranges, rows)), rounded=_rounded_columns(values),
    )  # fmt: skip


def _rounded_columns(rows: Sequence[Sequence[object]]) -> frozenset[int]:
    """The columns with a number of more digits than a spreadsheet keeps: long ids become equal."""
    return frozenset(
        column
        for values in rows
        for column, value in enumerate(values)
        if type(value) is float and abs(value) >= MAX_EXACT
    )


def _choose_sheet(
    path: Path, book: "CalamineWorkbook", wanted: str | None, limits: Limits
) -> tuple["CalamineSheet", list[str]]:
    """The sheet to read, and a note on hidden sheets."""
    from python_calamine import SheetVisibleEnum

    names = [entry.name for entry in book.sheets_metadata]
    hidden = [entry.name for entry in book.sheets_metadata if entry.visible != SheetVisibleEnum.Visible]
    if wanted is not None:
        if wanted not in names:
            raise LabelrError(f"{path} has no sheet {wanted!r}", f"its sheets are {preview(names, 10)}")
        return _checked(path, book.get_sheet_by_name(wanted), limits), []
    filled = [sheet for name in names if name not in hidden and (sheet := book.get_sheet_by_name(name)).end]
    for sheet in filled:
        _checked(path, sheet, limits)
    if len(filled) > 1:  # reading takes long, and most have one
        filled = [sheet for sheet in filled if any(map(cell_text, chain.from_iterable(sheet.to_python())))]
    if len(filled) > 1:
        raise LabelrError(
            f"{path} has {len(filled)} sheets: {preview([sheet.name for sheet in filled], 10)}",
            f"name one with `--sheet {shlex.quote(filled[0].name)}`",
        )
    if not filled:
        raise LabelrError(f"{path} has no sheet with cells", "add a header and one row for each image")
    return filled[0], [f"hidden sheets, not read: {preview(hidden)}"] if hidden else []


def _checked(path: Path, sheet: "CalamineSheet", limits: Limits) -> "CalamineSheet":
    """A sheet; a LabelrError if it has too many cells, empty ones included."""
    limits.check_cells(path, sheet.total_height * sheet.total_width, f'cells in the sheet "{sheet.name}"')
    return sheet


def _fill_merged(rows: list[list[str]], ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    """Copies the value of merged cells into all rows of their first column."""
    for (top, left), (bottom, _) in ranges:
        for row in range(top + 1, min(bottom + 1, len(rows))):
            if left < len(rows[row]):
                rows[row][left] = rows[top][left]


def _note_merged(ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]], rows: Sequence[Sequence[str]]) -> list[str]:
    tall = sum(bottom > top for (top, _), (bottom, _) in ranges)
    is_title = [top >= len(rows) or sum(map(bool, rows[top])) < 2 for (top, _), _ in ranges]
    broad = sum(right > left for ((_, left), (_, right)), alone in zip(ranges, is_title, strict=True) if not alone)
    found = {
        f"merged cells, whose value counts for each of their rows: {tall:,}": tall,
        f"cells merged across columns, whose value counts for the first of them: {broad:,}": broad,
    }
    return [note for note, count in found.items() if count]


@dataclass
class _Look:
    """What a sheet shows or hides beside its values.

    Attributes:
        formats: How numbers are shown that have leading zeros or text around them, by row and column from 0.
        merged: The first and the last cell of merged cells, where calamine does not tell them.
        hidden_columns: The letters of hidden columns.
        hidden_rows: The number of hidden rows.
        formulas: The number of formulas whose value is stored.
        uncomputed: The cells of formulas without a stored value.
        errors: The errors, such as ``#DIV/0!``, of the cells that hold one.
    """

    formats: dict[tuple[int, int], Format] = field(default_factory=dict)
    merged: list[tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    hidden_columns: list[str] = field(default_factory=list)
    hidden_rows: int = 0
    formulas: int = 0
    uncomputed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """A sentence for each kind that there is."""
        found = {
            f"hidden columns, read like the others: {preview(self.hidden_columns, 10)}": self.hidden_columns,
            f"hidden rows, read like the others: {self.hidden_rows:,}": self.hidden_rows,
            f"formulas, whose stored values are read: {self.formulas:,}": self.formulas,
            f"{UNCOMPUTED}, taken as empty ({len(self.uncomputed):,}), until the spreadsheet is "
            f"opened and saved: {preview(self.uncomputed)}": self.uncomputed,
            f"cells with an error, taken as empty: {len(self.errors):,} "
            f"({preview(sorted(set(self.errors)))})": self.errors,
        }
        return [note for note, there in found.items() if there]


def _look(content: bytes, sheet: str) -> _Look:
    """What calamine does not tell of a sheet: hidden rows and columns, leading zeros, formulas; nothing for xls."""
    look = _Look()
    with (
        suppress(zipfile.BadZipFile, KeyError, ParseError, StopIteration),
        zipfile.ZipFile(BytesIO(content)) as archive,
    ):
        if "content.xml" in archive.namelist():
            _look_at_ods(archive, sheet, look)
        elif "xl/workbook.xml" in archive.namelist():
            _look_at_xlsx(archive, sheet, look)
    return look


def _look_at_xlsx(archive: zipfile.ZipFile, sheet: str, look: _Look) -> None:
    styles = _number_styles(archive)
    content = archive.read(_part_of(archive, sheet))
    if not styles and not re.search(rb"""hidden=|<(\w+:)?f[ >/]|\bt=["']e["']""", content):
        return  # nothing to find: parsing millions of cells takes long
    for element in _elements(BytesIO(content)):
        name, is_hidden = _local(element.tag), element.get("hidden") in ("1", "true")
        if name == "col" and is_hidden:
            look.hidden_columns += map(
                _letters, range(int(element.get("min", 1)), min(int(element.get("max", 1)), MAX_COLUMNS) + 1)
            )
        elif name == "row":
            look.hidden_rows += is_hidden
            element.clear()
        elif name == "c":
            _look_at_cell(element, styles, look)


def _look_at_cell(cell: Element, styles: dict[str, Format], look: _Look) -> None:
    place = cell.get("r", "")
    parts = {_local(child.tag): child.text for child in cell}
    kind = cell.get("t", "n")
    look.errors += [parts.get("v") or ""] * (kind == "e")
    if "f" in parts:
        if parts.get("v") or kind == "str":  # the text may be empty
            look.formulas += 1
        else:
            look.uncomputed.append(place)
    match = re.fullmatch(r"([A-Z]+)(\d+)", place)
    if match and cell.get("s", "") in styles and kind == "n":
        look.formats[int(match[2]) - 1, number_of_column(match[1]) - 1] = styles[cell.get("s", "")]


def _number_styles(archive: zipfile.ZipFile) -> dict[str, Format]:
    """The styles of cells whose numbers are shown with leading zeros or text around them."""
    if "xl/styles.xml" not in archive.namelist():
        return {}
    formats: dict[str, Format] = {}
    styles: list[str] = []
    for element in _elements(BytesIO(archive.read("xl/styles.xml"))):
        match = NUMBER_FORMAT.fullmatch(element.get("formatCode", ""))
        if _local(element.tag) == "numFmt" and match and match[0] != "0":
            formats[element.get("numFmtId", "")] = match[1] or "", len(match[2]), match[3] or ""
        elif _local(element.tag) == "cellXfs":
            styles = [style.get("numFmtId", "") for style in element]
    return {str(number): formats[code] for number, code in enumerate(styles) if code in formats}


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str:
    """The file of a sheet in an xlsx."""
    names = {
        element.get("name"): next(value for key, value in element.items() if key.endswith("}id"))
        for element in _elements(BytesIO(archive.read("xl/workbook.xml")))
        if _local(element.tag) == "sheet"
    }
    targets = {
        element.get("Id"): element.get("Target", "")
        for element in _elements(BytesIO(archive.read("xl/_rels/workbook.xml.rels")))
    }
    target = targets[names[sheet]]
    return target.lstrip("/") if target.startswith("/") else str(PurePosixPath("xl") / target)


def _look_at_ods(archive: zipfile.ZipFile, sheet: str, look: _Look) -> None:
    with archive.open("content.xml") as content:
        table, row, column, is_hidden = "", 0, 0, False
        for event, element in iterate_xml(content):
            name = _local(element.tag)
            attributes = {_local(key): value for key, value in element.items()}
            if event == "start":
                table, row, column = (attributes.get("name", ""), 0, 0) if name == "table" else (table, row, column)
            elif table == sheet and name == "table-column":
                is_hidden = attributes.get("visibility", "visible") != "visible"
                repeated = min(int(attributes.get("number-columns-repeated", 1)), MAX_COLUMNS)
                for number in range(column, column := column + repeated):
                    look.hidden_columns += [_letters(number + 1)] * is_hidden
            elif table == sheet and name == "table-row":
                is_hidden = attributes.get("visibility", "visible") != "visible"
                look.hidden_rows += is_hidden and bool("".join(element.itertext()).strip())
                look.errors += ["".join(cell.itertext()) for cell in element if "error" in cell.attrib.values()]
                _look_at_ods_row(element, row, look)
                row += int(attributes.get("number-rows-repeated", 1))
                element.clear()


def _look_at_ods_row(element: Element, row: int, look: _Look) -> None:
    """Finds merged cells, and numbers that are shown otherwise than they are stored."""
    column = 0
    for cell in element:
        attributes = {_local(key): value for key, value in cell.items()}
        last_row, last_column = (int(attributes.get(f"number-{kind}-spanned", 1)) - 1 for kind in ("rows", "columns"))
        if last_row or last_column:
            look.merged.append(((row, column), (row + last_row, column + last_column)))
        shown = re.fullmatch(r"(\D*)(\d+)(\D*)", "".join(cell.itertext()))
        if attributes.get("value-type") == "float" and shown and shown[0] != attributes.get("value"):
            look.formats[row, column] = shown[1], len(shown[2]), shown[3]
        column += int(attributes.get("number-columns-repeated", 1))


def _elements(file: Any) -> Iterator[Element]:
    """The elements of an XML file, each when it ends."""
    return (element for event, element in iterate_xml(file) if event == "end")


def _local(tag: str) -> str:
    """A name without its namespace."""
    return tag.rpartition("}")[2]


def _letters(column: int) -> str:
    """The letters of a column, which is counted from 1."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
