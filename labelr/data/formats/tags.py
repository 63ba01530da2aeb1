"""Tables with all labels of an image in one cell, and how such a cell is split into tags."""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from labelr.data.formats.columns import Columns
from labelr.data.formats.confidences import PRESENT, Confidences, merge_rows, read_confidences, to_label_table
from labelr.data.formats.source import Source
from labelr.data.formats.words import LABEL_COLUMNS, MARKS, SPECIES_COLUMNS, Mark
from labelr.data.label_table import LabelTable, note_empty_images
from labelr.data.limits import MAX_LITERAL
from labelr.errors import LabelrError, preview

BOXES = re.compile(r"[\[(]\s*[\[(]|[\[(][-\d.,\s]*\.0*[1-9]")
"""The first characters of a list of lists, or of one with a number that is not whole, such as a box."""
NAME_KEYS = ("label", "name", "tag", "class", "category", "value")
"""The fields that name the tag of an object."""
SCORE_KEYS = ("confidence", "conf", "score", "probability", "prob")
"""The fields that say how likely it is."""
SEPARATORS = {"|": "`|`", ";": "`;`", ",": "`,`", " ": "spaces", "\n": "lines"}


def fits(source: Source) -> int:
    """Confidence that this is a table with a column of tags: 0, 1, or 2 where that column has a usual name."""
    if source.table is None or len(source.table.rows) < 2:
        return 0
    columns = source.columns
    if len(columns.chosen) > 1 or any(columns.table.holds_marks(number) for number in columns.chosen):
        return 0
    column = _tag_column(columns)
    if columns.has_repeats and not holds_lists(columns.table.column(column)):  # one row for each image and label
        return 0
    return 2 if columns.chosen or columns.table.keys[column] in LABEL_COLUMNS else 1


def read(source: Source) -> LabelTable:
    """The label table of a table of tags; rows of several annotators are joined by vote.

    Raises:
        LabelrError: If it is ambiguous how the cells are split, or rows of an image differ, unless they are skipped.
    """
    columns, options = source.columns, source.options
    table = columns.table
    column = _tag_column(columns)
    nameless = [number for number in columns.unassigned() if not table.header[number] and table.holds_text(number)]
    if nameless:
        raise LabelrError(
            f"{table.path}, row 1, column {nameless[0] + 1}: a column of words without a name",
            "name the column, or put cells that contain the separator in quotes",
        )
    invalid = columns.find_invalid()
    where = f'{table.path}, column "{table.header[column]}"'
    cells, separator = table.column(column), options.tag_separator
    if table.keys[column] in SPECIES_COLUMNS and not any(set(cell) & set("|;,\n") for cell in cells):
        separator = separator or "|"
    tags_of_rows, how = split_tags(cells, separator, where)
    has_lists = any(len(tags) > 1 for tags in tags_of_rows)  # then a number is no confidence of each of them
    confidences = Confidences.none(len(cells)) if has_lists else read_confidences(columns, column)
    confidences = confidences._replace(invalid={**confidences.invalid, **invalid})
    empty_is_known = options.blank != "unknown"
    annotations = merge_rows(columns, tags_of_rows, confidences, empty_is_known=empty_is_known)
    merged = {annotation.name: annotation for annotation in sorted(annotations, key=lambda one: bool(one.present))}
    meaning = "to which no label applies" if empty_is_known else "of which nothing is known"
    layout = f'tags in the column "{table.header[column]}"{how}{table.described}'
    notes = [*columns.notes([column, *confidences.columns]), *confidences.notes]
    notes += note_empty_images(merged.values(), "a tag", meaning)
    return to_label_table(columns, annotations, confidences, layout, notes, source.limits)


def _tag_column(columns: Columns) -> int:
    """The column of tags: the one with a usual name, else the only one of text; several may be equal."""
    table, candidates = columns.table, columns.label_columns
    if not candidates:
        raise LabelrError(
            f"{table.path} has no column of tags: {preview(table.header)}", "name the column with `--label-column NAME`"
        )
    cells = table.column(candidates[0])
    if any(table.column(column) != cells for column in candidates[1:]):
        names = [table.header[column] for column in candidates]
        raise LabelrError(
            f"{table.path}: labels may be in any of the columns {preview(names)}",
            columns.suggest_label_columns(candidates),
        )
    return candidates[0]


def split_tags(cells: Sequence[str], separator: str | None, where: str) -> tuple[list[list[str]], str]:
    """The tags of each cell, and a description of how they were split.

    Cells may be lists as JSON or Python write them, where others hold one tag; otherwise see `find_separator`, if no
    separator is given. Messages refer to the cells as `where`.

    Raises:
        LabelrError: If it is ambiguous what separates tags, or cells are boxes.
    """
    boxes = next(filter(BOXES.match, cells), "")
    if boxes and all(BOXES.match(cell) for cell in cells if cell):
        shown = f"{boxes[:40]}…" if len(boxes) > 40 else boxes
        raise LabelrError(
            f"{where}: {shown} is a list of numbers, such as boxes, and names no labels",
            "add a column of the labels of each image, and name it with `--label-column NAME`",
        )
    lists = [_parse_list(cell) for cell in cells]
    others = [cell for cell, tags in zip(cells, lists, strict=True) if tags is None]
    filled = [cell for cell in others if cell]
    are_lists = any(tags is not None and set("'\"") & set(cell) for cell, tags in zip(cells, lists, strict=True))
    if are_lists and separator is None and any(set("|;,") & set(cell) for cell in filled):
        separator = find_separator(filled, where)
        parts = _split(cells, separator)
        return [own if tags is None else tags for tags, own in zip(lists, parts, strict=True)], ""
    if len(others) < len(cells) and not any(set(SEPARATORS) & set(cell) - {" "} for cell in others):
        plain = [[cell] * (MARKS.get(cell.lower()) not in (Mark.BLANK, Mark.UNKNOWN)) for cell in cells]
        return [own if tags is None else tags for tags, own in zip(lists, plain, strict=True)], ""
    found = separator or find_separator(cells, where)
    tags = _split(cells, found)
    if found is None or all(len(own) < 2 for own in tags):
        return tags, ", one an image"
    return tags, f", separated by {SEPARATORS.get(found, f'`{found}`')}"


