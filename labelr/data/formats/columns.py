"""What the columns of a table hold: file names, groups, splits, labels or metadata."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from labelr.config import ReadOptions
from labelr.data.formats.table import Table
from labelr.data.images import has_image_suffix
from labelr.data.label_table import SPLIT_NAMES, normalize_name
from labelr.errors import LabelrError, preview, suggest


class Mark(IntEnum):
    """What a cell of a label column means."""

    NO, YES, BLANK, UNKNOWN, MINUS, OTHER = range(6)


_SPELLINGS = {
    Mark.YES: (
        "1", "1.0", "1,0", "true", "t", "yes", "y", "x", "✓", "✔", "wahr", "ja", "j", "vrai", "oui", "verdadero",
    ),
    Mark.NO: ("0", "0.0", "0,0", "false", "f", "no", "n", "falsch", "nein", "faux", "non", "falso"),
    Mark.BLANK: ("",),
    Mark.UNKNOWN: ("na", "nan", "null", "n/a", "?"),
    Mark.MINUS: ("-1", "-1.0"),
}  # fmt: skip
MARKS = {spelling: mark for mark, spellings in _SPELLINGS.items() for spelling in spellings}
"""What a cell of a label column may hold, in lower case; spreadsheets localise true and false."""

FILE_COLUMNS = (
    "filename", "file", "filepath", "imagename", "imagepath", "imagefile", "imagefilename", "imageindex", "image",
    "img", "imgname", "imgpath", "path", "sourcefile", "imageid", "photo", "name", "id", "key",
)  # fmt: skip
"""Names of the column of file names, the most certain first; like all names below as `column_key` normalizes them."""
CERTAIN_FILE_COLUMNS = FILE_COLUMNS[:8]
SPLIT_COLUMNS = frozenset({"split", "subset", "partition", "mluse"})
NUMBERS = frozenset({
    "age", "annotationid", "confidence", "depth", "filesize", "fold", "followup#", "height", "id", "index", "isvalid",
    "number", "partition", "patientid", "regioncount", "regionid", "score", "size", "subset", "width",
    "xmax", "xmin", "ymax", "ymin",
})  # fmt: skip
"""Columns of numbers, which may happen to be 0 and 1: not labels unless the user names them."""
TEXTS = frozenset({
    "annotator", "author", "caption", "comment", "comments", "completedat", "createdat", "date", "description",
    "group", "leadtime", "license", "note", "notes", "remark", "remarks", "sex", "source", "time", "timestamp", "title",
    "updatedat", "url", "user",
})  # fmt: skip
"""Columns of text that are not tags, and not labels if they are empty."""
PROBE_ROWS = 100


@dataclass(frozen=True)
class Columns:
    """The columns of a table with the file name, group and split of each row, by number.

    Attributes:
        table: The table.
        exclude: Names of columns that the user excludes.
        file: The column of file names.
        group: The column that the user names as groups; None without one.
        split: The column of splits; None without one.
    """

    table: Table
    exclude: tuple[str, ...]
    file: int
    group: int | None
    split: int | None

    @classmethod
    def find(cls, table: Table, options: ReadOptions, *, file: int | None = None) -> "Columns":
        """The columns of a table; `file` is found unless it is given.

        Raises:
            LabelrError: If there is no column of file names, or not the column of groups that the user names.
        """
        file = _find_file_column(table) if file is None else file
        return cls(table, options.exclude, file, _find_group_column(table, options.group), _find_split_column(table))

    @cached_property
    def names(self) -> list[str]:
        """The normalized file name of each row."""
        return [normalize_name(name) for name in self.table.column(self.file)]

    @property
    def groups(self) -> dict[str, str] | None:
        """The group of each image by its name; None without a column of groups."""
        return None if self.group is None else dict(zip(self.names, self.table.column(self.group), strict=True))

    def read_splits(self) -> list[str] | None:
        """The split of each row as train, val or test; None without a column of splits.

        Raises:
            LabelrError: If a cell holds anything else.
        """
        if self.split is None:
            return None
        cells = self.table.column(self.split)
        for row, cell in enumerate(cells):
            if cell.lower() not in SPLIT_NAMES:
                where = self.table.location(row, self.split)
                raise LabelrError(f'{where}: expected train, val or test, got "{cell}"', "correct the cell")
        return [SPLIT_NAMES[cell.lower()] for cell in cells]

    def has_repeats(self, rows: int) -> bool:
        """Whether an image occurs more than once in the first `rows` rows."""
        names = self.table.column(self.file, rows)
        return len(set(names)) < len(names)

    def named_or_text(self, names: Collection[str]) -> list[int]:
        """The columns with one of these names, else those of text that is not known to be metadata."""
        special = {self.file, self.group, self.split}
        free = [
            number
            for number, name in enumerate(self.table.header)
            if number not in special and name not in self.exclude
        ]
        named = [number for number in free if self.table.keys[number] in names]
        if named:
            return named
        metadata = columns_called(self.table, NUMBERS | TEXTS)
        return [n for n in free if n not in metadata and _holds_text(self.table.column(n, PROBE_ROWS))]

    def ignored_note(self, used: Collection[int]) -> list[str]:
        """A note that names the columns that are not used; empty if all are."""
        known = {self.file, self.group, self.split, *used}
        others = [name for number, name in enumerate(self.table.header) if number not in known and name]
        return [f"columns that hold no labels, ignored: {preview(others, 10)}"] if others else []

    def check_named(self) -> None:
        """Raises LabelrError where a row has no file name."""
        for row, name in enumerate(self.names):
            if not name:
                raise LabelrError(f"{self.table.location(row)}: no file name", "name the image, or delete the row")

    def check_unique(self) -> None:
        """Raises LabelrError where a row has no file name, or two rows have the same one."""
        self.check_named()
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            rows.setdefault(name, []).append(self.table.numbers[row + 1])
        repeated = {name: numbers for name, numbers in rows.items() if len(numbers) > 1}
        if repeated:
            listed = preview([f"{name} (rows {' and '.join(map(str, numbers))})" for name, numbers in repeated.items()])
            raise LabelrError(
                f"{self.table.path} lists {len(repeated):,} images more than once: {listed}",
                "keep one row for each image",
            )


def columns_called(table: Table, names: Collection[str]) -> set[int]:
    """The columns with one of these names, and a nameless one that counts the rows."""
    return {number for number, key in enumerate(table.keys) if key in names or (not key and _counts(table, number))}


def _counts(table: Table, number: int) -> bool:
    """Whether a column of several rows counts them, from 0 or 1."""
    cells = table.column(number)
    return len(cells) > 1 and any(cells == [str(first + row) for row in range(len(cells))] for first in (0, 1))


def _holds_text(cells: Sequence[str]) -> bool:
    """Whether cells hold words rather than marks or numbers."""
    filled = [cell for cell in cells if cell]
    words = [cell for cell in filled if cell.lower() not in MARKS and not re.fullmatch(r"[-+.\deE]+", cell)]
    return bool(filled) and 2 * len(words) > len(filled)


def _find_file_column(table: Table) -> int:
    """The column of file names: by a certain name, by cells with image suffixes, else by any common name.

    Raises:
        LabelrError: If there is none.
    """
    first = next((name for name in table.header if has_image_suffix(name)), None)
    if first is not None:
        raise LabelrError(
            f"{table.path} has no header: its first row names an image, {first}",
            "add a header: `filename`, and a name for each label",
        )
    named = [table.keys.index(key) for key in FILE_COLUMNS if key in table.keys]
    named += [number for number, name in enumerate(table.header) if name.lower().endswith("_file_name")]
    holding = [number for number in range(len(table.header)) if _holds_files(table.column(number, PROBE_ROWS))]
    certain = [number for number in named if table.keys[number] in CERTAIN_FILE_COLUMNS]
    for candidates in ([number for number in named if number in holding], certain, holding, named):
        if candidates:
            return candidates[0]
    raise LabelrError(
        f"{table.path} has no column of file names: {preview(table.header)}", "name that column `filename`"
    )


def _holds_files(cells: Sequence[str]) -> bool:
    return bool(cells) and all(has_image_suffix(cell) for cell in cells)


def _find_group_column(table: Table, name: str | None) -> int | None:
    if name is None:
        return None
    if name not in table.header:
        hint = suggest(name, table.header) or "name one of its columns with `--group`"
        raise LabelrError(f"{table.path} has no column {name!r}", hint)
    return table.header.index(name)


def _find_split_column(table: Table) -> int | None:
    """The column called `split` or similar, if most of its cells are names of splits."""
    for number, key in enumerate(table.keys):
        if key in SPLIT_COLUMNS:
            cells = [cell.lower() for cell in table.column(number)]
            if sum(cell in SPLIT_NAMES for cell in cells) > len(cells) / 2:
                return number
    return None
