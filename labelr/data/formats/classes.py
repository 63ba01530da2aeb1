"""Several columns of classes: a row for each image, and a label for each word of a column, such as ``season=Fall``."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from labelr.data.formats import wide
from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.tags import split_tags
from labelr.data.formats.words import Mark
from labelr.data.label_table import LabelTable, Targets, repeated_names
from labelr.errors import LabelrError, pluralize, preview

DESCRIPTION = "classes in the columns"
SLOT_NUMBER = re.compile(r"[\s_.-]*\d+$")
"""The end of the name of one of several equal columns, such as ``label2`` beside ``label1``."""


def fits(source: Source) -> int:
    """Confidence that the user names several columns, of which some hold words: 0 or 3."""
    if source.table is None or len(source.options.label_column) < 2:
        return 0
    columns = source.columns
    return 0 if all(columns.table.holds_marks(number) for number in columns.chosen) else 3


def read(source: Source) -> LabelTable:
    """The label table of columns of classes; a column of marks is a label itself, as in a wide table.

    Where the cell of a column of words is empty, the labels of that column are unknown. Columns that differ only in a
    number are slots for labels of one kind, which have no column name before them; where all of them are empty, none
    of these labels applies.

    Raises:
        LabelrError: If no columns are named, a cell of marks is neither a mark nor empty, or rows of an image differ,
            unless such rows are skipped.
    """
    columns, options = source.columns, source.options
    table = columns.table
    chosen = _named_columns(columns)
    if not chosen:
        raise LabelrError(f"{table.path}: the columns of classes are not named", "use `--label-column` for each")
    invalid = columns.find_invalid()
    marks = mark_columns(columns)
    targets_of_marks, assumptions, invalid_cells = wide.read_targets(table, marks, options)
    invalid = {**invalid, **invalid_cells}
    labels: list[str] = []
    blocks: list[Targets] = []
    for numbers in _properties(columns, chosen, marks.columns):
        if numbers[0] in marks.columns:
            own, targets = [table.header[numbers[0]]], targets_of_marks[:, [marks.columns.index(numbers[0])]]
        else:
            own, targets = _read_words(columns, numbers, source)
        labels += own
        blocks.append(targets)
    _check_labels(table.path.name, labels)
    layout = f"{DESCRIPTION} {', '.join(table.header[number] for number in chosen)}{table.described}"
    notes = [*columns.notes(chosen), *assumptions]
    return columns.label_table(layout, labels, np.concatenate(blocks, axis=1), notes, invalid)


def mark_columns(columns: Columns) -> wide.Marks:
    """Those of the named columns that hold marks."""
    return wide.marks_in(columns.table, list(filter(columns.table.holds_marks, _named_columns(columns))))


def _named_columns(columns: Columns) -> list[int]:
    """The columns that the user names and does not exclude, each once."""
    named = dict.fromkeys(columns.chosen)
    return [number for number in named if columns.table.header[number] not in columns.options.exclude]


def _properties(columns: Columns, chosen: Sequence[int], marked: Sequence[int]) -> list[list[int]]:
    """The named columns in their order, those of words together that differ only in a number."""
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number in chosen:
        name = columns.table.header[number]
        stem = (SLOT_NUMBER.sub("", name) or name).casefold()
        found[(number, "") if number in marked else (-1, stem)].append(number)
    return list(found.values())


def _read_words(columns: Columns, numbers: Sequence[int], source: Source) -> tuple[list[str], Targets]:
    """The labels of a column, or of several slots, and their targets, shape ``(N, labels)``."""
    table, options = columns.table, source.options
    is_slots = len(numbers) > 1
    prefix = "" if is_slots else f"{table.header[numbers[0]]}="
    words: list[set[str]] = [set() for _ in columns.names]
    is_unknown = np.zeros(len(words), dtype=bool)
    for number in numbers:
        cells = table.column(number)
        unknown = [table.marks.get(cell.lower()) == Mark.UNKNOWN for cell in cells]
        filled = ["" if is_na else cell for cell, is_na in zip(cells, unknown, strict=True)]
        has_lists = any(set(cell) & set("|;,\n") for cell in filled)
        separator = options.tag_separator or (None if has_lists else "|")  # words may have spaces
        tags, _ = split_tags(filled, separator, f'{table.path}, column "{table.header[number]}"')
        is_unknown |= np.array(unknown, dtype=bool)
        for own, found in zip(words, tags, strict=True):
            own.update(found)
    if options.blank == "unknown" or (options.blank == "auto" and not is_slots):
        is_unknown[:] = True
    labels = sorted(set().union(*words))
    source.limits.check_targets(len(words), labels)
    place = {label: column for column, label in enumerate(labels)}
    targets = np.zeros((len(words), len(labels)), dtype=np.float32)
    for row, own in enumerate(words):
        targets[row, [place[label] for label in own]] = 1
    targets[is_unknown & np.array([not own for own in words], dtype=bool)] = np.nan
    return [f"{prefix}{label}" for label in labels], targets


def _check_labels(file: str, labels: Sequence[str]) -> None:
    repeated = repeated_names(labels)
    if repeated:
        raise LabelrError(
            f"{file} has {pluralize(len(repeated), 'label')} in several of the columns: {preview(repeated)}",
            "rename a column",
        )
