"""Kills runs with SIGKILL at random moments, resumes them, and compares them with an uninterrupted run.

    python tests/bench/kills.py fit 30 --seed 0
    python tests/bench/kills.py tag 30
    python tests/bench/kills.py tune 30

The moments are evenly distributed over the time of an uninterrupted run, which is killed up to three times. The resumed
run must end with the same result: weights, thresholds, scores, history and files of a model; every byte of the results
of tagging; or the scores of the same points of a search, each once.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import test_kills
import test_tag
from conftest import TINY, TINY_OPTIONS
from tag_results import tree

from labelr.data.synthetic import make_synthetic_dataset
from labelr.training.fit import fit

Run = Callable[[Path, list[float]], tuple[Any, int]]
"""Writes into a folder and is killed after each of the delays; returns the result and the number of kills."""


def killed(command: list[str], delays: list[float]) -> int:
    """Runs a command to its end, killed after each of the delays in seconds; returns the number of kills."""
    hits = 0
    for delay in delays:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                assert running.wait(delay) == 0
            except subprocess.TimeoutExpired:
                running.kill()
                hits += 1
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return hits


def training(folder: Path) -> Run:
    """Training runs on synthetic images."""
    data = make_synthetic_dataset(folder / "data", 300, 3)

    def run(output: Path, delays: list[float]) -> tuple[Any, int]:
        hits = killed(test_kills.command(data, output), delays)
        return test_kills.outcome(output), hits

    return run


def tagging(folder: Path) -> Run:
    """Tags synthetic images with a model that is trained for a moment."""
    photos = make_synthetic_dataset(folder / "data", 4000, 3) / "images"
    fit(make_synthetic_dataset(folder / "few", 60, 3), TINY, output=folder / "model")

    def run(output: Path, delays: list[float]) -> tuple[Any, int]:
        hits = killed([*test_tag.command(photos, output), "--model", str(folder / "model")], delays)
        return tree(output), hits

    return run


def searching(folder: Path) -> Run:
    """Searches of 18 points on synthetic images."""
    data = make_synthetic_dataset(folder / "data", 60, 3)
    grid = ["--lr", "1e-3,4e-3", "--dropout", "0.2,0.3,0.5", "--batch-size", "8,16,32"]
    options = [*TINY_OPTIONS, *grid, "--no-refit", "--study", "it"]

    def run(output: Path, delays: list[float]) -> tuple[Any, int]:
        os.environ["LABELR_HOME"] = str(output)
        hits = killed([sys.executable, "-m", "labelr", "tune", str(data), *options], delays)
        with (output / "studies" / "it" / "trials.csv").open() as file:
            found = [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]
        return found, hits

    return run


def main() -> None:
    """Kills so often, and prints what became of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["fit", "tag", "tune"])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    survived = runs = broken = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = {"fit": training, "tag": tagging, "tune": searching}[arguments.command](folder)
        start = time.monotonic()
        calm, _ = run(folder / "calm", [])
        seconds = time.monotonic() - start
        print(f"a calm run takes {seconds:.1f} s", flush=True)
        while survived + broken < arguments.kills:
            runs += 1
            most = min(rng.randint(1, 3), arguments.kills - survived - broken)
            delays = [rng.uniform(0, seconds) for _ in range(most)]
            end, hits = run(folder / f"run-{runs}", delays)
            same = end == calm
            survived, broken = survived + hits * same, broken + hits * (not same)
            said = "the same" if same else "ANOTHER RESULT"
            print(
                f"run {runs}, killed {hits} times of {', '.join(f'{one:.2f} s' for one in delays)}: {said}", flush=True
            )
    print(f"{survived} of {survived + broken} kills survived, in {runs} runs")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
