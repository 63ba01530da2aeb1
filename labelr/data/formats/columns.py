"""What the columns of a table hold: file names, groups, splits, annotators, labels; and which rows are invalid."""

import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from labelr.config import ReadOptions
from labelr.data.formats import words
from labelr.data.formats.arrange import arrange
from labelr.data.formats.table import PROBE_ROWS, Table
from labelr.data.formats.words import MARKS, column_key
from labelr.data.label_table import SPLIT_NAMES, LabelTable, Targets, is_from_python, normalize_name
from labelr.data.match_images import plain_path
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, pluralize, preview, suggest

MOST = 0.8
"""A column whose filled cells name images in at least this share holds the file names, if no other one is likelier."""
RUNS = re.compile(r"\d{1,15} \d{1,15}( \d{1,15} \d{1,15})*", re.ASCII)
"""Pairs of whole numbers, as the starts and lengths of a run-length encoding."""
MAX_CLASS, MAX_ID = 1_000, 10_000
"""Greater numbers are hardly those of classes, and rarely ids of labels."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table with the file name, group and split of each row, by number.

    Attributes:
        table: The table, with rows as wide as the header and without copies of rows.
        options: How the table is read.
        file: The column of file names.
        names: The normalized file name of each row, with its folder.
        group: The column that the user names as groups; None without one.
        split: The column of splits; None without one.
        annotator: The column that the user names as that of the annotators; None without one.
        chosen: The columns that the user names as labels; empty if labelr may choose.
        others: Further columns that are assigned: those of folders.
        copies: The numbers of the rows that were left out because an earlier row has the same cells.
    """

    table: Table
    options: ReadOptions
    file: int
    names: list[str]
    group: int | None
    split: int | None
    annotator: int | None
    chosen: tuple[int, ...]
    others: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()

    @classmethod
    def find(
        cls,
        table: Table,
        options: ReadOptions,
        *,
        file: int | None = None,
        is_image: Callable[[str], bool] = has_image_suffix,
    ) -> "Columns":
        """The columns of a table; `file` is found unless it is given, if need be by the images that `is_image` knows.

        Raises:
            LabelrError: If there are no rows, no column of file names, or no column that the user names.
        """
        table = arrange(table, options)
        folders: list[int] = []
        if options.image_column:
            *folders, file = (_column_named(table, name, "--image-column") for name in options.image_column)
        elif file is None:
            file, *others = _find_file_columns(table, is_image)
            table = _note_other_names(table, file, others)
            folders = _folder_columns(table, file)
        if table.rounded.intersection((*folders, file)):
            raise LabelrError(
                f'{table.path}, column "{table.header[file]}": spreadsheets round numbers of more than 15 digits',
                "store such ids as text, or save the table as CSV where they come from",
            )
        paths = zip(*(table.column(number) for number in (*folders, file)), strict=True)
        names = [normalize_name("/".join(filter(None, path)) if path[-1] else "") for path in paths]
        if folders and not options.image_column:
            joined = " and ".join(f'"{table.header[number]}"' for number in (*folders, file))
            table = replace(table, notes=(*table.notes, f"file names are joined from the columns {joined}"))
        if table.header[file] in options.label_column:
            raise LabelrError(
                f'{table.path}: the column "{table.header[file]}" holds the file names',
                "name a column of labels with `--label-column`, or another one of file names with `--image-column`",
            )
        kept = _first_rows(table, names)
        group, annotator = (
            None if name is None else _column_named(table, name, option)
            for name, option in ((options.group, "--group"), (options.annotator, "--annotator"))
        )
        return cls(
            table if len(kept) == len(names) else table.take(kept), options, file,
            [names[row] for row in kept], group, _find_split_column(table), annotator,
            tuple(_column_named(table, name, "--label-column") for name in options.label_column),
            tuple(folders), tuple(table.numbers[row + 1] for row in sorted({*range(len(names))} - {*kept})),
        )  # fmt: skip

    @property
    def groups(self) -> dict[str, str] | None:
        """The group of each image by its name; None without a column of groups."""
        return None if self.group is None else dict(zip(self.names, self.table.column(self.group), strict=True))

    @cached_property
    def judges(self) -> list[str]:
        """Who judged the image of each row; empty without such a column."""
        return [""] * len(self.names) if self.annotator is None else self.table.column(self.annotator)

    @cached_property
    def splits(self) -> list[str]:
        """The split of each row as train, val or test, empty where it is another word; all empty without a column."""
        if self.split is None:
            return [""] * len(self.names)
        cells = [cell.lower() for cell in self.table.column(self.split)]
        has_val = any(SPLIT_NAMES.get(cell) == "val" and cell != "eval" for cell in {*cells})
        return ["test" if has_val and cell == "eval" else SPLIT_NAMES.get(cell, "") for cell in cells]

    @cached_property
    def has_repeats(self) -> bool:
        """Whether an image has several rows that are not copies, and no column says who judged it in each."""
        return self.annotator is None and len(set(self.names)) < len(self.names)

    def unassigned(self) -> list[int]:
        """The columns that hold neither file names nor groups, splits or annotators."""
        assigned = {self.file, self.group, self.split, self.annotator, *self.others}
        return [number for number in range(len(self.table.header)) if number not in assigned]

    @cached_property
    def free(self) -> list[int]:
        """Those of the unassigned columns that the user does not exclude."""
        return [number for number in self.unassigned() if self.table.header[number] not in self.options.exclude]

    def metadata(self, names: frozenset[str] = words.NUMBERS | words.TEXTS) -> set[int]:
        """The columns that are not labels by their names, those without a name of their own included."""
        numbered = {number for number, name in enumerate(self.table.header) if words.NUMBERED.fullmatch(name.lower())}
        return self.table.columns_called(names) | numbered

    def has_words_called(self, names: Collection[str]) -> bool:
        """Whether a column with one of these names, which the user does not exclude, holds words."""
        free = {*self.free} & self.table.columns_called(names)
        return not self.chosen and any(map(self.table.holds_text, free))

    @cached_property
    def label_columns(self) -> list[int]:
        """The columns that may hold labels as text: those that the user names, or called in `LABEL_COLUMNS`, or others.

        A column of common names is preferred to the scientific ones beside it; columns of metadata and of runs of
        pixels are left out. Numbers of classes are labels if nothing else is.
        """
        if self.chosen:
            return list(self.chosen)
        keys, free = self.table.keys, [number for number in self.free if not self._holds_runs(number)]
        named = [number for name in words.LABEL_COLUMNS for number in free if keys[number] == name]
        if named:
            return named[:1] if keys[named[0]] in words.COMMON_NAMES else named
        metadata = self.metadata(words.NUMBERS | words.TEXTS | words.ANNOTATOR_COLUMNS)
        texts = [number for number in free if number not in metadata and self.table.holds_text(number)]
        letters = self.table.columns_called(words.LETTERS)
        ids = [number for name in words.LABEL_IDS for number in free if keys[number] == name]
        has_marks = any(self.table.holds_marks(number) for number in free if number not in {*ids, *metadata})
        return [number for number in texts if number not in letters] or texts or ([] if has_marks else ids)

    def _holds_runs(self, number: int) -> bool:
        """Whether a column holds runs of pixels, as run-length encodings of masks such as ``100 1 200 3`` are.

        The cells are pairs of a start and a length, each run behind the one before, or numbers too large for classes.
        Class numbers may be so by chance: then they are sorted, or there are two in each cell.
        """
        cells = [cell for cell in self.table.column(number, PROBE_ROWS) if cell.lower() not in MARKS]
        if not cells or not all(map(RUNS.fullmatch, cells)):
            return False
        numbers = [list(map(int, cell.split())) for cell in cells]
        largest = max(map(max, numbers))
        has_several = any(len(values) > 2 for values in numbers) or largest > MAX_CLASS
        are_runs = largest > MAX_ID or (has_several and all(map(_are_runs, numbers)))
        return are_runs and any(values != sorted(values) for values in numbers)

    def label_table(
        self, layout: str, labels: Sequence[str], targets: Targets, notes: Iterable[str], invalid: Mapping[int, str]
    ) -> LabelTable:
        """The label table of the rows, whose targets have shape ``(N, L)``, without the invalid ones."""
        kept = [row for row in range(len(self.names)) if row not in invalid]
        return LabelTable.of_rows(
            layout,
            [self.names[row] for row in kept],
            labels,
            targets[kept],
            groups=self.groups,
            splits=[self.splits[row] for row in kept],
            notes=notes,
            invalid=[*self.table.invalid.values(), *invalid.values()],
            aside=[*self.table.aside, *(self.names[row] for row in invalid if self.names[row])],
        )

    def notes(self, used: Collection[int]) -> list[str]:
        """What was assumed of the table: also on copies of rows, and on the columns that are not used."""
        copies = f"rows with the same cells as an earlier row, counted once: {len(self.copies):,}"
        used = frozenset(used)
        others = [number for number in self.free if number not in used and self.table.header[number]]
        classes = [self.table.header[number] for number in others if self._holds_classes(number)]
        is_advised = bool(classes) and not any(map(self.table.holds_text, used))  # beside columns of marks alone
        advice = f" (their words are labels with `--label-column {shlex.quote(classes[0])}`)" if is_advised else ""
        splits = [self.table.header[number] for number in others if self.split is None and self._holds_splits(number)]
        if splits:
            advice = f" (`--splits {shlex.quote(str(self.table.path))}` takes the split from {splits[0]})"
        names = preview([self.table.header[number] for number in others], 10)
        ignored = f"columns that hold no labels, ignored: {names}{advice}"
        return [*self.table.notes, *[copies] * bool(self.copies), *[ignored] * bool(others)]

    def _holds_splits(self, number: int) -> bool:
        """Whether a column of a file holds the names of several splits and nothing else."""
        cells = {cell.lower() for cell in self.table.column(number)}
        return len(cells) > 1 and cells <= SPLIT_NAMES.keys() and not is_from_python(self.table.path)

    def _holds_classes(self, number: int) -> bool:
        """Whether a column has words that recur, as labels do."""
        cells = [cell for cell in self.table.column(number, 10 * PROBE_ROWS) if cell]
        is_text = number not in self.metadata() and self.table.holds_text(number)
        return is_text and 1 < len(set(cells)) <= len(cells) / 2

    def suggest_label_columns(self, candidates: Sequence[int]) -> str:
        """How the user says which of some columns hold labels: one with a usual name, or with many words that recur."""
        cells = {number: [cell for cell in self.table.column(number) if cell] for number in candidates}
        distinct = {number: len(set(values)) for number, values in cells.items()}
        usual = [n for n in candidates if 1 < distinct[n] <= len(cells[n]) / 2] or list(candidates)
        best = min(usual, key=lambda number: (self.table.keys[number] not in words.LABEL_COLUMNS, -distinct[number]))
        name, example = self.table.header[best], next(iter(cells[best]), "")
        return (
            f"name the column with `--label-column {shlex.quote(name)}`, or several, whose labels are then called as "
            f'in "{name}={example}"'
        )

    def find_invalid(self, *, unique: bool = True) -> dict[int, str]:
        """The rows without a file name or with an unknown split, and those that differ for an image, with the reasons.

        Args:
            unique: Whether an image may have one row only, unless a column names the annotators.

        Raises:
            LabelrError: If there are any, or rows of another width than the header, unless they are skipped.
        """
        table, ragged = self.table, self.table.invalid.values()
        invalid = {row: f"{table.location(row)}: no file name" for row, name in enumerate(self.names) if not name}
        if self.split is not None:
            for row in (row for row, split in enumerate(self.splits) if not split):
                cell = table.body[row][self.split]
                invalid[row] = f'{table.location(row, self.split)}: expected train, val or test, got "{cell}"'
        reasons = [*ragged, *invalid.values()]
        if reasons and (not self.options.skip_invalid or len(invalid) == len(self.names)):
            more = f" ({pluralize(len(reasons) - 1, 'more row')} that cannot be read)" if len(reasons) > 1 else ""
            remedy = "correct the row"
            if "as in the header" in reasons[0]:
                remedy = "put cells that contain the separator in quotes"
            elif table.uncomputed and not all(self.names):
                more += f"; formulas without a stored value: {preview(table.uncomputed)}"
                remedy = "open the spreadsheet in Excel or LibreOffice and save it, so that it holds their values"
            raise LabelrError(reasons[0] + more, f"{remedy}, or leave such rows out with `--skip-invalid`")
        return {**(self._find_conflicts() if unique and self.has_repeats else {}), **invalid}

    def _find_conflicts(self) -> dict[int, str]:
        """The rows of images whose rows differ, each with the reason; a LabelrError unless they are skipped."""
        table, rows = self.table, defaultdict(list)
        for row, name in enumerate(self.names):
            rows[name].append(row)
        reasons = {name: self._describe_conflict(name, own) for name, own in rows.items() if name and len(own) > 1}
        if reasons and not self.options.skip_invalid:
            annotators = [table.header[n] for n in self.unassigned() if table.keys[n] in words.ANNOTATOR_COLUMNS]
            column = shlex.quote(annotators[0]) if annotators else "COLUMN"
            raise LabelrError(
                f"{table.path} lists {pluralize(len(reasons), 'image')} more than once, in rows that differ: "
                f"{preview(list(reasons.values()))}",
                "keep one row for each image, leave such images out with `--skip-invalid`, or join their rows by vote "
                f"with `--annotator {column}`, if a column says who judged",
            )
        return {row: f"{table.location(row)}: {reasons[name]}" for name in reasons for row in rows[name]}

    def _describe_conflict(self, name: str, rows: Sequence[int]) -> str:
        table = self.table
        differing = [
            table.header[number]
            for number in range(len(table.header))
            if number not in (self.file, *self.others) and len({table.body[row][number] for row in rows}) > 1
        ]
        numbers = " and ".join(str(table.numbers[row + 1]) for row in rows[:3])
        return f"{name} (rows {numbers} differ in {preview(differing)})"


