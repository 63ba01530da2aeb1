"""What the guide promises of every command: where it writes, that it opens no socket, and how it ends."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from conftest import TINY_OPTIONS, Cli, put

from labelr import files, locks
from labelr.cli import guide
from labelr.model.predict import Model

PATHS_WRITTEN = {
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1,
    "os.symlink": 2, "os.truncate": 1, "os.utime": 1, "shutil.rmtree": 1, "sqlite3.connect": 1,
}  # fmt: skip
"""Events of the interpreter that change files, with the number of their first arguments that are paths."""
IN_FOLDER = ("os.mkdir", "os.remove", "os.rmdir")
"""Of these, the last argument is the descriptor of the folder that the path is relative to, or negative."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PROGRAMS = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "subprocess.Popen")


class Seen:
    """What the interpreter reports of a command: paths that are written or removed, sockets, and programs."""

    def __init__(self) -> None:
        self.watching = False
        self.written: set[Path] = set()
        self.sockets: list[str] = []
        self.programs: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event == "open":
            name, mode, flags = arguments
            paths = [name] if flags & WRITING or set(mode or "") & set("wax+") else []
        else:
            paths = list(arguments[: PATHS_WRITTEN.get(event, 0)])
        if event == "os.mkdir" and os.path.isdir(arguments[0]):  # nothing is made
            return
        folder = arguments[-1] if event in IN_FOLDER and arguments[-1] >= 0 else None
        above = Path(f"/proc/self/fd/{folder}").readlink() if folder is not None else Path()
        names = [above / os.fsdecode(path) for path in paths if not isinstance(path, int) and path != ":memory:"]
        self.written |= {Path(os.path.realpath(name)) for name in names}
        self.sockets += [f"{event}{arguments}"] if event.startswith("socket.") else []
        self.programs += [f"{event}{arguments}"] if event.startswith(PROGRAMS) else []


_seen = Seen()


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What is seen from now on until the end of the test."""
    _seen.written, _seen.sockets, _seen.programs, _seen.watching = set(), [], [], True
    yield _seen
    _seen.watching = False


@pytest.fixture
def place(trained: Model, shapes: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with labelled images, photographs, one of them damaged, and two models."""
    folder = tmp_path / "place"
    shutil.copytree(shapes, folder / "data")
    shutil.copytree(shapes / "images", folder / "photos" / "deep")
    put(folder, "photos/broken.jpg", "no image")
    for name in ("first", "second"):
        shutil.copytree(trained.path, home / "models" / name)
    monkeypatch.chdir(folder)
    return folder


def state_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and time of change of each file."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


FORMAT_1 = Path(__file__).parent / "models" / "format-1" / "model.zip"
COMMANDS = {
    "fit": ["fit", "data", "--name", "new", *TINY_OPTIONS],
    "fit --folds": ["fit", "data", "--folds", "2", "--output", "out", *TINY_OPTIONS],
    "evaluate": ["evaluate", "data", "--model", "first", "--split", "all", "--output", "out"],
    "tag": ["tag", "photos", "--model", "first", "-o", "out"],
    "tag --in-place": ["tag", "photos", "--model", "first", "--in-place", "-o", "out"],
    "tag --in-place --format xmp": ["tag", "photos", "--model", "first", "--in-place", "--format", "xmp", "-o", "out"],
    "check": ["check", "data", "--write-labels", "out/labels.csv"],
    "models list": ["models", "list"],
    "models show": ["models", "show", "first"],
    "models default": ["models", "default", "second"],
    "models rm": ["models", "rm", "second"],
    "models verify": ["models", "verify"],
    "models export": ["models", "export", "first", "out/first.zip"],
    "models import": ["models", "import", str(FORMAT_1)],
    "models rename": ["models", "rename", "second", "third"],
    "models card": ["models", "card", "first", "-o", "out/card.md"],
    "models compare": ["models", "compare", "first", "second", "--data", "data"],
    "cache ls": ["cache", "ls"],
    "cache clear": ["cache", "clear"],
    "backbones": ["backbones"],
}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow if "--folds" in name else ()) for name in COMMANDS]
)
def test_command_writes_only_its_output_opens_no_socket_and_changes_no_image(
    command: str, cli: Cli, home: Path, place: Path, seen: Seen
) -> None:
    files.make_folder(place / "out")
    before = state_of(place)
    result = cli(*COMMANDS[command])
    seen.watching = False
    assert result.code in (0, 3), result.err
    assert "Traceback" not in result.err
    # Matplotlib keeps its list of fonts
    allowed = [
        home,
        place / "out",
        Path(os.devnull),
        *map(Path, (mpl.get_cachedir(), mpl.get_configdir())),
    ]
    outside = {path for path in seen.written if not any(path.is_relative_to(folder) for folder in allowed)}
    outside = {path for path in outside if not is_temporary(path, place.parent)}
    beside = {
        path for path in outside if files.is_draft(path) or path.name.endswith((".png.csv", ".jpg.csv", ".png.xmp"))
    }
    assert outside - (beside if "--in-place" in command else set()) == set()
    assert (seen.sockets, seen.programs) == ([], [])
    after = state_of(place)
    assert {path: after.get(path) for path in before} == before


def is_temporary(path: Path, test: Path) -> bool:
    """Whether a path is in the system's temporary folder, but not in that of the test."""
    return path.is_relative_to(tempfile.gettempdir()) and not path.is_relative_to(test)


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (0, ["models", "list"]),
        (1, ["tag", "nowhere", "--model", "first"]),
        (2, ["tag", "photos", "--model", "first", "--threshold", "2"]),
        (3, ["tag", "photos", "--model", "first", "-o", "out"]),
        (75, ["fit", "data", "--name", "taken", *TINY_OPTIONS]),
    ],
)
def test_exit_codes_are_those_of_the_guide(cli: Cli, home: Path, place: Path, code: int, command: list[str]) -> None:
    page = (guide.FOLDER / "scripts.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| {code} \| ", page, re.MULTILINE)
    with locks.locked(files.make_folder(home / "models" / "taken")):
        assert cli(*command).code == code


def test_image_above_the_limit_is_a_failure_until_the_option_raises_it(cli: Cli, place: Path) -> None:
    command = ["tag", "photos/deep", "--model", "first", "-o", "out"]
    assert cli(*command, "--max-pixels", "100").code == 3
    assert "the limit" in (place / "out" / "errors.csv").read_text()
    assert cli(*command[:-1], "again").code == 0
