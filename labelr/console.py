"""Everything that people see on a terminal: tables, progress, notes, warnings and errors."""

import io
import logging
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from labelr import serialization
from labelr.errors import LabelrError, printable
from labelr.progress import Description, Total, Track, format_duration
from labelr.rich_tables import format_cell, make_tables, visible, whole_table
from labelr.version import __version__

T = TypeVar("T")
LINE_INTERVAL_SECONDS = 10.0
LIVE_INTERVAL_SECONDS = 0.5
PAGE_WIDTH = 100
"""Longer lines of text are hard to read."""
BAR_WIDTH = 34
"""Columns of a terminal for a bar, the numbers of items, and the time left."""
MAX_ROWS = 200
"""The rows of a table on a terminal."""
THEME = Theme(
    {
        "error": "bold red", "warning": "bold magenta", "hint": "bold",
        "bar.back": "bright_black", "bar.complete": "magenta", "bar.finished": "magenta", "bar.pulse": "magenta",
        "progress.download": "none", "progress.remaining": "none",
        "markdown.code": "bold", "markdown.code_block": "none", "markdown.item.number": "bold",
        "markdown.link": "underline", "markdown.link_url": "underline", "markdown.table.border": "none",
        "markdown.table.header": "bold",
    }
)  # fmt: skip
"""The colours: red, magenta and bright black are those that terminals show readably on white and on black alike, while
yellow, cyan and green fade on white, and blue on black."""
HELP_STYLES = {
    "STYLE_USAGE": "bold", "STYLE_OPTION": "bold", "STYLE_SWITCH": "bold", "STYLE_NEGATIVE_OPTION": "bold",
    "STYLE_NEGATIVE_SWITCH": "bold", "STYLE_TYPES": "magenta", "STYLE_TYPES_SEPARATOR": "none",
    "STYLE_COMMANDS_TABLE_FIRST_COLUMN": "bold",
    "STYLE_OPTION_ENVVAR": "dim", "STYLE_REQUIRED_LONG": "red", "STYLE_DEPRECATED": "red",
}  # fmt: skip
"""The same for ``--help``, by the names of Typer."""


class ReaderGoneError(Exception):
    """Nobody reads stdout any more; not an OSError, which Typer would handle itself."""


@contextmanager
def _writing_stdout() -> Iterator[None]:
    """Names stdout in the error where it cannot be written, and discards what is still to be written.

    Raises:
        ReaderGoneError: If nobody reads it any more.
        LabelrError: If it cannot be written, such as on a full disk.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter would try again at its exit
        raise LabelrError(
            f"cannot write to stdout: {error.strerror}", "free some space, or redirect stdout to another disk"
        ) from error


class _Stdout(Console):
    """Standard output; the command ends when it cannot be written any more."""

    def print(self, *objects: Any, **options: Any) -> None:
        with _writing_stdout():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Raises ReaderGoneError, while rich would exit with an error."""
        raise ReaderGoneError


class _Stderr(Console):
    """Standard error; the command continues when nobody reads it any more."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Discards further output, while rich would exit."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


stdout = _Stdout(highlight=False, markup=False, emoji=False, theme=THEME)
stderr = _Stderr(stderr=True, highlight=False, markup=False, emoji=False, theme=THEME)


def keep_bytes_of_names() -> None:
    """Has stdout write file names that are not UTF-8 as they are, and escape what it cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")


# --- log and progress ------------------------------------------------------------------------------------------------


@dataclass
class _Session:
    """How the present command shows what it does, also after the end of `session`."""

    quiet: bool = False
    log_file: Path | None = None
    log_failed: bool = False


_session = _Session()


def open_log(path: Path | None) -> None:
    """Appends the command and what is shown on stderr to a file, as plain lines with the time; None for no file.

    Raises:
        LabelrError: If the file cannot be written.
    """
    _session.log_file, _session.log_failed = None, False
    if path is not None:
        try:
            _append(path, "")
        except OSError as error:
            raise LabelrError(
                f"cannot write the log {path}: {error.strerror}", "name a file in an existing folder with `--log-file`"
            ) from error
        _session.log_file = path.absolute()
        _log(f"labelr {__version__} {shlex.join(sys.argv[1:])}")


def _log(text: str, prefix: str = "") -> None:
    if _session.log_file is None:
        return
    lines = "".join(f"{_timestamp()} {line}\n" for line in f"{prefix}{printable(text)}".splitlines() if line)
    try:  # opened each time, since logrotate may have renamed it
        _append(_session.log_file, lines)
    except OSError as error:
        if not _session.log_failed:
            _session.log_failed = True  # which ends the recursion; a later line may be written again
            show_warning(f"cannot write the log {_session.log_file}: {error.strerror}")


