"""Tables on narrow terminals, lines of progress, the log file, and readers that end early."""

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli, put
from rich.console import Console

from labelr import console
from labelr.model.predict import Model
from labelr.version import __version__

ROWS = [
    {
        "label": "a label of some length 日本",
        "support": 16,
        "TP": 1606,
        "precision": 0.4,
        "AP": None,
        "threshold": 0.321,
    },
    {"label": "b", "support": 4, "TP": 2, "precision": 0.123, "AP": 0.25, "threshold": 0.5},
]


def shown(width: int, *, terminal: bool = True) -> list[str]:
    """The lines of the table on a terminal of some width, or in a file."""
    file = io.StringIO()
    console.show_table(ROWS, to=Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_no_number_is_cut_however_narrow_a_terminal_is(width: int) -> None:
    lines = shown(width)
    cells = set(re.findall(r"[^\s│┃]+", "\n".join(lines)))
    assert {"16", "1,606", "0.400", "0.321", "2", "0.123", "0.250", "0.500", "precision", "threshold"} <= cells
    assert {"evaluable", "not"} <= cells
    assert max(map(len, lines)) <= width


def test_each_table_on_a_narrow_terminal_starts_with_the_first_column() -> None:
    headings = [line for line in shown(40) if "label" in line and "┃" in line]
    assert len(headings) == sum(line.startswith("┏") for line in shown(40)) > 1


@pytest.mark.parametrize("width", [30, 200])
def test_rows_are_in_one_table_if_there_is_room_or_no_terminal(width: int) -> None:
    assert sum(line.startswith("┏") for line in shown(200)) == 1
    assert sum(line.startswith("┏") for line in shown(width, terminal=False)) == 1


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("file", "rows"), [(Terminal(), console.MAX_ROWS), (io.StringIO(), 210)])
def test_long_table_is_cut_on_a_terminal_only_and_says_so(file: io.StringIO, rows: int) -> None:
    console.show_table([{"n": number} for number in range(210)], to=Console(file=file, color_system=None))
    lines = file.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("│")]) == rows
    more = "and 10 more rows: all are in the output of `--json`, or in a file with `> FILE`"
    assert (more in " ".join(lines)) == (rows < 210)


def test_table_in_a_file_looks_as_on_a_wide_terminal() -> None:
    rows = [*ROWS, {**ROWS[1], "label": "[red]x[/red] :smile: \x1b]0;y\x07\n"}]
    seen = [io.StringIO(), io.StringIO()]
    for file, terminal in zip(seen, (True, False), strict=True):
        console.show_table(
            rows, to=Console(file=file, width=200, force_terminal=terminal, color_system=None, emoji=False)
        )
    assert seen[0].getvalue() == seen[1].getvalue()
    assert r"│ [red]x[/red] :smile: \x1b]0;y\x07\n │" in seen[1].getvalue()


@pytest.mark.parametrize(
    ("terminal", "wrap", "lines"),
    [
        (True, True, ["Warning: scores are", "unreliable here"]),
        (True, False, ["Warning: scores are unreliable here"]),
        (False, True, ["Warning: scores are unreliable here"]),
    ],
)
def test_terminal_breaks_a_note_between_words_unless_it_is_copied(terminal: bool, wrap: bool, lines: list[str]) -> None:
    file = io.StringIO()
    to = Console(file=file, width=20, force_terminal=terminal, color_system=None)
    console.show_note("scores are unreliable here", prefix="Warning: ", to=to, wrap=wrap)
    assert [line.rstrip() for line in file.getvalue().splitlines()] == lines


@pytest.mark.parametrize("command", [["check", "DATA"], ["cache", "ls", "--json"]])
def test_reader_that_ends_early_ends_the_command_with_141(shapes: Path, command: list[str]) -> None:
    arguments = [str(shapes) if argument == "DATA" else argument for argument in command]
    whole = [sys.executable, "-m", "labelr", *arguments]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert (running.wait(60), running.stderr and "Error" in running.stderr.read()) == (141, False)


def test_warnings_have_a_colour_and_notes_have_none() -> None:
    code = (
        "import logging\nfrom labelr import console\n"
        "with console.session():\n    logging.getLogger('labelr').info('note')\n"
        "    logging.getLogger('labelr').warning('bad')"
    )
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "\x1b[1;35mWarning: " in done.stderr
    assert "note" in done.stderr
    assert "\x1b[1;35mnote" not in done.stderr


# --- progress and the log file ---------------------------------------------------------------------------------------

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"
"""A local time as ISO 8601."""


@pytest.mark.parametrize(
    ("description", "done", "total", "line"),
    [
        ("tagging images", 744, 2005, "tagging: 744 of 2,005 images, 21 min left"),
        ("tagging images  9.1 images/s  2 failed", 5, 9, "tagging: 5 of 9 images, 4 s left, 9.1 images/s, 2 failed"),
        ("tagging images", 1000, None, "tagging: 1,000 images"),
        ("scoring", 5, 12, "scoring: 5 of 12 batches, 7 s left"),
        ("epoch 3/30  loss 0.531  65 s left", 7, 12, "epoch 3/30: 7 of 12 batches, loss 0.531, 65 s left"),
    ],
)  # fmt: skip
def test_line_of_progress_says_what_its_numbers_mean(description: str, done: int, total: int | None, line: str) -> None:
    assert console.progress_line(description, done, total, seconds_each=1) == line