def _column_named(table: Table, name: str, option: str) -> int:
    if name not in table.header:
        hint = suggest(name, table.header) or f"name one of its columns with `{option}`"
        raise LabelrError(f"{table.path} has no column {name!r}", hint)
    return table.header.index(name)


def _are_runs(numbers: Sequence[int]) -> bool:
    """Whether numbers are pairs of a start and a length that do not overlap, in their order."""
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    ends = [0, *(start + length for start, length in pairs)]
    return all(length > 0 and start >= end for (start, length), end in zip(pairs, ends, strict=False))


def _first_rows(table: Table, names: Sequence[str]) -> list[int]:
    """The rows without those that have the same cells as an earlier one."""
    if len(set(names)) == len(names):
        return list(range(len(names)))
    first: dict[tuple[str, ...], int] = {}
    for row, cells in enumerate(table.body):
        first.setdefault(tuple(cells), row)
    return list(first.values())


def _folder_columns(table: Table, file: int) -> list[int]:
    """The column of folders if there is one, and file names have none."""
    found = [number for number, key in enumerate(table.keys) if key in words.FOLDER_COLUMNS and number != file]
    is_plain = not any("/" in name or "\\" in name for name in table.column(file))
    return found if len(found) == 1 and is_plain and any(table.column(found[0])) else []


