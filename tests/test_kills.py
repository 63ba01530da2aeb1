"""SIGKILL at random moments of real training runs, after which `--resume` comes to the same model, bit for bit."""

import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import TINY_OPTIONS

from labelr.data.synthetic import draw_dataset

OPTIONS = [*TINY_OPTIONS, "--epochs", "6", "--checkpoint-minutes", "0.003", "--quiet"]
"""A run of a few seconds that is saved about every fifth of a second, and so in the middle of epochs too."""
CLOCK = ("seconds", "images_per_second", "waited_seconds")


class Outcome(NamedTuple):
    """What must not depend on how often a run was killed."""

    info: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, str]]
    files: list[str]


def command(data: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "labelr", "fit", str(data), "--output", str(output), "--resume", *OPTIONS]


def outcome(folder: Path) -> Outcome:
    """All that a model's directory says, but for the clock and the place; the weights by their digest."""
    info = json.loads((folder / "model.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "history.csv").open() as file:
        history = [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]
    del info["created"], metrics["model"]
    return Outcome(info, metrics, history, sorted(path.name for path in folder.iterdir()))


def calm_run(data: Path, output: Path) -> tuple[Outcome, float]:
    """What a run comes to that nobody disturbs, and the seconds that it takes."""
    start = time.monotonic()
    subprocess.run(command(data, output), check=True, stdout=subprocess.DEVNULL)
    return outcome(output), time.monotonic() - start


def killed_run(data: Path, output: Path, delays: list[float]) -> tuple[Outcome, int]:
    """What a run comes to that is killed after so many seconds, and again, and how many of these kills hit it."""
    hits = 0
    for delay in delays:
        with subprocess.Popen(command(data, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
            try:
                running.wait(delay)
            except subprocess.TimeoutExpired:
                running.kill()
                hits += 1
                continue
            assert running.returncode == 0, running.stderr.read() if running.stderr else ""
            return outcome(output), hits
    subprocess.run(command(data, output), check=True, stdout=subprocess.DEVNULL)
    return outcome(output), hits


@pytest.mark.slow
def test_run_that_is_killed_again_and_again_comes_to_the_model_of_a_calm_run(tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", 300, 3)
    calm, seconds = calm_run(data, tmp_path / "calm")
    rng = random.Random(0)
    delays = [
        rng.uniform(*part) * seconds for part in ((0.5, 0.8), (0.25, 0.5), (0.25, 0.5))
    ]  # later ones have less to do
    killed, hits = killed_run(data, tmp_path / "killed", delays)
    assert hits >= 2
    assert killed == calm
