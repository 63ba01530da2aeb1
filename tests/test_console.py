"""Tables on narrow terminals, and readers that end early."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from labelr import console

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


@pytest.mark.parametrize("command", [["check", "DATA"], ["cache", "ls", "--json"]])
def test_reader_that_ends_early_ends_the_command_with_141(shapes: Path, command: list[str]) -> None:
    arguments = [str(shapes) if argument == "DATA" else argument for argument in command]
    whole = [sys.executable, "-m", "labelr", *arguments]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert (running.wait(60), running.stderr and "Error" in running.stderr.read()) == (141, False)