def _append(path: Path, text: str) -> None:
    """Adds text to a file; a named pipe that nobody reads is an error, while the open would wait for a reader."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags, 0o666), "w", encoding="utf-8") as file:
        file.write(text)


def _timestamp() -> str:
    """The local time and its offset from UTC, as ISO 8601 in seconds."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


class _LogHandler(logging.Handler):
    """Shows log messages, warnings with a prefix."""

    def emit(self, record: logging.LogRecord) -> None:
        show = show_warning if record.levelno >= logging.WARNING else show_note
        show(record.getMessage())


@contextmanager
def session(*, quiet: bool = False, verbose: bool = False) -> Iterator[Track]:
    """Shows log messages while a command runs; the value tracks its progress."""
    _session.quiet = quiet
    logger, handler = logging.getLogger("labelr"), _LogHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    try:
        if stderr.is_terminal and not stderr.is_dumb_terminal and not quiet:
            with _bars:
                yield _bars.follow
        else:
            yield _track_by_lines
    finally:
        logger.removeHandler(handler)


class _TimeLeft(TimeRemainingColumn):
    """The remaining time of a task; nothing if the description says it."""

    def render(self, task: Task) -> Text:
        if task.time_remaining is None or task.description.endswith(" left"):
            return Text("")
        return Text(f"{format_duration(task.time_remaining)} left", "progress.remaining")


class _Description(TextColumn):
    """What is done, with as many of its details as leave room for the bar; the last, such as the time left, stays."""

    def render(self, task: Task) -> Text:
        first, *details = super().render(task).plain.split("  ")
        while len(details) > 1 and cell_len("  ".join([first, *details])) > stderr.width - BAR_WIDTH:
            del details[-2]
        return Text("  ".join([first, *details]))


class _Count(ProgressColumn):
    """How many items of a task are done, of how many if that is known; nothing at its start."""

    def render(self, task: Task) -> Text:
        known = f" of {task.total:,.0f}" if task.total is not None else ""
        return Text(f"{task.completed:,.0f}{known}" if task.completed or known else "", "progress.download")


