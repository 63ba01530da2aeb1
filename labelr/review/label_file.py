"""Writes answers into a person's own table: some cells are replaced, and every other byte stays as it is."""

import codecs
import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from labelr import serialization
from labelr.config import ReadOptions
from labelr.data.formats import tags, wide
from labelr.data.formats.layouts import read_source
from labelr.data.formats.source import Source
from labelr.data.formats.table import DELIMITERS, LINE, LINE_OF_ANY_SYSTEM, Table, may_be_ours
from labelr.data.formats.words import Mark
from labelr.data.label_table import Targets
from labelr.data.limits import Limits, read_bytes
from labelr.errors import LabelrError
from labelr.review.targets import NO, NONE, YES, Target

TAGS = 'tags in the column "'
"""How the description of a table of tags begins."""
EXPLICIT = {1.0: "1", 0.0: "0"}
"""Marks that mean the same in every table; ``?`` is unknown."""
Changes = Mapping[tuple[str, str], int]
"""What cells are to say, by image and label: YES, NO, or NONE for unknown."""


class NotInPlaceError(LabelrError):
    """A label file whose cells cannot be replaced; the message says why, after the name of the file."""


class TableFile:
    """A wide table, or a table of tags, as a text of records.

    Attributes:
        path: The file.
        digest: The SHA-256 of its content.
        is_wide: Whether it has a column for each label, which can also say that a cell is unknown; else it has tags.

    Raises:
        NotInPlaceError: If its cells cannot be replaced.
        LabelrError: If it cannot be read.
    """

    def __init__(self, target: Target) -> None:
        assert target.source is not None  # noqa: S101 - for mypy
        self.path, self._options, layout = target.source, target.options, target.layout
        raw = read_bytes(self.path, Limits(self._options.max_cells, self.path))
        self.digest = hashlib.sha256(raw).hexdigest()
        source = Source(self.path, target.root, self._options)
        if not layout.startswith((wide.DESCRIPTION, TAGS)) or source.is_spreadsheet or source.objects:
            raise NotInPlaceError("is not a CSV of one row for each image")
        self._delimiter = _delimiter_of(source)
        self._encoder = source.text
        self._start = codecs.BOM_UTF8 if raw.startswith(codecs.BOM_UTF8) and self._encode("") == b"" else b""
        if self._start + self._encode(source.text.content) != raw:
            raise NotInPlaceError("has an encoding that cannot be written again as it is")
        self._records = list(_split(source.text.content, self._delimiter))
        columns = source.columns
        if columns.has_repeats or columns.annotator is not None or columns.copies:
            raise NotInPlaceError("has several rows for an image")
        self._table = columns.table
        named = enumerate(columns.names)
        self._row_of = {target.matched[name]: row for row, name in named if name in target.matched}
        self.is_wide = layout.startswith(wide.DESCRIPTION)
        self._column = -1 if self.is_wide else columns.label_columns[0]
        if self.is_wide:
            self._marks = wide.read_marks(columns)
        else:
            self._read_tags()
        self._shift = 0
        self._check()

    def _encode(self, content: str) -> bytes:
        try:
            return self._encoder.encode(content)
        except UnicodeEncodeError as error:
            raise LabelrError(
                f"{self.path} is in {self._encoder.encoding}, which has no {error.object[error.start : error.end]!r}",
                "save the file as UTF-8",
            ) from error

    def _check(self) -> None:
        """Raises NotInPlaceError if the cells of the table are not where they are in the text."""
        numbers = self._table.numbers
        columns = self._marks.columns if self.is_wide else [self._column]
        for row in {0, len(numbers) // 2, len(numbers) - 1} - ({0} if not numbers[0] else set()):
            record = self._records[numbers[row] - 1]
            cells = [_text_of(record[start:end]).strip() for start, end in _spans(record, self._delimiter)]
            expected = self._table.rows[row]
            if row == 0 and cells == expected[1:]:  # a header without a name for the file names
                self._shift = 1
            elif any(
                column < len(cells) and cells[column] not in (text, serialization.escape_formula(text))
                for column, text in ((column, expected[column]) for column in columns)
            ):
                raise NotInPlaceError("has cells that hold several values")

    def check_label(self, label: str) -> None:
        """Raises LabelrError if the file cannot hold a new label of this name."""
        self._encode(label)
        if not self.is_wide and self._separator in label:
            raise LabelrError(
                f"{self.path} separates tags by {self._separator!r}, which is in {label!r}", "choose a name without it"
            )
        if self.is_wide and label in self._table.header:
            raise LabelrError(f"{self.path} has a column {label!r} already, which is no label", "choose another name")
        rows = [self._table.header[self._shift :], *map(list, self._table.body)]
        if self.is_wide:
            known = self._labels()
            for number, row in enumerate(rows):
                row.append(str(number % 2) if number else label)
        else:
            known = [tag for own in self._tags for tag in own]
            rows[1][self._column] = self._joint.join([*self._tags[0], label])
        check_reads(self.path, rows, [*known, label], self._options)

    def patched(self, changes: Changes, labels: Sequence[str]) -> bytes:
        """The content of the file with some cells replaced, and with columns for those of some labels that it lacks.

        Raises:
            LabelrError: If that is not possible.
        """
        if self.is_wide:
            known = {label for (_, label), code in changes.items() if code != NONE}
            added = [label for label in labels if label in known.difference(self._labels())]
            for label in added:
                self.check_label(label)
            # before the columns are added, whose "?" may change what -1 means
            before, _ = wide.to_targets(self._table, self._marks, self._options)
            self._add_columns(added)
            self._patch_marks(changes, np.pad(before, ((0, 0), (0, len(added))), constant_values=np.nan))
        else:
            self._patch_tags(changes)
        content = self._start + self._encode("".join(self._records))
        self.digest = hashlib.sha256(content).hexdigest()
        return content

    def _replace(self, row: int, texts: Mapping[int, str]) -> None:
        """Replaces cells in a row of the body, by their columns."""
        number = self._table.numbers[row + 1] - 1
        self._records[number] = replace_cells(self._records[number], self._delimiter, texts)
        for column, text in texts.items():
            self._table.rows[row + 1][column] = text

    def _labels(self) -> list[str]:
        return [self._table.header[column] for column in self._marks.columns]

    def _add_columns(self, labels: Sequence[str]) -> None:
        if labels and not self._table.numbers[0]:
            raise LabelrError(f"{self.path} has no header to which labels can be added", "add a header to it")
        numbers = {number: row for row, number in enumerate(self._table.numbers)}
        for label in labels:
            column = len(self._table.header)
            header = self._table.header[self._shift :]
            is_escaped = may_be_ours(self.path, header)  # only then it is read without its apostrophe
            name = serialization.escape_formula(label) if is_escaped else label
            for index, record in enumerate(self._records):
                row = numbers.get(index + 1)
                if row is not None:
                    text, place = ("?", column) if row else (name, column - self._shift)
                    self._records[index] = replace_cells(record, self._delimiter, {place: text})
                    self._table.rows[row].append(text if row else label)
            codes = np.full((len(self._marks.codes), 1), Mark.UNKNOWN, np.int8)
            self._marks = wide.Marks([*self._marks.columns, column], np.concatenate([self._marks.codes, codes], axis=1))

    def _patch_marks(self, changes: Changes, before: Targets) -> None:
        position = {label: number for number, label in enumerate(self._labels())}
        wanted = before.copy()
        texts: dict[int, dict[int, str]] = {}
        codes, spelling = self._marks.codes.copy(), cache(self._spelling)
        for (image, label), code in changes.items():
            if (row := self._row_of.get(image)) is None or label not in position:
                continue
            wanted[row, position[label]] = np.nan if code == NONE else code
            text, codes[row, position[label]] = spelling(position[label], code)
            texts.setdefault(row, {})[self._marks.columns[position[label]]] = text
        try:
            after, _ = wide.to_targets(self._table, wide.Marks(self._marks.columns, codes), self._options)
        except LabelrError:  # what -1 means would no longer be clear
            after = np.where((codes == Mark.MINUS) | (codes == Mark.BLANK), np.inf, wanted)
        differs = ~((after == wanted) | (np.isnan(after) & np.isnan(wanted)))
        for row, number in np.argwhere(differs).tolist():  # the first "no" may change what an empty cell means
            text = EXPLICIT.get(float(wanted[row, number]), "?")
            codes[row, number] = {"1": Mark.YES, "0": Mark.NO}.get(text, Mark.UNKNOWN)
            texts.setdefault(row, {})[self._marks.columns[number]] = text
        for row, own in texts.items():
            self._replace(row, own)
        self._marks = wide.Marks(self._marks.columns, codes)

    def _spelling(self, number: int, code: int) -> tuple[str, int]:
        """How a label's column, or else the table, writes yes, no or unknown, and the mark that this is."""
        has_no = bool(np.isin(self._marks.codes, (Mark.NO, Mark.MINUS)).any())
        if code == NONE:
            blank = has_no and self._options.blank != "no"
            return ("", Mark.BLANK) if blank else ("?", Mark.UNKNOWN)
        mark = Mark.YES if code == YES else Mark.NO
        if code == NO and not (self._marks.codes == Mark.NO).any() and (self._marks.codes == Mark.MINUS).any():
            mark = Mark.MINUS  # as in CelebA
        for chosen in ([number], range(len(self._marks.columns))):
            counts: Counter[str] = Counter()
            for each in chosen:
                rows = np.flatnonzero(self._marks.codes[:, each] == mark)[:100].tolist()
                counts.update(self._table.rows[row + 1][self._marks.columns[each]] for row in rows)
            if counts:
                return counts.most_common(1)[0][0], mark
        if code == NO and not has_no and (self._marks.codes == Mark.BLANK).any() and self._options.blank != "unknown":
            return "", Mark.BLANK  # only yes is marked
        return EXPLICIT[float(code)], mark

    def _read_tags(self) -> None:
        cells = self._table.column(self._column)
        self._tags, how = tags.split_tags(cells, self._options.tag_separator, f"{self.path}")
        if any(cell[:1] in ("[", "(", "{") for cell in cells):
            raise NotInPlaceError("has cells that hold lists")
        found = next((sign for sign, name in tags.SEPARATORS.items() if how == f", separated by {name}"), None)
        self._separator = self._options.tag_separator or found or "|"
        spaced = sum(f"{self._separator} " in cell for cell in cells)
        is_spaced = self._separator not in (" ", "\n") and 2 * spaced > sum(self._separator in cell for cell in cells)
        self._joint = f"{self._separator} " if is_spaced and spaced else self._separator

    def _patch_tags(self, changes: Changes) -> None:
        changed: dict[int, list[str]] = {}
        known = {tag for own in self._tags for tag in own}
        for (image, label), code in changes.items():
            if (row := self._row_of.get(image)) is None:
                continue
            own = changed.setdefault(row, list(self._tags[row]))
            if code == YES and label not in own:
                if label not in known:
                    self.check_label(label)
                    known.add(label)
                own.append(label)
            elif code != YES and label in own:
                own.remove(label)
        for row, own in changed.items():
            self._tags[row] = own
            self._replace(row, {self._column: self._joint.join(own)})


def check_reads(path: Path, rows: list[list[str]], labels: Sequence[str], options: ReadOptions) -> None:
    """Raises LabelrError unless all labels are read from a label file with these cells; the last label is new.

    A column ``label``, for instance, is that of another layout.
    """
    source = Source(path, path.parent, options)
    source.table = Table(path, rows, list(range(1, len(rows) + 1)))
    with suppress(LabelrError):
        if set(labels) <= set(read_source(source).labels):
            return
    raise LabelrError(f"{path} could no longer be read with a label called {labels[-1]!r}", "choose another name")


def _delimiter_of(source: Source) -> str:
    table = source.require_table()
    if table.has_quoted_lines:
        raise NotInPlaceError("has lines in quotes")
    if table.delimiter not in DELIMITERS:
        raise NotInPlaceError("has columns separated by spaces")
    return table.delimiter


def _split(text: str, delimiter: str) -> Iterator[str]:
    """The records of a table as they are written, with their line breaks; the parts of the text, in order."""
    pattern = LINE_OF_ANY_SYSTEM if "\r" in text else LINE
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for found in pattern.finditer(text):
            taken.append(found[0])
            yield found[0]

    for _ in csv.reader(lines(), delimiter=delimiter):
        yield "".join(taken)
        taken.clear()
    if taken:
        yield "".join(taken)


def _spans(record: str, delimiter: str) -> list[tuple[int, int]]:
    """Where the cells of a record start and end, with their quotes."""
    spans, start, quoted, is_open = [], 0, False, False
    body = record.rstrip("\r\n")
    for position, character in enumerate(body):
        if character == '"' and (position == start or quoted):
            quoted, is_open = True, not is_open
        elif character == delimiter and not is_open:
            spans.append((start, position))
            start, quoted = position + 1, False
    return [*spans, (start, len(body))]


def _text_of(cell: str) -> str:
    """The text of a cell as it is written."""
    return next(iter(next(csv.reader([cell]), [])), "") if cell[:1] == '"' else cell


def replace_cells(record: str, delimiter: str, texts: Mapping[int, str]) -> str:
    """A record with other texts in some cells, by their column; cells that it lacks are added at its end.

    A cell stays in quotes if it was, and gets some if its text needs them.
    """
    spans = _spans(record, delimiter)
    end = record[len(record.rstrip("\r\n")) :]
    cells = [record[start:stop] for start, stop in spans]
    cells += [""] * (max(texts, default=0) + 1 - len(cells))
    for column, text in texts.items():
        needs_quotes = re.search(rf'["\r\n{re.escape(delimiter)}]', text) or cells[column][:1] == '"'
        cells[column] = '"{}"'.format(text.replace('"', '""')) if needs_quotes else text
    return delimiter.join(cells) + end
