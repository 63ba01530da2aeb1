"""Spreadsheets, Parquet and Feather files, and DataFrames: their cells as the text that people see."""

import json
import re
import shlex
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

from labelr import files
from labelr.data.formats.archives import Range, check_archive, look_at
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
MAX_EXACT = 2.0**53
"""From here on, the numbers of spreadsheets are rounded."""


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


def table_of_frame(frame: "pd.DataFrame", path: Path, origin: str = "") -> Table:
    """The cells of a DataFrame; its index is a column unless it only counts the rows.

    Args:
        frame: The DataFrame.
        path: What messages call it.
        origin: What descriptions call it.

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
    return Table(path, rows, list(range(len(rows))), origin=origin)


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
        look = look_at(content, name)
    except (CalamineError, ValueError, ExpatError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it is protected by a password" if isinstance(error, PasswordError) else error
        raise LabelrError(f"{path} cannot be read: {reason}", "save it again, or save the sheet as CSV") from error
    rows = [list(map(cell_text, own)) for own in values]
    for (row, column), (before, width, after) in look.formats.items():
        if row < len(rows) and column < len(rows[row]) and rows[row][column].isdigit():
            rows[row][column] = f"{before}{rows[row][column].zfill(width)}{after}"
    look.merged = [*ranges, *look.merged]
    limits.check_cells(path, sum(min(end, len(rows)) - start for (start, _), (end, _) in look.merged), "merged cells")
    _fill_merged(rows, look.merged)
    numbers = [number for number, cells in enumerate(rows, start=1) if any(cells)]
    if not numbers:
        raise LabelrError(f"{path}: the sheet {name!r} is empty", "name another one with `--sheet NAME`")
    return Table(
        path, [rows[number - 1] for number in numbers], numbers, origin=f'sheet "{name}"',
        notes=(*notes, *look.notes(rows)), rounded=_rounded_columns(values), uncomputed=tuple(look.uncomputed),
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
    if wanted is not None and wanted not in names:
        raise LabelrError(f"{path} has no sheet {wanted!r}", f"its sheets are {preview(names, 10)}")
    sheets = [
        book.get_sheet_by_name(name) for name in names if name == wanted or (wanted is None and name not in hidden)
    ]
    for sheet in sheets:
        limits.check_cells(path, sheet.total_height * sheet.total_width, f'cells in the sheet "{sheet.name}"')
    if wanted is not None:
        return sheets[0], []
    filled = [sheet for sheet in sheets if sheet.end]
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


def _fill_merged(rows: list[list[str]], ranges: Sequence[Range]) -> None:
    """Copies the value of merged cells into all rows of their first column."""
    for (top, left), (bottom, _) in ranges:
        for row in range(top + 1, min(bottom + 1, len(rows))):
            if left < len(rows[row]):
                rows[row][left] = rows[top][left]
