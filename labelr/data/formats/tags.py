"""Tags: how a cell or text that holds several labels is split into them."""

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from labelr.data.formats.words import LABEL_IDS, MARKS, NUMBERS, STATUS_WORDS, Mark, column_key
from labelr.data.limits import MAX_LITERAL
from labelr.errors import LabelrError, preview

BOXES = re.compile(r"[\[(]\s*[\[(]|[\[(][-\d.,\s]*\.0*[1-9]")
"""The first characters of a list of lists, or of one with a number that is not whole, such as a box."""
BETWEEN_OBJECTS = re.compile(r"\}\s*[;,]\s*\{")
BROKEN = re.compile(r"""[\[{]\s*\{?\s*['"]""")
"""The first characters of a list or object of texts, for a cell that cannot be parsed as one."""
NAME_KEYS = (
    "label", "name", "tag", "class", "category", "tagname", "classname", "displayname", "description", "title", "value"
)  # fmt: skip
"""The fields that name the tag of an object, as `column_key` has them."""
NUMBER_KEYS = ("label", "class", "category", *LABEL_IDS, "categoryid")
"""The fields that do so by the number of a class."""
SCORE_KEYS = ("confidence", "conf", "score", "probability", "prob")
"""The fields that say how likely it is, as does a number in `value`."""
NO_LABELS = NUMBERS | {*SCORE_KEYS, "h", "left", "top", "w", "x", "y"}
"""The fields of numbers that are no scores of labels, such as those of a box."""
SEPARATORS = {"|": "`|`", ";": "`;`", ",": "`,`", " ": "spaces", "\n": "lines"}
PRESENT = 0.5
"""A label applies if it has at least this confidence."""


def split_tags(cells: Sequence[str], separator: str | None, where: str) -> tuple[list[list[str]], str]:
    """The tags of each cell, and a description of how they were split.

    Cells may be lists as JSON or Python write them, where others hold one tag; otherwise see `find_separator`, if no
    separator is given. Messages refer to the cells as `where`.

    Raises:
        LabelrError: If it is ambiguous what separates tags, or cells are boxes, or objects without a tag.
    """
    boxes = next(filter(BOXES.match, cells), "")
    if boxes and all(BOXES.match(cell) for cell in cells if cell):
        raise LabelrError(
            f"{where}: {_shorten(boxes)} is a list of numbers, such as boxes, and names no labels",
            "add a column of the labels of each image, and name it with `--label-column NAME`",
        )
    try:
        lists = [None if (value := _parse(cell)) is None else _tags_of(value) for cell in cells]
    except LabelrError as error:
        raise LabelrError(f"{where}: {error.message}", error.hint) from error
    for cell, parsed in zip(cells, lists, strict=True):
        if parsed is None and BROKEN.match(cell):
            raise LabelrError(f"{where}: {_shorten(cell)} cannot be parsed as JSON", "correct or complete the cell")
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


def _shorten(cell: str) -> str:
    return f"{cell[:40]}…" if len(cell) > 40 else cell


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
    return any(set("|;,") & set(cell) or _parse(cell) is not None for cell in set(cells))


def _parse(cell: str) -> Any:
    """The list or object that a cell holds as JSON, Python or NumPy write it; None for any other cell.

    Several objects may be between commas or semicolons alone.
    """
    cell = re.sub(r"^(?:frozenset|set|list|tuple|array)\((.*)\)$", r"\1", cell, flags=re.DOTALL)
    if cell[:1] + cell[-1:] not in ("[]", "()", "{}"):
        return None
    if re.search(r"""['"]\s+['"]""", cell):  # NumPy writes no commas, and Python would concatenate two words
        return [single or double for single, double in re.findall(r"""'([^']*)'|"([^"]*)\"""", cell)]
    if cell[0] == "{":
        cell = BETWEEN_OBJECTS.sub("}, {", cell)
    for parse in (json.loads, lambda text: json.loads(f"[{text}]"), ast.literal_eval):
        if parse is ast.literal_eval and len(cell) > MAX_LITERAL:
            raise LabelrError(f"a cell is a list of {len(cell):,} characters that is not JSON", "write it as JSON")
        with suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # for backslash escapes that Python does not know
            value = parse(cell)
            if isinstance(value, (dict, list, tuple, set)):
                return value
    return None


def _tags_of(value: Any) -> list[str]:
    """The tags of a list of words, lists or objects, of an object, or of a word; a LabelrError for other objects."""
    if isinstance(value, dict):
        tags = tags_of_object(value)
        if tags is None:
            what = f"an object with the keys {preview([*value])} names no label"
            raise LabelrError(what, "name the label of each object in a field `label`")
        return tags
    if not isinstance(value, (list, tuple, set)):
        return [str(value).strip()]
    return sorted({tag for item in value for tag in _tags_of(item)} - {""})


def tags_of_object(fields: Mapping[Any, Any]) -> list[str] | None:
    """The tag that an object such as ``{"label": "dog"}`` names, unless it is unlikely, or those it marks or scores.

    In ``{"dog": 1, "cat": 0}`` and ``{"dog": 0.9, "cat": 0.1}`` this is ``dog``. None for any other object.

    Raises:
        LabelrError: If a score is not in ``[0, 1]``.
    """
    known = {column_key(str(key)): value for key, value in fields.items()}
    named = next((known[key] for key in NAME_KEYS if isinstance(known.get(key), str)), None)
    if named is None:
        named = next((str(known[key]) for key in NUMBER_KEYS if type(known.get(key)) is int), None)
    if named is not None:
        value = known.get("value")
        scores = [known[key] for key in SCORE_KEYS if known.get(key) is not None]
        scores += [value] * isinstance(value, (int, float))
        return [named.strip()] * (not scores or _score(scores[0]) >= PRESENT)
    marks = {str(tag).strip(): MARKS.get(str(mark).lower()) for tag, mark in fields.items()}
    if None not in marks.values() and known.keys().isdisjoint(SCORE_KEYS):
        return [tag for tag, mark in marks.items() if mark == Mark.YES]
    if all(isinstance(score, (int, float)) for score in fields.values()) and known.keys().isdisjoint(NO_LABELS):
        return [str(tag).strip() for tag, score in fields.items() if _score(score) >= PRESENT]
    return None


def _score(value: Any) -> float:
    """The score of a tag in ``[0, 1]``; a LabelrError for anything else, such as a percentage."""
    score = parse_confidence(str(value))
    if math.isnan(score):
        raise LabelrError(f"expected a score from 0 to 1, got {value!r}", "divide percentages by 100")
    return score


def parse_confidence(cell: str) -> float:
    """The value of a cell in ``[0, 1]``; NaN for anything else."""
    if cell.lower() in STATUS_WORDS:
        return STATUS_WORDS[cell.lower()]
    code = MARKS.get(cell.lower())
    try:
        value = float(code == Mark.YES) if code in (Mark.YES, Mark.NO) else float(cell.replace(",", ".") or 1)
    except ValueError:
        return math.nan
    return value if 0 <= value <= 1 else math.nan
