"""Tables: the cells of a CSV file, of a sheet or of JSON objects under a header."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Self

from labelr import serialization
from labelr.data.formats.words import AMBIGUOUS, Mark, column_key, marks_among
from labelr.data.label_table import is_from_python
from labelr.data.limits import CELLS_OF_ROW, DEFAULT_LIMITS, Limits
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, preview

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
END = "\udfff"
"""A line appended after the last one; decoded text never contains it."""
LINE, LINE_OF_ANY_SYSTEM = re.compile(r".*\n|.+"), re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""A line, where a carriage return does not end one, and where it may, as on old systems; the first is faster."""
QUOTED_LINE = re.compile(r'^"((?:[^"\r\n]++|"")*+)"(?=\r?$)', re.MULTILINE)
"""A line that is one quoted cell."""
CHANGES = "changes"
"""The last column of a table that `labelr check --fix` wrote."""
PROBE_ROWS = 100
PROBE_SIZE = 2_000_000
"""Characters by which it is decided what separates cells."""
NUMBER = re.compile(r"[-+.\deE]*[-+.\d]")


class PaddedName(str):
    """The name of an image without the spaces around it, which may be part of the name.

    Attributes:
        exact: The name with them.
    """

    __slots__ = ("exact",)
    exact: str


def strip_cell(cell: str, *, is_name: bool = False) -> str:
    """A cell without spaces around it; a `PaddedName` if it has some and ends as an image does, or is surely a name."""
    stripped = cell.strip()
    if stripped == cell or not (is_name or ("." in stripped and has_image_suffix(stripped))):
        return stripped
    name = PaddedName(stripped)
    name.exact = cell
    return name


def exact_name(name: str) -> str:
    """A name with the spaces around it."""
    return name.exact if isinstance(name, PaddedName) else name