def _split(cells: Sequence[str], separator: str | None) -> list[list[str]]:
    """The parts of each cell between separators and line breaks; of None whole cells."""
    if separator is None:
        return [[cell] * bool(cell) for cell in cells]
    pattern = f"[{re.escape(separator)}\n]" if len(separator) == 1 else re.escape(separator)
    pieces = (cell.split() if separator == " " else re.split(pattern, cell) for cell in cells)
    return [[tag.strip() for tag in tags if tag.strip()] for tags in pieces]


def find_separator(cells: Sequence[str], where: str) -> str | None:
    """What separates the tags of cells; None where no cell seems to hold several.

    It is whichever of ``|``, ``;`` and ``,`` occurs, or line breaks. Spaces are separators only if the words are
    numbers or joined by ``_``, or if there are fewer words than distinct cells, so that words recur in combinations.

    Raises:
        LabelrError: If it is ambiguous.
    """
    candidates = [character for character in "|;," if any(character in cell for cell in cells)]
    if len(candidates) > 1:
        raise LabelrError(
            f"{where}: cells contain {' and '.join(SEPARATORS[candidate] for candidate in candidates)}, "
            "and any of them may separate tags",
            f'choose one, such as `--tag-separator "{candidates[0]}"`',
        )
    found = next((character for character in "|;,\n" if any(character in cell for cell in cells)), None)
    if found is None and any(" " in cell for cell in cells):
        distinct = set(cells) - {""}
        words = {word for cell in distinct for word in cell.split()}
        joined = any("_" in word for word in words) or all(word.isdecimal() for word in words)
        if len(words) >= len(distinct) and not joined:
            example = next(cell for cell in cells if " " in cell)
            raise LabelrError(
                f'{where}: "{example}" may be one label, or several that are separated by spaces',
                'use `--tag-separator " "` for spaces, or `--tag-separator "|"` for one label a cell',
            )
        found = " "
    return found


def holds_lists(cells: Sequence[str]) -> bool:
    """Whether a cell holds several tags: a list, or words between ``|``, ``;`` or ``,``."""
    return any(set("|;,") & set(cell) or _parse_list(cell) is not None for cell in set(cells))


def _parse_list(cell: str) -> list[str] | None:
    """The tags of a cell that holds a list as JSON, Python or NumPy write it; None for any other cell.

    Of an object in it, such as ``{"label": "dog"}``, it is the label; ``{"dog": 1, "cat": 0}`` has the tag ``dog``.
    """
    cell = re.sub(r"^(?:frozenset|set|list|tuple|array)\((.*)\)$", r"\1", cell, flags=re.DOTALL)
    if cell[:1] + cell[-1:] not in ("[]", "()", "{}"):
        return None
    if re.search(r"""['"]\s+['"]""", cell):  # NumPy writes no commas, and Python would concatenate two words
        quoted = re.findall(r"""'([^']*)'|"([^"]*)\"""", cell)
        return [tag for single, double in quoted if (tag := (single or double).strip())]
    for parse in (json.loads, ast.literal_eval):
        if parse is ast.literal_eval and len(cell) > MAX_LITERAL:
            raise LabelrError(f"a cell is a list of {len(cell):,} characters that is not JSON", "write it as JSON")
        with suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # for backslash escapes that Python does not know
            value = parse(cell)
            if isinstance(value, (dict, list, tuple, set)):
                return _tags_of(value)
    return None


def _tags_of(value: Any) -> list[str] | None:
    """The tags of a list of words, lists or objects, of an object, or of a word; None for other objects."""
    if isinstance(value, dict):
        return _tags_of_object(value)
    if not isinstance(value, (list, tuple, set)):
        return [str(value).strip()]
    tags: set[str] = set()
    for own in map(_tags_of, value):
        if own is None:
            return None
        tags.update(own)
    return sorted(tags - {""})


def _tags_of_object(fields: Mapping[Any, Any]) -> list[str] | None:
    """The tag that an object names, unless it is unlikely, or those that it marks with yes; None for another object."""
    named = next((fields[key] for key in NAME_KEYS if isinstance(fields.get(key), str)), None)
    if named is not None:
        confidence = next((fields[key] for key in SCORE_KEYS if isinstance(fields.get(key), (int, float))), 1)
        return [named.strip()] * (confidence >= PRESENT)
    marks = {str(tag).strip(): MARKS.get(str(mark).lower()) for tag, mark in fields.items()}
    return [tag for tag, mark in marks.items() if mark == Mark.YES] if None not in marks.values() else None
