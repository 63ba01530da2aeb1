"""Tags: how a cell or text that holds several labels is split into them."""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from labelr.data.formats.words import MARKS, Mark
from labelr.data.limits import MAX_LITERAL
from labelr.errors import LabelrError

BOXES = re.compile(r"[\[(]\s*[\[(]|[\[(][-\d.,\s]*\.0*[1-9]")
"""The first characters of a list of lists, or of one with a number that is not whole, such as a box."""
NAME_KEYS = ("label", "name", "tag", "class", "category", "value")
"""The fields that name the tag of an object."""
SCORE_KEYS = ("confidence", "conf", "score", "probability", "prob")
"""The fields that say how likely it is."""
SEPARATORS = {"|": "`|`", ";": "`;`", ",": "`,`", " ": "spaces", "\n": "lines"}
PRESENT = 0.5
"""A label applies if it has at least this confidence."""


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