@dataclass(frozen=True)
class Table:
    """The cells of a table.

    Attributes:
        path: Its file.
        rows: Its cells as stripped text, including the header; rows without content are left out.
        numbers: The number of each row in the file, counted in records from 1.
        delimiter: What separates the cells of a text: one of `DELIMITERS`, or spaces; empty for sheets and JSON.
        has_quoted_lines: Whether each line of the text is in quotes.
        origin: What descriptions call a table that is no text, such as ``sheet "birds"``; empty for JSON objects.
        notes: What was assumed, one sentence each.
        invalid: The numbers of the rows that were left out, each with the reason.
        aside: The images that these rows may mean.
        padded: Whether names of images may have spaces around them.
        rounded: The columns of a sheet with numbers that have more digits than it keeps.
        uncomputed: The cells of a sheet, such as ``A2``, with formulas without a stored value.
    """

    path: Path
    rows: list[list[str]]
    numbers: list[int]
    delimiter: str = ""
    has_quoted_lines: bool = False
    origin: str = ""
    notes: tuple[str, ...] = ()
    invalid: Mapping[int, str] = field(default_factory=dict)
    aside: tuple[str, ...] = ()
    padded: bool = True
    rounded: frozenset[int] = frozenset()
    uncomputed: tuple[str, ...] = ()

    @property
    def header(self) -> list[str]:
        """The first row."""
        return self.rows[0]

    @cached_property
    def body(self) -> list[list[str]]:
        """The rows below the header."""
        return self.rows[1:]

    @property
    def described(self) -> str:
        """The end of a description such as ``, comma-separated``; empty for JSON objects."""
        name = DELIMITERS.get(self.delimiter)
        separated = f"{name}-separated" if name else "separated by spaces" if self.delimiter else self.origin
        parts = (separated, "each line in quotes" if self.has_quoted_lines else "")
        return "".join(f", {part}" for part in parts if part)

    @cached_property
    def keys(self) -> list[str]:
        """The column names, normalized by `column_key`."""
        return [column_key(name) for name in self.header]

    @cached_property
    def marks(self) -> Mapping[str, Mark]:
        """What its cells mean, by the first rows; see `marks_among`."""
        return marks_among(map(set, self._probed))

    @cached_property
    def _probed(self) -> list[tuple[str, ...]]:
        """The cells of each column in the first rows; empty where a row is too short."""
        rows = self.rows[: 2 * PROBE_ROWS + 1]
        return [cells[1:] for cells in zip_longest(*rows, fillvalue="")]

    def column(self, number: int, rows: int | None = None) -> list[str]:
        """The cells of a column below the header, of the first `rows` rows; empty where a row is too short."""
        if rows is not None and rows <= 2 * PROBE_ROWS:
            return list(self._probed[number][:rows])
        return [row[number] if number < len(row) else "" for row in islice(self.rows, 1, rows and rows + 1)]

    def columns_called(self, names: Collection[str]) -> set[int]:
        """The columns with one of these names, and nameless ones that count the rows."""
        return {number for number, key in enumerate(self.keys) if key in names or (not key and self._counts(number))}

    def _counts(self, number: int) -> bool:
        """Whether a column of several rows counts them, from 0 or 1."""
        cells = self.column(number)
        return len(cells) > 1 and any(cells == [str(first + row) for row in range(len(cells))] for first in (0, 1))

    def mixes_words(self, number: int) -> bool:
        """Whether the marks in the first cells of a column are words too: only `AMBIGUOUS` yes or no, and other words.

        So ``f`` is no mark beside ``m``, but it is one beside ``t``. N beside S or O alone may be the no of Spanish or
        French.
        """
        cells = {cell.lower() for cell in self.column(number, 2 * PROBE_ROWS)}
        marked = {cell for cell in cells if self.marks.get(cell) in (Mark.YES, Mark.NO, Mark.MINUS)}
        words = {cell for cell in cells if cell not in self.marks and not NUMBER.fullmatch(cell)}
        is_clear = bool(words) and (marked, words) not in (({"n"}, {"s"}), ({"n"}, {"o"}))
        return is_clear and marked <= AMBIGUOUS and len({self.marks[cell] for cell in marked}) == 1

    def holds_text(self, number: int) -> bool:
        """Whether the first cells of a column are words rather than marks or numbers."""
        if self.mixes_words(number):
            return True
        filled = [cell for cell in self.column(number, PROBE_ROWS) if cell]
        words = [cell for cell in filled if cell.lower() not in self.marks and not NUMBER.fullmatch(cell)]
        return bool(filled) and 2 * len(words) > len(filled)

    def holds_marks(self, number: int) -> bool:
        """Whether the first cells of a column are mostly marks; False for an empty one."""
        if self.mixes_words(number):
            return False
        marks = [self.marks.get(cell.lower(), Mark.OTHER) for cell in self.column(number, 2 * PROBE_ROWS)]
        filled = [mark for mark in marks if mark not in (Mark.BLANK, Mark.UNKNOWN)]
        return bool(filled) and 2 * sum(mark != Mark.OTHER for mark in filled) >= len(filled)

    def with_exact_names(self, is_file: Callable[[str], bool]) -> Self:
        """The table with the spaces around those names of images with which `is_file` knows them."""
        if not self.padded:
            return self
        rows, trimmed = [], []
        for row in self.rows:
            padded = [cell for cell in row if isinstance(cell, PaddedName)]
            kept = {cell.exact for cell in padded if is_file(cell.exact)}
            trimmed += [cell.exact for cell in padded if cell.exact not in kept and has_image_suffix(cell)]
            rows.append(
                [exact if (exact := exact_name(cell)) in kept else str(cell) for cell in row] if padded else row
            )
        example = f"file names with spaces around them that no image has, read without: {len(trimmed):,}"
        note = f"{example}, such as {trimmed[0]!r}" if trimmed else ""
        return replace(self, rows=rows, notes=(*self.notes, note) if note else self.notes)

    def location(self, row: int, column: int | None = None) -> str:
        """A row of the body, or one of its cells, as messages name it."""
        place = f"{self.path}, row {self.numbers[row + 1]}"
        return place if column is None else f'{place}, column "{self.header[column]}"'

    def take(self, rows: Iterable[int]) -> Self:
        """The table of some rows of its body."""
        kept = [0, *(row + 1 for row in rows)]
        return replace(self, rows=[self.rows[row] for row in kept], numbers=[self.numbers[row] for row in kept])


