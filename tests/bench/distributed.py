"""Several processes on the CPU against one: the time of an epoch, and mAP and weights over three seeds.

python tests/bench/distributed.py --synthetic 400 --image-size 64 --batch-size 64

The arguments are those of `labelr fit`. On N processors, one process with N threads and N processes with one thread
each take turns; ratios are of medians over the epochs of all rounds, without the first of each run. The load is that of
the other programs on the machine, as the system reports it.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from labelr.model.predictor import available_cpus

ROUNDS = 3
SEEDS = (0, 1, 2)
PROCESSES = (1, 2, 4)


class Run(NamedTuple):
    """One run of `fit`.

    Attributes:
        seconds: Of each epoch but the first.
        map_macro: On the test split.
        loss: Of the first epoch.
        digest: Of the weights.
    """

    seconds: list[float]
    map_macro: float
    loss: float
    digest: str


def fit(arguments: list[str], processes: int, threads: int) -> Run:
    """Trains once."""
    options = ["--devices", str(processes), "--threads", str(threads), "--no-report", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "labelr", "fit", *arguments, *options, "--output", f"{folder}/model"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = list(csv.DictReader((Path(folder) / "model" / "history.csv").open()))
        info = json.loads((Path(folder) / "model" / "model.json").read_text())
    seconds = [float(row["seconds"]) for row in rows[1:]]
    return Run(seconds, info["scores"]["map_macro"], float(rows[0]["train_loss"]), info["weights"]["sha256"][:12])


def compare_times(arguments: list[str], processes: int) -> None:
    """Prints the time of an epoch with one process and with several, on as many processors."""
    seconds: dict[int, list[float]] = {1: [], processes: []}
    loads = []
    for _ in range(ROUNDS):
        for count, measured in seconds.items():
            measured.extend(fit([*arguments, "--epochs", "4"], count, processes).seconds)
            loads.append(os.getloadavg()[0])
    alone, together = (statistics.median(measured) for measured in seconds.values())
    spread = ", ".join(f"{min(measured):.1f} to {max(measured):.1f} s" for measured in seconds.values())
    print(
        f"an epoch: 1 process with {processes} threads {alone:.2f} s, {processes} processes with 1 thread "
        f"{together:.2f} s, ratio {together / alone:.2f} ({spread}; load {min(loads):.1f} to {max(loads):.1f})"
    )


def compare_models(arguments: list[str]) -> None:
    """Prints mAP, the loss of the first epoch and the weights of models that different numbers of processes train."""
    for seed in SEEDS:
        for processes in PROCESSES:
            run = fit([*arguments, "--epochs", "4", "--seed", str(seed)], processes, max(PROCESSES))
            print(f"seed {seed}, {processes} processes: mAP {run.map_macro:.4f}, loss {run.loss:.6f}, {run.digest}")


if __name__ == "__main__":
    compare_models(sys.argv[1:])
    compare_times(sys.argv[1:], max(2, available_cpus()))
