"""Tables with all labels of an image in one cell, and how such a cell is divided."""

import ast
import json
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from labelr.config import ReadOptions
from labelr.data.formats.sheet import (
    NUMBERS,
    PROBE_ROWS,
    TEXTS,
    Sheet,
    check_unique,
    columns_called,
    find_file_column,
    find_group_column,
    find_part_column,
    read_parts,
)
from labelr.data.formats.source import Source
from labelr.data.formats.wide import MARKS
from labelr.data.label_table import Annotation, LabelTable, normalize_name
from labelr.errors import LabelrError, preview

TAG_COLUMNS = frozenset({
    "attributeids", "attributes", "categories", "category", "choice", "choices", "class", "classes",
    "findinglabels", "genre", "genres", "keywords", "label", "labels", "subject", "tag", "tags", "target", "targets",
})  # fmt: skip
"""What a column of tags is called, in lower case without spaces, `_` and `-`."""
SEPARATORS = {"|": "`|`", ";": "`;`", ",": "`,`", " ": "spaces", "\n": "lines"}


def fits(source: Source) -> int:
    """Whether this is a table with a column of tags: 0 no, 1 it may be, 2 it is, by that column's name."""
    sheet = source.sheet
    if sheet is None or len(sheet.rows) < 2:
        return 0
    try:
        file_column = find_file_column(sheet)
        column = _tag_column(sheet, file_column, source.options)
    except LabelrError:
        return 0
    names = sheet.column(file_column, 2 * PROBE_ROWS)
    if len(set(names)) < len(names):  # one row an image and label
        return 0
    return 2 if sheet.keys[column] in TAG_COLUMNS else 1


def read(source: Source) -> LabelTable:
    """The records of a table of tags.

    Raises:
        LabelrError: If the cells cannot be divided without a guess.
    """
    sheet, options = source.table, source.options
    sheet.check_shape()
    file_column = find_file_column(sheet)
    column = _tag_column(sheet, file_column, options)
    names = [normalize_name(name) for name in sheet.column(file_column)]
    check_unique(sheet, names)
    divided, how = divide(sheet.column(column), options.tag_separator, f'{sheet.path}, column "{sheet.header[column]}"')
    group, part = find_group_column(sheet, options.group), find_part_column(sheet)
    parts = read_parts(sheet, part) or [""] * len(names)
    empty = options.blank == "unknown"
    entries = [
        Annotation(name, tags, split=part_name, complete=bool(tags) or not empty)
        for name, tags, part_name in zip(names, divided, parts, strict=True)
    ]
    used = {file_column, column, group, part}
    records = LabelTable.of(
        entries,
        f'tags in the column "{sheet.header[column]}"{how}{sheet.separated}',
        notes=[*sheet.left_out(used), *_notes(divided, empty)],
    )
    return records if group is None else replace(records, groups=tuple(sheet.column(group)))


def _notes(divided: Sequence[Sequence[str]], empty_is_unknown: bool) -> list[str]:
    num_empty = sum(not tags for tags in divided)
    meaning = "of which nothing is known" if empty_is_unknown else "to which no label applies"
    return [f"images without a tag, {meaning}: {num_empty:,}"] if num_empty else []


def _tag_column(sheet: Sheet, file_column: int, options: ReadOptions) -> int:
    """The column of tags: the one that is called so, else the only one of text.

    Raises:
        LabelrError: If there is none, or several that differ.
    """
    candidates = tag_columns(sheet, file_column, options)
    if not candidates:
        raise LabelrError(f"{sheet.path} has no column of tags: {preview(sheet.header)}", "call it `tags`")
    cells = sheet.column(candidates[0])
    if any(sheet.column(column) != cells for column in candidates[1:]):
        names = [sheet.header[column] for column in candidates]
        raise LabelrError(
            f"{sheet.path}: tags may stand in any of the columns {preview(names)}",
            f"leave the others out, such as with `--exclude {names[-1]}`",
        )
    return candidates[0]


