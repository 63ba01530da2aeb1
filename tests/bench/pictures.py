"""Makes the pictures of the README again, from real output: ``.github/terminal.svg`` and ``.github/report.png``.

    pip install pyte
    python tests/bench/pictures.py

Trains on synthetic images, tags others, and opens the report in headless Chromium. Look at both pictures afterwards.
"""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import groupby
from pathlib import Path

import pyte
from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from labelr.data.synthetic import make_synthetic_dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import CHROMIUM  # which lies beside the tests
from terminals import read_terminal

PICTURES = Path(__file__).parents[2] / ".github"
COLUMNS = 90
"""The width of the picture, which breaks lines between words."""
WIDE, HIGH = 200, 400
"""The size of the terminal: it breaks no line, and nothing scrolls out."""
COMMANDS = (
    "labelr fit --synthetic 1000 --epochs 15",
    "labelr tag inbox",
    "cat inbox_labels/garden.png.csv",
)
INBOX = ("beach", "garden", "harbour", "market", "station", "tower")
"""Names of the images that are tagged."""
THEME = TerminalTheme(
    (251, 250, 248),
    (29, 31, 35),
    [(29, 31, 35), (176, 38, 30), (0, 110, 82), (150, 90, 0), (0, 98, 160),
     (140, 50, 130), (0, 106, 120), (91, 96, 104)],
    [(91, 96, 104), (200, 50, 40), (0, 130, 98), (170, 100, 0), (0, 114, 178),
     (160, 60, 150), (0, 125, 140), (29, 31, 35)],
)  # fmt: skip
"""Dark text on light paper, in the colours of the report."""
REPORT_STYLE = """
nav, details, footer, .explanation, #metrics .hint, main > section:not(#metrics, #images), #images > ul ~ *,
  #images li:nth-child(n + 6):has(.thumbnail) { display: none }
header { padding-top: 1rem } h2 { margin-top: 1.2rem } #images h3 { margin-top: 1rem }
"""
"""Leaves the headline, the scores and a row of images."""
REPORT_SIZE = (960, 1060)
"""In CSS pixels."""
REPORT_SCALE = 1.25
MAX_REPORT_BYTES = 200_000


def run(command: str, folder: Path) -> bytes:
    """What a command writes to a terminal."""
    arguments = shlex.split(command)
    if arguments[0] == "labelr":
        arguments[:1] = [sys.executable, "-m", "labelr"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ |= {"LABELR_HOME": str(folder / "home"), "TERM": "xterm-256color", "COLUMNS": str(WIDE)}
        os.execvp(arguments[0], arguments)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HIGH, WIDE, 0, 0))
    output = read_terminal(terminal)
    os.waitpid(pid, 0)
    for path, shown in ((folder / "home", "~/.cache/labelr"), (folder, "~")):
        output = output.replace(str(path).encode(), shown.encode())
    return output


def screen_lines(output: bytes) -> Iterator[Text]:
    """The lines of the screen after some output, with their colours."""
    screen = pyte.Screen(WIDE, HIGH)
    pyte.ByteStream(screen).feed(output)
    for row in range(screen.cursor.y + 1):
        cells = [screen.buffer[row][column] for column in range(WIDE)]
        line = Text()
        for style, same in groupby(cells, style_of):
            line.append("".join(cell.data for cell in same), style)
        line.rstrip()
        yield line


def style_of(cell: pyte.screens.Char) -> str:
    """The style of a character in the terms of rich."""
    colour = "yellow" if cell.fg == "brown" else cell.fg.replace("bright", "bright_")
    colour = f"#{colour}" if re.fullmatch("[0-9a-f]{6}", colour) else colour
    return f"bold {colour}" if cell.bold else colour


def trimmed(lines: Iterable[Text]) -> Iterator[Text]:
    """The lines without empty ones, and without all but the first and the last two epochs."""
    shown = [line for line in lines if line.plain]
    epochs = [number for number, line in enumerate(shown) if line.plain.startswith("epoch ")]
    for number, line in enumerate(shown):
        if number not in epochs[1:-2]:
            yield line
        elif number == epochs[1]:
            yield Text("...", "bright_black")


def draw_terminal(folder: Path) -> None:
    """Writes ``terminal.svg``: the commands with their output."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True, color_system="256")  # noqa: PTH123, SIM115
    for number, command in enumerate(COMMANDS):
        lines = trimmed(screen_lines(run(command, folder)))
        console.print(*([""] if number else []), Text(f"$ {command}", "bold bright_blue"), *lines, sep="\n")
    console.print()  # of the last line, the underscores would be cut
    svg = console.export_svg(title="labelr", theme=THEME)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing is loaded from the network
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    (PICTURES / "terminal.svg").write_text(svg, encoding="utf-8")


def draw_report(folder: Path) -> None:
    """Writes ``report.png``: the top of the report."""
    (page,) = folder.glob("home/models/*/report/report.html")
    short, picture = folder / "report.html", folder / "report.png"
    short.write_text(page.read_text(encoding="utf-8").replace("</head>", f"<style>{REPORT_STYLE}</style></head>"))
    subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            f"--user-data-dir={folder / 'browser'}", f"--force-device-scale-factor={REPORT_SCALE}",
            "--window-size={},{}".format(*REPORT_SIZE), f"--screenshot={picture}", short.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    image = Image.open(picture).convert("RGB")
    data = BytesIO()
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    (PICTURES / "report.png").write_bytes(data.getvalue())
    assert len(data.getvalue()) <= MAX_REPORT_BYTES, f"the report's picture has {len(data.getvalue()):,} bytes"


def main() -> None:
    """Makes both pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        others = make_synthetic_dataset(folder / "others", len(INBOX), 6, seed=1)
        (folder / "inbox").mkdir()
        for image, shown in zip(sorted((others / "images").iterdir()), INBOX, strict=True):
            image.rename(folder / "inbox" / f"{shown}.png")
        draw_terminal(folder)
        draw_report(folder)


if __name__ == "__main__":
    main()