def read_table(path: Path, text: str, limits: Limits = DEFAULT_LIMITS) -> Table:
    """The cells of a delimited text; spaces delimit them where nothing else does.

    A table that labelr may have written is read without the apostrophes that escape formulas in it.

    Raises:
        LabelrError: If it is empty, not a table, or too large.
    """
    csv.field_size_limit(limits.cell_size)
    as_written, text = text, _unquote_lines(text)
    lines = max(text.count("\n"), text.count("\r"))
    limits.check_cells(path, lines, "rows", weight=CELLS_OF_ROW)
    declared = re.match(r'"?sep=([,;\t])"?\r?\n', text)  # Excel writes such a line for itself
    probe = text[:PROBE_SIZE]
    fitness = {candidate: _fitness(path, probe, candidate) for candidate in DELIMITERS} if not declared else {}
    # Of delimiters that fit as many rows it is the tab: commas between tabs divide a cell.
    best = max(
        fitness, key=lambda candidate: (fitness[candidate][0], candidate == "\t", fitness[candidate][1]), default=""
    )
    delimiter = declared[1] if declared else _own_delimiter(path, probe) or best
    probed = _split_at_spaces(probe, 2 * PROBE_ROWS) if "\t" not in text and not declared else {}
    is_fitting = any(any(fit) for fit in fitness.values())
    if _is_aligned(probed) and (not is_fitting or _starts_with_image(probed, delimiter, fitness[delimiter][1])):
        limits.check_cells(path, text.count(" ") + CELLS_OF_ROW * text.count("\n"), "spaces and line breaks")
        split = _split_at_spaces(text)
        return Table(path, list(split.values()), list(split), delimiter=" ")
    limits.check_cells(
        path, text.count(delimiter) + CELLS_OF_ROW * lines, f"cells, {CELLS_OF_ROW} for each row included"
    )
    padded: set[int] = set()
    filled = [row for row in _filled_rows(path, text, delimiter, padded) if row[0] > 1 or not declared]
    if not filled:
        raise LabelrError(f"{path} is empty", "add a header and one row for each image")
    rows, numbers = [cells for _, cells in filled], [number for number, _ in filled]
    limits.check_columns(path, max(map(len, rows)))
    rows, notes = _without_escapes(path, rows) if "'" in text and may_be_ours(path, rows[0]) else (rows, ())
    return Table(path, rows, numbers, delimiter, has_quoted_lines=text != as_written, notes=notes, padded=bool(padded))


def _unquote_lines(text: str) -> str:
    """The text without the quotes around whole lines, as some programs write them; unchanged if few lines have them.

    Names with commas in a list that has no other column are in quotes too, but its header has no delimiter.
    """
    lines = [line for line in text[:PROBE_SIZE].split("\n", 2 * PROBE_ROWS)[: 2 * PROBE_ROWS] if line.strip()]
    delimited = [line for line in lines if not DELIMITERS.keys().isdisjoint(line)]
    quoted = sum(QUOTED_LINE.match(line) is not None for line in delimited)
    if 2 * quoted <= len(lines) or delimited[0] != lines[0]:
        return text
    return QUOTED_LINE.sub(lambda line: line[1].replace('""', '"'), text)


def _own_delimiter(path: Path, text: str) -> str:
    """What separates cells in a table that labelr may have written, whatever its labels contain; empty for others."""
    for delimiter in (",", ";"):
        rows = _probe(path, text, delimiter)
        complete = rows[:-1] if len(text) == PROBE_SIZE else rows  # the last row of a probe may be cut
        is_rectangular = len({len(cells) for cells in complete}) == 1
        if is_rectangular and len(rows[0]) > 1 and may_be_ours(path, rows[0]):
            return delimiter
    return ""


