"""Everything a person sees: tables, progress, notes, warnings and errors."""

import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from labelr import files
from labelr.errors import LabelrError
from labelr.progress import Description, Total, Track, untracked

T = TypeVar("T")
UNLIMITED_WIDTH = 100_000
PLAIN_INTERVAL_SECONDS = 10.0
LIVE_INTERVAL_SECONDS = 0.5
SHORT = 16
"""Texts of a table that are no longer are not broken, however narrow a terminal is."""
FRAME = 3
"""Characters that a column of a table takes beside its text."""


class ReaderGoneError(Exception):
    """Whoever was to read the results has read enough; no OSError, which Typer takes for its own."""


class _Stdout(Console):
    """Standard output, which ends the command where nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Says so in labelr's own way; rich would end the process with an error."""
        raise ReaderGoneError


class _Stderr(Console):
    """Standard error; where whoever reads it is gone, the work goes on without being watched."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As `Console.print`."""
        try:
            super().print(*objects, **options)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Goes on where nobody listens; rich would end the process."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


stdout = _Stdout(highlight=False, markup=False)
stderr = _Stderr(stderr=True, highlight=False, markup=False)


def visible(text: str) -> Text:
    """Text whose control characters are shown instead of obeyed: a file name may hold any."""
    return Text(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text))


class _Notes(logging.Handler):
    """Shows what the library logs: notes as they are, warnings with a word in front."""

    def emit(self, record: logging.LogRecord) -> None:
        warns = record.levelno >= logging.WARNING
        prefix = Text("Warning: ", style="yellow") if warns else Text("")
        stderr.print(prefix + visible(record.getMessage()), soft_wrap=True)


@contextmanager
def session(*, quiet: bool = False, verbose: bool = False) -> Iterator[Track]:
    """Shows what the library says while a command runs, and gives the watcher of its progress."""
    library = logging.getLogger("labelr")
    notes = _Notes()
    library.addHandler(notes)
    library.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    library.propagate = False
    try:
        if quiet:
            yield untracked
        elif stderr.is_terminal and not stderr.is_dumb_terminal:
            with _bars:
                yield _track_on(_bars)
        else:
            yield _track_in_lines
    finally:
        library.removeHandler(notes)


class _TimeLeft(TimeRemainingColumn):
    """How long the task will take; nothing where its description says more than that."""

    def render(self, task: Task) -> Text:
        return Text("") if task.fields["live"] else super().render(task)


class _Bars(Progress):
    """Bars of what goes on, below tables."""

    tables: Sequence[Table] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """The tables if there are any, and the bars."""
        yield from self.tables
        yield from super().get_renderables()


_COLUMNS = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), _TimeLeft())
_bars = _Bars(*_COLUMNS, console=stderr, transient=True)


def show_live(rows: Sequence[Mapping[str, object]], title: str = "") -> None:
    """Rows as a table that takes the place of the last one as long as a session lasts; none clears it away."""
    _bars.tables = _make_tables(rows, title, stderr.width) if rows else ()


def _track_on(bars: Progress) -> Track:
    def track(items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
        live = callable(description)
        task = bars.add_task(_say(description), total=_known(total), live=live)
        said = time.monotonic()
        try:
            for item in items:
                yield item
                bars.advance(task)
                if live and time.monotonic() - said >= LIVE_INTERVAL_SECONDS:
                    said = time.monotonic()
                    bars.update(task, description=_say(description), total=_known(total))
        finally:
            bars.remove_task(task)

    return track


def _known(total: Total) -> int | None:
    return total() if callable(total) else total


def _say(description: Description) -> str:
    return description() if callable(description) else description


def _track_in_lines(items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
    """The items; a line every few seconds says how many have gone by."""
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last >= PLAIN_INTERVAL_SECONDS:
            last = time.monotonic()
            known = _known(total)
            of_total = f" of {known:,}" if known is not None else ""
            stderr.print(f"{_say(description)}: {done:,}{of_total}", soft_wrap=True)
        yield item


def show_error(error: LabelrError) -> None:
    """What is wrong, and the hint of what to do."""
    stderr.print(Text("Error: ", style="bold red") + visible(error.message), soft_wrap=True)
    if error.hint:
        stderr.print(Text("\nHint: ", style="bold") + visible(error.hint), soft_wrap=True)


def show_stopped(signal_name: str, command: str | None = None) -> None:
    """That the work was stopped from outside, and by which command it goes on if it can."""
    stderr.print(f"Stopped by {signal_name}.", end=" " if command else "\n")
    if command:
        stderr.print(Text("Go on with: ") + visible(command), soft_wrap=True)


def show_stopping() -> None:
    """That the work ends soon; gives the terminal its cursor back, which bars hide. Safe in a signal's handler."""
    if stderr.is_terminal:
        with suppress(OSError):
            os.write(2, b"\x1b[?25h\r\nStopping as soon as this step is done; another Ctrl-C stops at once.\r\n")


def show_line(text: str) -> None:
    """One line of a result, as it is."""
    show_text(text + "\n")


def show_text(text: str) -> None:
    """A piece of a result that has its line breaks.

    Raises:
        ReaderGoneError: If nobody reads it any more.
    """
    try:
        if sys.stdout:  # None where the caller has closed it
            sys.stdout.write(text)
    except BrokenPipeError as error:
        raise ReaderGoneError from error


def show_json(result: Any) -> None:
    """A result for machines."""
    show_line(files.json_text(result).rstrip())


def show_table(rows: Sequence[Mapping[str, object]], *, title: str = "", to: Console = stdout) -> None:
    """Rows as a table with their keys as headings.

    It is as wide as it needs to be where `to` is no terminal. On one that is too narrow for all columns the rest stand
    in tables below, each with the first column again, so that no number is cut.
    """
    if not to.is_terminal:
        to = type(to)(file=to.file, width=UNLIMITED_WIDTH, highlight=False, markup=False)
    for table in _make_tables(rows, title, to.width):
        to.print(table)


def _make_tables(rows: Sequence[Mapping[str, object]], title: str, width: int) -> list[Table]:
    """One table, or as many as it takes to show all columns within a width."""
    return [
        _make_table([{name: row[name] for name in names} for row in rows], title if place == 0 else "")
        for place, names in enumerate(_tables_of(rows, width))
    ]


def _tables_of(rows: Sequence[Mapping[str, object]], width: int) -> list[list[str]]:
    """The columns of each of the tables that show some rows within a width."""
    if not rows:
        return [[]]
    first, *others = rows[0]
    room = width - 1 - min(_width(rows, first), max(SHORT, width // 3))
    tables, left = [[first]], room
    for name in others:
        needed = min(_width(rows, name), SHORT + FRAME) if isinstance(rows[0][name], str) else _width(rows, name)
        if needed > left and len(tables[-1]) > 1:
            tables.append([first])
            left = room
        tables[-1].append(name)
        left -= needed
    return tables


def _width(rows: Sequence[Mapping[str, object]], name: str) -> int:
    """How many characters a column takes, its frame included."""
    return FRAME + max(map(cell_len, (name, *(visible(_cell(row[name])).plain for row in rows))))


def _make_table(rows: Sequence[Mapping[str, object]], title: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    for name, value in (rows[0] if rows else {}).items():
        is_text = isinstance(value, str)
        is_short = all(len(str(row[name])) <= SHORT for row in rows)
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=is_short or not is_text)
    for row in rows:
        table.add_row(*(visible(_cell(value)) for value in row.values()))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "not evaluable"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def show_note(text: str) -> None:
    """A line beside the result."""
    stderr.print(text, soft_wrap=True)
