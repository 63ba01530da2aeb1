"""Everything a person sees: tables, progress, notes, warnings and errors."""

import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

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
SHORT = 12
"""Texts of a table that are no longer are not broken, however narrow a terminal is."""

stdout = Console(highlight=False, markup=False)


class ReaderGoneError(Exception):
    """Whoever was to read the results has read enough; no OSError, which Typer takes for its own."""


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


stderr = _Stderr(stderr=True, highlight=False, markup=False)


def _visible(text: str) -> Text:
    """Text whose control characters are shown instead of obeyed: a file name may hold any."""
    return Text(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text))


class _Notes(logging.Handler):
    """Shows what the library logs: notes as they are, warnings with a word in front."""

    def emit(self, record: logging.LogRecord) -> None:
        warns = record.levelno >= logging.WARNING
        prefix = Text("Warning: ", style="yellow") if warns else Text("")
        stderr.print(prefix + _visible(record.getMessage()), soft_wrap=True)


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
    """Bars of what goes on, below a table."""

    table: Table | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """The table if there is one, and the bars."""
        if self.table is not None:
            yield self.table
        yield from super().get_renderables()


_COLUMNS = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), _TimeLeft())
_bars = _Bars(*_COLUMNS, console=stderr, transient=True)


def show_live(rows: Sequence[Mapping[str, object]], title: str = "") -> None:
    """Rows as a table that takes the place of the last one as long as a session lasts; none clears it away."""
    _bars.table = _make_table(rows, title) if rows else None


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
    stderr.print(Text("Error: ", style="bold red") + _visible(error.message), soft_wrap=True)
    if error.hint:
        stderr.print(Text("\nHint: ", style="bold") + _visible(error.hint), soft_wrap=True)


def show_stopped(signal_name: str, command: str | None = None) -> None:
    """That the work was stopped from outside, and by which command it goes on if it can."""
    stderr.print(f"Stopped by {signal_name}.", end=" " if command else "\n")
    if command:
        stderr.print(Text("Go on with: ") + _visible(command), soft_wrap=True)


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
    """Rows as a table with their keys as headings; never cut where `to` is no terminal."""
    table = _make_table(rows, title)
    if not to.is_terminal:
        to = Console(file=to.file, width=UNLIMITED_WIDTH)
    to.print(table)


def _make_table(rows: Sequence[Mapping[str, object]], title: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    for name, value in (rows[0] if rows else {}).items():
        is_text = isinstance(value, str)
        is_short = all(len(str(row[name])) <= SHORT for row in rows)
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=is_short or not is_text)
    for row in rows:
        table.add_row(*(_visible(_cell(value)) for value in row.values()))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "not evaluable"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def show_note(text: str) -> None:
    """A line beside the result."""
    stderr.print(text, soft_wrap=True)


def show_cache(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """What the pixel cache holds."""
    if not rows:
        show_note(f"The cache in {folder} is empty.")
        return
    shown = [
        {
            "pixels": row["name"],
            "images": row["images"],
            "MB": round(row["bytes"] / 1e6),
            "last used": row["used"][:16].replace("T", " "),
        }
        for row in rows
    ]
    show_table(shown)
    show_note(f"{sum(row['bytes'] for row in rows) / 1e6:,.0f} MB in {folder}")


def show_check(found: Mapping[str, Any]) -> None:
    """What was understood of a data set, and what needs attention, from the same object that machines get."""
    stdout.print(_visible(f"{found['source']}: {found['layout']}"), soft_wrap=True)
    for note in found["notes"]:
        stdout.print(_visible(f"  {note}"), soft_wrap=True)
    show_table(found["per_label"])
    sizes = ", ".join(f"{name} {width} x {height}" for name, (width, height) in found["sizes"].items())
    facts = {
        "images": f"{found['images']:,}",
        "split": ", ".join(f"{count:,} {part}" for part, count in found["split"].items()),
        "pixels": sizes,
        "formats": ", ".join(f"{count:,} {name}" for name, count in found["formats"].items()),
        "modes": ", ".join(f"{count:,} {name}" for name, count in found["modes"].items()),
        "copies": f"{len(found['duplicates']):,} groups byte for byte, {len(found['near_duplicates']):,} alike",
    }
    for name, value in facts.items():
        stdout.print(_visible(f"{name}: {value}"), soft_wrap=True)
    for problem in found["problems"]:
        stdout.print(Text("Attention: ", style="yellow") + _visible(problem), soft_wrap=True)
    if not found["problems"]:
        stdout.print("Nothing needs attention.")