def _probe(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """The first rows that can be read; what is wrong with the next one is reported when the table is read."""
    rows: list[list[str]] = []
    with suppress(LabelrError):
        rows.extend(cells for _, cells in islice(_filled_rows(path, text, delimiter), 20))
    return rows


def may_be_ours(path: Path, header: Sequence[str]) -> bool:
    """Whether labelr may have written a table, by the columns that begin and end its tables."""
    starts = (["filename"], ["label"], ["image", "split", "digest"])
    return is_from_python(path) or header[-1] == CHANGES or any(header[: len(start)] == start for start in starts)


def _without_escapes(path: Path, rows: list[list[str]]) -> tuple[list[list[str]], tuple[str, ...]]:
    """The rows without the apostrophes that escape formulas, and a note on them."""
    quoted = {cell for row in rows for cell in row if cell[:1] == "'"}
    plain = {cell: text for cell in sorted(quoted) if (text := serialization.unescape_formula(cell)) != cell}
    if not plain:
        return rows, ()
    note = f"texts that an apostrophe escapes for spreadsheets, read without it: {preview(list(plain))}"
    return [[plain.get(cell, cell) for cell in row] for row in rows], () if is_from_python(path) else (note,)


def _fitness(path: Path, text: str, delimiter: str) -> tuple[int, int]:
    """How well a delimiter fits: the number of first rows of the most common width, then that width.

    The first row may be narrower: a title, or the number of images; several may if all others are of one width.
    """
    widths = list(map(len, _probe(path, text, delimiter)))
    titles = next((row for row, width in enumerate(widths) if width > 1), 0)
    if titles + 1 < len(widths) and (titles == 1 or len(set(widths[titles:])) == 1):
        widths = widths[titles:]
    return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)


def _split_at_spaces(text: str, rows: int = -1) -> Mapping[int, list[str]]:
    """The cells between spaces of the first lines that have any, by their numbers; of all lines by default.

    A name of an image at the start of a line may have spaces itself.
    """
    lines = text.split("\n", rows)[: rows if rows > 0 else None]
    return {number: _join_name(line.split()) for number, line in enumerate(lines, start=1) if line.strip()}


def _is_aligned(lines: Mapping[int, Sequence[str]]) -> bool:
    """Whether most lines below the first two have as many cells, and the last one names an image."""
    widths = Counter(len(cells) for cells in islice(lines.values(), 2, None))
    width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
    last = list(lines.values())[-1:]
    is_list = len(lines) > 2 and any(map(has_image_suffix, last[0]))
    return is_list and width > 1 and 3 * count >= 2 * widths.total()


def _join_name(words: list[str]) -> list[str]:
    last = max((position for position, word in enumerate(words) if has_image_suffix(word)), default=0)
    return [" ".join(words[: last + 1]), *words[last + 1 :]] if 0 < last < len(words) - 1 else words


def _starts_with_image(lines: Mapping[int, Sequence[str]], delimiter: str, width: int) -> bool:
    """Whether most lines start with a whole file name: delimiters are in the cell behind it then.

    Not if they follow at once, or if they divide the header into as many cells, `width`, as the rows.
    """
    probed = list(islice(lines.values(), 20))
    is_header = not has_image_suffix(probed[0][0]) and " ".join(probed[0]).count(delimiter) + 1 == width
    starts = sum(has_image_suffix(name) and not "".join(rest).startswith(delimiter) for name, *rest in probed)
    return not is_header and 2 * starts > len(probed)


def _filled_rows(
    path: Path, text: str, delimiter: str, padded: set[int] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The rows that have any content, stripped, each with its number from 1; adds those with spaces to `padded`."""
    pattern = LINE_OF_ANY_SYSTEM if "\r" in text else LINE
    lines = chain((line[0] for line in pattern.finditer(text)), [END])
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
            if cells == [END]:
                return
            if cells and cells[-1].endswith(END):
                raise LabelrError(f"{path}, row {number}: a quoted cell is not closed", "close the quote, or delete it")
            stripped = list(map(str.strip, cells))
            if stripped != cells:
                if padded is not None:
                    padded.add(number)
                stripped = [strip_cell(cell, is_name=column == 0) for column, cell in enumerate(cells)]
            if any(stripped):
                yield number, stripped
    except csv.Error as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: csv.Error) -> LabelrError:
    if "field limit" not in str(error):
        return LabelrError(f"{path} is not a table: {error}", "save it as CSV again")
    return LabelrError(
        f"{path} has a cell, or separators in a row, of more than {csv.field_size_limit():,} characters",
        "close the quote before it, or raise the limit with `--max-cells`",
    )