def tag_columns(sheet: Sheet, file_column: int, options: ReadOptions) -> list[int]:
    """The columns that are called as tags are, else those of text."""
    special = {file_column, find_part_column(sheet), find_group_column(sheet, options.group)}
    columns = [
        column for column, name in enumerate(sheet.header) if column not in special and name not in options.exclude
    ]
    named = [column for column in columns if sheet.keys[column] in TAG_COLUMNS]
    metadata = columns_called(sheet, NUMBERS | TEXTS)
    return named or [
        column for column in columns if column not in metadata and holds_text(sheet.column(column, PROBE_ROWS))
    ]


def holds_text(cells: Sequence[str]) -> bool:
    """Whether cells hold words rather than marks or numbers."""
    filled = [cell for cell in cells if cell]
    words = [cell for cell in filled if cell.lower() not in MARKS and not re.fullmatch(r"[-+.\deE]+", cell)]
    return bool(filled) and 2 * len(words) > len(filled)


def divide(cells: Sequence[str], separator: str | None, where: str) -> tuple[list[list[str]], str]:
    """The tags of each cell, and how they were divided, in words.

    Cells may be lists as JSON or Python write them. Else see `find_separator`.

    Args:
        cells: N cells.
        separator: What divides them; None finds it out.
        where: How messages name the cells.

    Raises:
        LabelrError: If it is open what divides tags.
    """
    lists = [_as_list(cell) if cell else [] for cell in cells]
    if any(cells) and all(one is not None for one in lists):
        return [one or [] for one in lists], ""
    found = separator or find_separator(cells, where)
    if found is None:
        return [[cell] * bool(cell) for cell in cells], ", one an image"
    how = f", divided by {SEPARATORS.get(found, f'`{found}`')}"
    parts = (
        cell.split()
        if found == " "
        else re.split(f"[{re.escape(found)}\n]" if len(found) == 1 else re.escape(found), cell)
        for cell in cells
    )
    return [[tag.strip() for tag in tags if tag.strip()] for tags in parts], how


def find_separator(cells: Sequence[str], where: str) -> str | None:
    """What divides the tags of cells; None where no cell may hold several.

    ``|``, ``;`` or ``,`` does, whichever is in any, or line breaks. Spaces do only where words are numbers or joined by
    ``_``, or where there are fewer words than cells with different content, as then the same words come again in other
    company.

    Args:
        cells: N cells.
        where: How messages name the cells.

    Raises:
        LabelrError: If it is open.
    """
    several = [one for one in "|;," if any(one in cell for cell in cells)]
    if len(several) > 1:
        raise LabelrError(
            f"{where}: {' and '.join(SEPARATORS[one] for one in several)} stand in cells, and either may divide tags",
            f'say which, with `--tag-separator "{several[0]}"`',
        )
    found = next((one for one in "|;,\n" if any(one in cell for cell in cells)), None)
    if found is None and any(" " in cell for cell in cells):
        distinct = set(cells) - {""}
        words = {word for cell in distinct for word in cell.split()}
        joined = any("_" in word for word in words) or all(word.isdecimal() for word in words)
        if len(words) >= len(distinct) and not joined:
            example = next(cell for cell in cells if " " in cell)
            raise LabelrError(
                f'{where}: "{example}" may be one label or several that spaces divide',
                'say what divides tags, with `--tag-separator " "`, or `--tag-separator "|"` if nothing does',
            )
        found = " "
    return found


def _as_list(cell: str) -> list[str] | None:
    """The tags of a cell that holds a list as JSON, Python or NumPy write it; None for any other."""
    if cell[:1] + cell[-1:] not in ("[]", "()", "{}"):
        return None
    if re.search(r"""['"]\s+['"]""", cell):  # NumPy writes no commas, and Python would take two words as one
        quoted = re.findall(r"""'([^']*)'|"([^"]*)\"""", cell)
        return [tag for first, second in quoted if (tag := (first or second).strip())]
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # a backslash that Python does not know
            value = parse(cell)
            if isinstance(value, (list, tuple, set)):
                return sorted({str(tag).strip() for tag in value} - {""})
    return None
