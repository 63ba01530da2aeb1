"""The size of the sheets in an xlsx or ods, found before anything expands them: one cell can be a million rows away."""

import re
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path, PurePosixPath

from labelr.data.formats.elements import check_xml
from labelr.data.limits import Limits

MAX_COLUMNS = 16_384
"""Of Excel, LibreOffice and their formats."""
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
    columns = max(map(number_of_column, {name.decode() for name, _ in places}), default=0)
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


def number_of_column(letters: str) -> int:
    """The number of a column by its letters, counted from 1."""
    column = 0
    for letter in letters:
        column = 26 * column + ord(letter) - ord("A") + 1
    return column
