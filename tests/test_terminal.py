"""The terminal: colours that are readable on white and on black, and the progress of `fit`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.color import Color, ColorType
from rich.style import Style
from rich.text import Text
from terminals import read_terminal

READABLE = 2.5
"""The least contrast of colours, as defined by WCAG; grey on white, such as a placeholder in a form, has it."""
NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white", "bright_black")
PALETTES = {
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f",
    "VGA": "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa 555555",
    "GNOME": "000000 cc0000 4e9a06 c4a000 3465a4 75507b 06989a d3d7cf 555753",
    "macOS": "000000 c23621 25bc24 adad27 492ee1 d338d3 33bbc8 cbcccd 818383",
    "Windows": "0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc 767676",
    "VS Code": "000000 cd3131 0dbc79 e5e510 2472c8 bc3fbc 11a8cd e5e5e5 666666",
}
"""What terminals show for the colours of `NAMES`, unless their users choose others."""
COMMANDS = {
    "help": ["--help"],
    "help of a command": ["fit", "--help"],
    "help of a group": ["models", "--help"],
    "guide": ["guide", "figures"],
    "passages": ["guide", "--search", "fit"],
    "error": ["tag", "nowhere", "--model", "nothing"],
    "usage": ["fit", "--epochs", "many"],
    "doctor": ["doctor"],
    "data": ["check", "{data}"],
    "training": ["fit", "--synthetic", "40", "--epochs", "1", "--image-size", "32", "--threads", "1", "--no-report"],
}


def luminance(colour: tuple[int, ...]) -> float:
    parts = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def shades(color: Color) -> list[tuple[int, ...]]:
    """What terminals show for a colour."""
    if color.type == ColorType.TRUECOLOR or (color.number or 0) > NAMES.index("bright_black"):
        return [tuple(color.get_truecolor())]
    return [tuple(bytes.fromhex(palette.split()[color.number or 0])) for palette in PALETTES.values()]


def unreadable(style: Style) -> bool:
    """Whether text of a style is hard to read on white or on black; a background of its own is never allowed."""
    if style.color is None or style.color.is_default:
        return style.bgcolor is not None and not style.bgcolor.is_default
    backgrounds = ((255, 255, 255), (0, 0, 0))
    worst = min(contrast(shade, background) for shade in shades(style.color) for background in backgrounds)
    return worst < READABLE or style.bgcolor is not None or bool(style.dim)


def on_terminal(*arguments: str, home: Path, width: int = 100, variables: dict[str, str] | None = None) -> str:
    """What a command writes to a terminal, both streams."""
    pty = pytest.importorskip("pty")
    master, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(width), "PAGER": "cat", "LABELR_HOME": str(home)}
    command = [sys.executable, "-m", "labelr", *arguments]
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment | (variables or {})
    ):
        os.close(terminal)
        shown = read_terminal(master)
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_colours_are_readable_on_white_and_on_black(name: str, shapes: Path, tmp_path: Path) -> None:
    shown = on_terminal(*(word.format(data=shapes) for word in COMMANDS[name]), home=tmp_path)
    spans = [span for line in shown.split("\n") for span in Text.from_ansi(line).spans]
    styles = {span.style for span in spans if isinstance(span.style, Style)}
    assert styles
    assert [str(style) for style in styles if unreadable(style)] == []


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_is_shown_where_none_is_wanted(variables: dict[str, str], tmp_path: Path) -> None:
    for name in ("help of a command", "guide", "usage"):
        shown = on_terminal(*COMMANDS[name], home=tmp_path, variables=variables)
        styles = [span.style for line in shown.split("\n") for span in Text.from_ansi(line).spans]
        assert [str(style) for style in styles if isinstance(style, Style) and style.color is not None] == []
        assert shown


def test_output_that_is_no_terminal_has_no_escape_sequences(tmp_path: Path) -> None:
    environment = {**os.environ, "LABELR_HOME": str(tmp_path)}
    for name in ("help", "error", "guide"):
        command = [sys.executable, "-m", "labelr", *COMMANDS[name]]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.stdout + done.stderr
        assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("topic", ["photos", "python"])
def test_no_word_of_the_guide_is_cut_on_a_narrow_terminal(topic: str, tmp_path: Path) -> None:
    shown = on_terminal("guide", topic, home=tmp_path, width=60)
    assert "…" not in shown
    assert "━" in shown or "─" in shown  # of a table


@pytest.mark.slow
def test_fit_shows_a_bar_for_each_stage_and_one_line_for_each_epoch(shapes: Path, tmp_path: Path) -> None:
    options = ["--epochs", "2", "--image-size", "32", "--width", "0.125", "--threads", "1", "--workers", "1"]
    shown = on_terminal("fit", str(shapes), *options, home=tmp_path)
    plain = Text.from_ansi(re.sub(r"\x1b\[[0-9?]*[A-HJKhl]", "", shown).replace("\r", "\n")).plain
    lines = [line.strip() for line in plain.splitlines()]
    for stage in ("reading images", "decoding images", "epoch 1/2", "epoch 2/2", "scoring", "writing report images"):
        assert any(re.match(rf"{stage}.*━+ \d+ of \d+", line) for line in lines), stage
    epochs = [line for line in lines if re.match(r"epoch \d/2  loss .* images/s$", line)]
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert max(map(len, epochs)) <= 100


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("yellow", True), ("cyan", True), ("blue", True), ("bold green", True), ("dim red", True), ("on black", True),
        ("red", False), ("bold magenta", False), ("bright_black", False), ("bold", False), ("dim", False), ("", False),
    ],
)  # fmt: skip
def test_unreadable_colours_are_found(style: str, expected: bool) -> None:
    assert unreadable(Style.parse(style)) == expected