def _note_other_names(table: Table, file: int, others: Iterable[int]) -> Table:
    """The table with a note on other columns that may hold the file names as well as the one that is taken."""
    cells = table.column(file)
    differing = [table.header[number] for number in others if table.column(number) != cells]
    if not differing:
        return table
    option = f"--image-column {shlex.quote(differing[0])}"
    note = f'file names are those of the column "{table.header[file]}", not of {preview(differing)} (use `{option}`)'
    return replace(table, notes=(*table.notes, note))


def _find_file_columns(table: Table, is_image: Callable[[str], bool]) -> list[int]:
    """The columns that may hold the file names equally well, at least one.

    They are found by a certain name, by cells that name images, else by any common name. A column of another name whose
    cells are images without their endings, as `is_image` knows, may be one of ids, and is only named in the error.
    """
    first = next(filter(_names_image, table.header), None)
    if first is not None:
        raise LabelrError(
            f"{table.path} has no header: its first row names an image, {first}",
            "add a header: `filename`, and a name for each label",
        )
    named = [table.keys.index(key) for key in words.FILE_COLUMNS if key in table.keys]
    named += [number for number, name in enumerate(table.header) if name.lower().endswith("_file_name")]
    holding = [
        number
        for number in range(len(table.header))
        if (cells := table.column(number, PROBE_ROWS)) and all(map(_names_image, cells))
    ]
    certain = [number for number in named if table.keys[number] in words.CERTAIN_FILE_COLUMNS]
    for candidates in ([number for number in named if number in holding], certain, holding):
        if candidates:
            return candidates
    mostly = [number for number in range(len(table.header)) if _names_images_mostly(table.column(number, PROBE_ROWS))]
    likely = [number for number in named if number in mostly]
    if likely or len(mostly) == 1:
        return likely or mostly
    if named:
        return [next((number for number in named if not table.holds_marks(number)), named[0])]
    existing = [
        number
        for number in range(len(table.header))
        if (cells := list(filter(None, table.column(number, PROBE_ROWS)))) and all(map(is_image, cells))
    ]
    columns = f": {preview(list(filter(None, table.header)))}" if any(table.header) else ", nor any other"
    below = [
        row
        for row, cells in enumerate(table.body[:PROBE_ROWS])
        if not {*map(column_key, cells)}.isdisjoint(words.FILE_COLUMNS) and 2 * sum(map(bool, cells)) > len(cells)
    ]
    remedy = f"delete the rows above row {table.numbers[below[0] + 1]} if that is the header, or " if below else ""
    names = [shlex.quote(table.header[number]) for number in existing]
    option = f"`--image-column {names[0]}`, whose cells are images" if names else "`--image-column NAME`"
    raise LabelrError(
        f"{table.path} has no column of file names{columns}",
        f"{remedy}name the column with {option}; repeat the option for a folder and a file",
    )


def _names_image(cell: str) -> bool:
    """Whether a cell is the name of an image file, a URL of one, which may have a query, or an attachment."""
    return "." in cell and has_image_suffix(plain_path(cell) if "?" in cell or "://" in cell else cell)


def _names_images_mostly(cells: Sequence[str]) -> bool:
    """Whether cells are names of images but for a few, such as the sum below a table; not if a header is among them."""
    count = sum(map(_names_image, cells))
    is_mostly = 2 * count > len(cells) and count >= MOST * sum(map(bool, cells))
    return is_mostly and not any(column_key(cell) in words.FILE_COLUMNS for cell in cells)


def _find_split_column(table: Table) -> int | None:
    """The column called `split` or similar, if most of its cells are names of splits."""
    for number, key in enumerate(table.keys):
        if key in words.SPLIT_COLUMNS:
            cells = [cell.lower() for cell in table.column(number)]
            if sum(cell in SPLIT_NAMES for cell in cells) > len(cells) / 2:
                return number
    return None