def test_lines_of_progress_carry_the_time_and_results_do_not(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_SECONDS", 0)
    done = cli("tag", photos, "--model", trained.path, "-o", tmp_path / "out")
    lines = [line for line in done.err.splitlines() if "tagging" in line]
    assert len(lines) == 5
    assert all(re.fullmatch(rf"{TIME} tagging: \d( of 5)? images?, .*", line) for line in lines)
    assert re.search(r"^5 images found: ", done.err, re.MULTILINE)


def test_unchanged_images_have_no_speed(cli: Cli, photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    for _ in range(2):
        done = cli("tag", photos, "--model", trained.path, "-o", tmp_path / "out")
    assert done.err.endswith("4 images found: 4 tagged (4 of them in an earlier run), 0 failed, 0 skipped\n")


def test_log_file_gets_what_quiet_hides_with_the_time(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_SECONDS", 0)
    log = put(tmp_path, "night.log", "what was there\n")
    done = cli("tag", photos, "--model", trained.path, "-o", tmp_path / "out", "--quiet", "--log-file", log)
    first, *lines = log.read_text().splitlines()
    assert first == "what was there"
    assert all(re.match(rf"{TIME} \S", line) for line in lines)
    text = "\n".join(line.split(" ", 1)[1] for line in lines)
    assert re.search("^tagging: 5 of 5 images, 0 s left", text, re.MULTILINE)
    assert re.search("^5 images found: 4 tagged, 1 failed, 0 skipped", text, re.MULTILINE)
    assert done.err.startswith("Warning: 1 image could not be tagged: ")
    assert done.err.strip() in text


@pytest.mark.parametrize("command", [["tag", "nowhere"], ["check", "nowhere"], ["models", "show", "nowhere"]])
def test_error_is_in_the_log_file_of_every_command(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    done = cli(*command, "--log-file", tmp_path / "log")
    assert done.code == 1
    logged = [line.split(" ", 1)[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert logged[0] == f"labelr {__version__} {shlex.join([*command, '--log-file', str(tmp_path / 'log')])}"
    assert logged[1:] == [line for line in done.err.splitlines() if line]
    assert logged[1].startswith("Error: ")


def test_log_file_is_written_anew_after_logrotate_renamed_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    console.open_log(log)
    console.show_note("before")
    log.rename(tmp_path / "log.1")
    console.show_note("after")
    console.open_log(None)
    console.show_note("not logged")
    lines = [path.read_text().splitlines()[-1].split(" ", 1)[1] for path in (tmp_path / "log.1", log)]
    assert lines == ["before", "after"]


def test_log_holds_no_password_of_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["labelr", "tune", "--storage", "postgresql://me:p:/w@host:5432/db"])
    console.open_log(tmp_path / "log")
    console.show_note("cannot reach mysql://host:3306/db?password=secret&x=1")
    console.open_log(None)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].endswith("tune --storage postgresql://me:***@host:5432/db")
    assert lines[1].endswith("mysql://host:3306/db?password=***&x=1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_log_on_a_full_disk_is_one_warning_and_the_work_continues(cli: Cli, shapes: Path) -> None:
    done = cli("check", shapes, "--quiet", "--log-file", "/dev/full")
    assert done.code == 0
    assert done.err == "Warning: cannot write the log /dev/full: No space left on device\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", [["backbones"], ["cache", "ls", "--json"]])
def test_full_disk_under_stdout_is_an_error_that_names_it(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "labelr", *command], env=environment, stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write to stdout: No space left on device\n\nHint: ")
    assert done.stderr.count("\n") == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_log_file_that_is_a_pipe_nobody_reads_is_an_error(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = cli("cache", "ls", "--log-file", tmp_path / "pipe")
    assert (done.code, done.err.startswith(f"Error: cannot write the log {tmp_path / 'pipe'}: ")) == (1, True)


@pytest.mark.parametrize(("name", "message"), [("", "a path is empty"), ("-", "expected the name of a file, got '-'")])
def test_log_file_needs_a_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("cache", "ls", "--log-file", name)
    assert done.code == 2
    assert done.err.startswith(f"Error: `--log-file`: {message}\n")
    assert not (tmp_path / "-").exists()


def test_log_file_of_all_commands_comes_from_a_variable_and_holds_errors_in_options(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELR_LOG_FILE", str(tmp_path / "all"))
    monkeypatch.setenv("LABELR_TAG_LOG_FILE", str(tmp_path / "tag"))
    cli("fit", "data", "--epochs", "x")
    cli("tag", "data", "--top-k", "x")
    assert "Error: `--epochs`: expected" in (tmp_path / "all").read_text()
    assert "Error: `--top-k`: expected" in (tmp_path / "tag").read_text()
    assert "top-k" not in (tmp_path / "all").read_text()


@pytest.mark.parametrize("name", ["", "missing/log"])
def test_log_file_that_cannot_be_written_is_an_error_before_any_work(
    cli: Cli, photos: Path, tmp_path: Path, name: str
) -> None:
    done = cli("tag", photos, "-o", tmp_path / "out", "--log-file", tmp_path / name)
    assert done.code == 1
    assert done.err.startswith(f"Error: cannot write the log {tmp_path / name}: ")
    assert not (tmp_path / "out").exists()


def test_quiet_hides_notes_that_follow_the_work(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    done = cli("check", shapes, "--json", "--quiet", "--write-labels", tmp_path / "labels.csv")
    assert done.err == ""
    assert (tmp_path / "labels.csv").is_file()
