"""Quality and speed on real photographs: trains on TRAIN with several seeds, scores on TEST, prints a line for each.

    cd ../shared; python ../labelr/tests/bench/scenes.py data/scenes/train data/scenes/test --peer bench/seed_peer.py

Other options go to `labelr fit`. The peer, where one is named, trains for one epoch in the same run, so that its
seconds an epoch can be set beside labelr's. Run it alone on the machine.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

QUALITY = ("map_macro", "hamming_loss", "exact_match", "f1_micro", "f1_macro")


def labelr(*arguments: object) -> str:
    """What a labelr command prints on stdout."""
    command = [sys.executable, "-m", "labelr", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run_seed(train: Path, test: Path, seed: int, options: list[str]) -> dict[str, float]:
    """Trains with one seed and scores on the test folder."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        labelr("fit", train, "--seed", seed, "--output", model, "--quiet", *options)
        report: dict[str, Any] = json.loads(
            labelr("evaluate", test, "--model", model, "--split", "all", "--json", "--quiet")
        )
        with (model / "history.csv").open() as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    scores = {name: report["metrics"][name] for name in QUALITY}
    return {**scores, "epochs": len(seconds), "seconds_per_epoch": statistics.mean(seconds), "seconds": sum(seconds)}


def main() -> None:
    """Runs all seeds, then the peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer", type=Path)
    arguments, options = parser.parse_known_args()
    runs = []
    for seed in range(arguments.seeds):
        runs.append(run_seed(arguments.train, arguments.test, seed, options))
        print(json.dumps({"seed": seed, **{name: round(value, 4) for name, value in runs[-1].items()}}), flush=True)
    for name in runs[0]:
        values = [run[name] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: {statistics.mean(values):.4f} +- {spread:.4f} ({min(values):.4f} to {max(values):.4f})")
    if arguments.peer:
        command = [sys.executable, arguments.peer, arguments.train, arguments.test, "--epochs", "1"]
        peer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        ours = statistics.mean(run["seconds_per_epoch"] for run in runs)
        ratio = peer["epoch_s"] / ours
        print(f"an epoch: peer {peer['epoch_s']} s at {peer['size']} px, labelr {ours:.1f} s, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