class Bars(Progress):
    """Progress bars below tables."""

    tables: Sequence[Table] = ()

    def __init__(self) -> None:
        columns = (_Description("{task.description}", markup=False), BarColumn(20), _Count(), _TimeLeft())
        super().__init__(*columns, console=stderr, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The tables, and the bars below them."""
        yield from self.tables
        yield from super().get_renderables()

    def follow(self, items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
        """The items, with a bar of their own; a `Track`."""
        live = callable(description)
        task = self.add_task(_shown(description), total=_value(total))
        updated = time.monotonic()
        try:
            for item in _track_by_lines(items, description, total, show=_log):
                yield item
                self.advance(task)
                if live and time.monotonic() - updated >= LIVE_INTERVAL_SECONDS:
                    updated = time.monotonic()
                    self.update(task, description=_shown(description), total=_value(total))
        finally:
            self.remove_task(task)


_bars = Bars()


def show_live(rows: Sequence[Mapping[str, object]], title: str = "") -> None:
    """Replaces the table above the progress bars; without rows, removes it."""
    _bars.tables = make_tables(rows, title, stderr.width) if rows else ()


def _show_progress(line: str) -> None:
    _log(line)
    if not _session.quiet:
        stderr.print(visible(f"{_timestamp()} {line}"), soft_wrap=True)


def _track_by_lines(
    items: Iterable[T], description: Description, total: Total = None, *, show: Callable[[str], None] = _show_progress
) -> Iterator[T]:
    shown, shown_at = 0, time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        seconds = time.monotonic() - shown_at
        if seconds >= LINE_INTERVAL_SECONDS:
            show(progress_line(_value(description), done, _value(total), seconds / (done - shown)))
            shown, shown_at = done, time.monotonic()


def progress_line(description: str, done: int, total: int | None, seconds_each: float) -> str:
    """What is done, of what, and the time left: ``tagging: 744 of 2,005 images, 17 s left``."""
    what, *details = description.split("  ")
    verb = what.removesuffix(" images")
    count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
    parts = [f"{verb}: {count} {'batches' if verb == what else 'images'}"]
    if total is not None and not description.endswith(" left"):
        parts.append(f"{format_duration(seconds_each * (total - done))} left")
    return ", ".join([*parts, *details])


def _shown(description: Description) -> str:
    return printable(_value(description))


def _value(value: Any) -> Any:
    return value() if callable(value) else value


# --- notes and errors ------------------------------------------------------------------------------------------------


def show_note(text: str, *, prefix: str = "", style: str = "", to: Console = stderr, wrap: bool = True) -> None:
    """Prints a line of text after a prefix of some style; on stderr, `--quiet` leaves out lines without a prefix.

    A terminal breaks it between words, unless it is not to `wrap`, such as a command that people copy.
    """
    line = Text(prefix, style=style) + visible(text)
    if to is stderr:
        _log(text, prefix)
    if prefix or to is not stderr or not _session.quiet:
        to.print(line, soft_wrap=not (wrap and to.is_terminal))


def show_warning(text: str) -> None:
    """Prints a warning to stderr."""
    show_note(text, prefix="Warning: ", style="warning")


def show_problems(problems: Sequence[str]) -> None:
    """Prints what needs attention to stdout."""
    for problem in problems:
        show_note(problem, prefix="Attention: ", style="warning", to=stdout)
    if not problems:
        show_note("Nothing needs attention.", to=stdout)


def ask(question: str) -> bool | None:
    """The answer to a question: yes or no, which is the default; None if there is nobody to answer it."""
    if not stderr.is_terminal or sys.stdin is None or not sys.stdin.isatty():
        return None
    show_note(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_error(error: LabelrError) -> None:
    """Prints what is wrong, and the hint."""
    show_note(error.message, prefix="Error: ", style="error")
    if error.hint:
        show_note(error.hint, prefix="\nHint: ", style="hint")


def show_crash(error: Exception) -> None:
    """Prints where an error occurred that should not: a mistake of labelr's."""
    for part in traceback.format_exception(error):  # its lines are indented, but for the first
        _log(part.strip("\n"))
        stderr.print(visible(part.strip("\n")), soft_wrap=True)


def show_stopping() -> None:
    """Prints that the work ends soon, and shows the cursor, which bars hide. Safe in a signal handler."""
    if stderr.is_terminal:
        with suppress(OSError):
            os.write(2, b"\x1b[?25h\r\nStopping after this step; press Ctrl-C again to stop at once.\r\n")


# --- results ---------------------------------------------------------------------------------------------------------


def show_text(text: str) -> None:
    """Writes a piece of a result to stdout, without a line break, exactly unless that is a terminal.

    Raises:
        ReaderGoneError: If nobody reads it any more.
        LabelrError: If it cannot be written.
    """
    if sys.stdout:  # None if the caller has closed it
        with _writing_stdout():
            sys.stdout.write(printable(text, line=False) if sys.stdout.isatty() else text)


def flush() -> None:
    """Writes what of the results is still in a buffer; errors as `show_text`."""
    if sys.stdout:
        with _writing_stdout():
            sys.stdout.flush()


def show_line(text: str) -> None:
    """Writes a line of a result to stdout."""
    show_text(f"{text}\n")


def show_markdown(text: str) -> None:
    """Shows Markdown: page by page on a terminal, elsewhere as it is written."""
    if not stdout.is_terminal:
        show_line(text)
        return
    from rich.markdown import Markdown, TableElement

    class WholeTable(TableElement):
        """A table in which long words are broken; rich would cut them."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                for column in getattr(table, "columns", ()):
                    column.overflow = "fold"
                yield table

    class Page(Markdown):
        elements = {**Markdown.elements, "table_open": WholeTable}  # noqa: RUF012 - as rich declares it

    os.environ.setdefault("LESS", "-RFX")  # the pager shows colours, and ends at once where all fits on the screen
    plain = re.sub(r"^```\w+", "```text", text, flags=re.MULTILINE)  # no colours of a language
    with stdout.pager(styles=True):
        stdout.print(Page(plain, code_theme="ansi_light"), width=min(stdout.width, PAGE_WIDTH))


def show_json(result: Any) -> None:
    """Writes a result to stdout as JSON."""
    show_text(serialization.json_text(result))


def show_table(rows: Sequence[Mapping[str, object]], *, to: Console = stdout) -> None:
    """Prints rows as a table; their keys are the headings.

    A terminal that is too narrow for all columns gets several tables, each starting with the first column, so that no
    number is cut, and only the first rows. Elsewhere the table has all, and is as wide as needed. On stderr, `--quiet`
    leaves it out.
    """
    if to is stderr:
        for row in rows:
            _log(", ".join(f"{name}: {format_cell(value)}" for name, value in row.items()))
        if _session.quiet:
            return
    if rows and not to.is_terminal:
        text = whole_table(rows, HEAVY_HEAD.substitute(to.options))
        to.print(Segments([Segment(text)]), soft_wrap=True, end="")
        return
    shown = rows[:MAX_ROWS] if to.file.isatty() else rows
    for table in make_tables(shown, "", to.width):
        to.print(table)
    if len(rows) > len(shown):
        to.print(
            f"and {len(rows) - MAX_ROWS:,} more rows: all are in the output of `--json`, or in a file with `> FILE`"
        )
