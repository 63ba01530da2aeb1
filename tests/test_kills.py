"""SIGKILL at random moments of real training runs: `--resume` then gives the same model, bit for bit."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Cli, tiny_options

from labelr.data.synthetic import make_synthetic_dataset

OPTIONS = [*tiny_options(epochs=6), "--checkpoint-minutes", "0.003", "--quiet"]
"""A run of a few seconds with a checkpoint about every fifth of a second, and so within epochs too."""
CLOCK = ("seconds", "images_per_second", "waited_seconds")


class Outcome(NamedTuple):
    """What must not depend on the number of kills."""

    info: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, str]]
    files: list[str]


def command(data: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "labelr", "fit", str(data), "--output", str(output), "--resume", *OPTIONS]


def outcome(folder: Path) -> Outcome:
    """The content of a model's directory without times and paths; the weights by their digest."""
    info = json.loads((folder / "model.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "history.csv").open() as file:
        history = [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]
    del info["created"], metrics["model"]
    return Outcome(info, metrics, history, sorted(path.name for path in folder.iterdir()))


def wait_for_saves(running: "subprocess.Popen[bytes]", checkpoint: Path, saves: int) -> None:
    """Waits until a run has saved `saves` checkpoints, or has ended."""
    before = state_of(checkpoint)
    while saves and running.poll() is None:
        time.sleep(0.002)
        now = state_of(checkpoint)
        saves -= now != before
        before = now


def state_of(path: Path) -> tuple[int, int] | None:
    """Identifies a file; changes whenever it is replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def kill(data: Path, output: Path, saves: int, pause: float) -> int:
    """Resumes a run, and kills it `pause` seconds after `saves` checkpoints; returns its exit code."""
    with subprocess.Popen(command(data, output), stdout=subprocess.DEVNULL) as running:
        wait_for_saves(running, output / "checkpoint.pt", saves)
        time.sleep(pause)
        running.kill()
    return running.returncode


@pytest.mark.slow
def test_run_that_is_killed_repeatedly_gives_the_model_of_an_undisturbed_run(cli: Cli, tmp_path: Path) -> None:
    data, reference, killed = (
        make_synthetic_dataset(tmp_path / "data", 100, 3),
        tmp_path / "reference",
        tmp_path / "killed",
    )
    assert cli(*command(data, reference)[3:]).code == 0
    rng = random.Random(0)
    for most in (3, 2, 1):  # there are at least six saves, one an epoch
        code = kill(data, killed, rng.randint(1, most), rng.uniform(0, 0.15))
        assert code == -signal.SIGKILL, "it ended before"
    assert cli(*command(data, killed)[3:]).code == 0
    assert outcome(killed) == outcome(reference)
