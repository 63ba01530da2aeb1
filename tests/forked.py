"""Every command, run in a folder of its own by a process forked from one that has imported everything.

So a run takes a fraction of a second, and soaks can disturb hundreds of them and compare what they leave behind.
"""

import csv
import gc
import io
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import TINY, TINY_OPTIONS
from PIL import Image

from labelr import files

ARCHIVE = Path(__file__).parent / "models" / "format-1" / "model.zip"
SEARCH = ("--lr", "1e-3,4e-3", "--study", "it", *TINY_OPTIONS)
ONE_PROCESSOR = {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1", "OMP_WAIT_POLICY": "passive"}
PATIENCE_SECONDS = 600
"""A command that takes longer hangs."""
IMPORTED = [
    "forked", "matplotlib.backends.backend_agg", "pandas", "PIL.Image", "pytest", "safetensors.torch", "scipy.stats",
    "sklearn.linear_model", "torch._dynamo", "torchvision", "labelr.cli.app", "labelr.data.load",
    "labelr.model.backbones", "labelr.scoring.compare", "labelr.tagging.tag", "labelr.training.fit",
    "labelr.tuning.tune",
]  # fmt: skip
"""The modules that the process from which others are forked has imported: all that commands need.

An optimizer imports ``torch._dynamo``, which takes over a second.
"""
MAX_STREAMS = 8
"""Files of output that are kept at most, so that a soak of thousands of runs leaves few."""
TIMES = {"created", "seconds", "images_per_second", "waited_seconds", "minutes", "used", "duration"}
"""Columns and keys that depend on the clock."""
UNCOMPARED = {
    ".claim.lock", ".journal.lock", ".labelr", "journal.key", "pixels", "report", "scans.sqlite", "study.log",
    "workers", "errors.csv", "summary.json",
}  # fmt: skip
"""Files and folders that depend on how often a command was started or whether there are locks, or that hold times."""
INPUTS = ("data", "more", "photos")
"""Folders of the place that no command may change."""


class Command(NamedTuple):
    """A command line, and with what exit code it ends; it is run in a folder that `make_place` made."""

    name: str
    line: str
    options: Sequence[str] = ()
    code: int = 0
    removes: bool = False
    """Whether the same command fails once it is done, since what it names is gone."""

    @property
    def arguments(self) -> list[str]:
        """The command line after ``labelr``."""
        return [*self.line.split(), *self.options]

    def completes(self, code: int | None) -> bool:
        """Whether the command is done by this exit code; 0 where failures were reported before it was disturbed."""
        return code in (0, self.code) or (self.removes and code == 1)


COMMANDS = {
    command.name: command
    for command in (
        Command("fit", "fit data --name new --resume --checkpoint-minutes 0.001", TINY_OPTIONS),
        Command("fit-output", "fit data --output out --resume --epochs 2 --batch-size 8 --no-report --init first"),
        Command("fit-folds", "fit data --name new --resume --folds 2 --checkpoint-minutes 0.001", TINY_OPTIONS),
        Command("evaluate", "evaluate data --model first --split all --output out --force"),
        Command("tag", "tag photos --model first -o out", code=3),
        Command("tag-table", "tag photos --model first -o out --format table --uncertain 3", code=3),
        Command("tag-jsonl", "tag photos --model first -o out --format jsonl", code=3),
        Command("tag-in-place", "tag out --model first --in-place --format csv --format txt", code=3),
        Command("tag-append", "tag out --model first --in-place --append --format txt"),
        Command("tag-xmp", "tag out --model first --in-place --format xmp --embed --threshold 0"),
        Command("tune", "tune data --no-refit", SEARCH),
        Command("tune-refit", "tune data --name best", SEARCH),
        Command("check", "check data --write-labels out.csv --force", code=3),
        Command("models-list", "models list"),
        Command("models-show", "models show first"),
        Command("models-default", "models default second"),
        Command("models-rm", "models rm second", removes=True),
        Command("models-verify", "models verify"),
        Command("models-export", "models export second out.zip --force"),
        Command("models-import", f"models import {ARCHIVE} --name third", removes=True),
        Command("models-rename", "models rename second third", removes=True),
        Command("models-card", "models card second -o out.md --force"),
        Command("models-compare", "models compare first second --data more"),
        Command("cache-ls", "cache ls"),
        Command("cache-clear", "cache clear"),
        Command("backbones", "backbones"),
    )
}


def make_place(folder: Path) -> Path:
    """A folder with labelled images, more of them, photographs to tag, two models and a filled cache, for commands."""
    from labelr.data.synthetic import make_synthetic_dataset
    from labelr.training.fit import fit

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELR_HOME", str(folder / "home"))
        data = make_synthetic_dataset(folder / "data", 40, 3)
        for number, name in enumerate(("first", "second")):
            fit(data, {**TINY, "seed": number}, name=name)
    make_synthetic_dataset(folder / "more", 40, 3, seed=1)
    (folder / "photos" / "deep").mkdir(parents=True)
    for number, path in enumerate(sorted((data / "images").iterdir())[:24]):
        shutil.copy2(path, folder / "photos" / ("deep" if number % 2 else "") / path.name)
    (folder / "photos" / "broken.jpg").write_bytes(b"no image")
    return folder


def copy_place(template: Path, folder: Path, command: Command) -> None:
    """Replaces a folder by a fresh copy of the template, in which a command can run."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(template, folder)
    if "tag out" in command.line:
        shutil.copytree(template / "photos", folder / "out", ignore=shutil.ignore_patterns("broken.jpg"))
        (folder / "out" / f"{min(folder.glob('out/*.png')).stem}.txt").write_text("mine")
    if "--embed" in command.line:
        for path in sorted(folder.glob("out/*.png")):
            Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A command that runs in a forked process, and what it wrote to stdout and stderr."""

    process: Any
    streams: Path
    start: float

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """The exit code; None, and the process is killed, if it does not end in time."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return None
        return int(self.process.exitcode)

    def signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.start

    def read(self, stream: str) -> str:
        """What it wrote to ``"out"`` or ``"err"``."""
        return self.streams.with_suffix(f".{stream}").read_text(errors="replace")


_numbers = count()


@cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the server finds what this process finds
        for name, value in ONE_PROCESSOR.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return context


def start(
    command: Sequence[str], place: Path, *, environment: Mapping[str, str] | None = None,
    prepare: Callable[..., None] | None = None, arguments: Sequence[object] = (),
) -> Running:  # fmt: skip
    """Runs a command in a place; `prepare` is a function of a module, called in the process before."""
    streams = place.parent / f"streams-{next(_numbers) % MAX_STREAMS}"
    for stream in ("out", "err"):
        streams.with_suffix(f".{stream}").write_bytes(b"")
    values = {"LABELR_HOME": str(place / "home"), **ONE_PROCESSOR, **(environment or {})}
    process = _context().Process(target=_run, args=(list(command), place, streams, values, prepare, tuple(arguments)))
    process.start()
    return Running(process, streams, time.monotonic())


def undisturbed(command: Command, template: Path, place: Path) -> tuple[float, dict[str, object]]:
    """How many seconds a command takes, and its outcome."""
    run(COMMANDS["cache-ls"], template)  # the process to fork from is there from now on
    copy_place(template, place, command)
    begin = time.monotonic()
    code, err = run(command, place)
    assert code == command.code, err
    return time.monotonic() - begin, outcome(place)


def run(command: Command, place: Path, **options: Any) -> tuple[int | None, str]:
    """Exit code and stderr of a command that runs to its end."""
    running = start(command.arguments, place, **options)
    return running.wait(), running.read("err")


def _run(
    command: list[str], place: Path, streams: Path, environment: dict[str, str],
    prepare: Callable[..., None] | None, arguments: tuple[object, ...],
) -> None:  # fmt: skip
    gc.freeze()  # what is inherited: a garbage collection that looks at it takes 0.4 s
    for number, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(streams.with_suffix(f".{stream}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123 - for the whole process
    os.chdir(place)
    os.environ.update(environment)
    sys.argv = ["labelr", *command]
    from labelr.cli.app import main

    if prepare is not None:
        prepare(*arguments)
    main()


# --- what is left behind ---------------------------------------------------------------------------------------------


def contents(place: Path, folders: Sequence[str]) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of each file."""
    paths = [path for folder in folders for path in sorted((place / folder).rglob("*")) if path.is_file()]
    return {path.relative_to(place).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def outcome(place: Path) -> dict[str, object]:
    """The content of what a command wrote, without times."""
    found: dict[str, object] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place)
        beside = len(name.parts) == 1 and files.is_draft(path)  # no later run cleans up outside folders of labelr
        is_kept = not (beside or files.is_deleted(path))
        if path.is_file() and is_kept and not UNCOMPARED & set(name.parts) and name.parts[0] not in INPUTS:
            found[name.as_posix()] = _content(path)
    return found


def _content(path: Path) -> object:
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    if path.suffix == ".csv":
        return [_without_times(row) for row in csv.DictReader(io.StringIO(data.decode()))]
    return data


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    """The names of files that differ."""
    return sorted(name for name in {**found, **expected} if found.get(name) != expected.get(name))
