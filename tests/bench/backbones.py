"""What settings gain: trains on TRAIN in several ways with several seeds, scores on TEST. Run it alone.

    python tests/bench/backbones.py TRAIN [TEST] --way "head: --backbone efficientnet-lite0 --train head" \
        --way "scratch: --epochs 30" [--images 100] [--peer lpft_peer.py --peer-python OTHER/bin/python] [--again]

Each way is a name and options of `labelr fit`. Printed is a line for each run, and for each way the mean over the
seeds of the scores at the model's own thresholds, and of the seconds and processor seconds of the whole command from an
empty cache. Without TEST, a stratified quarter of TRAIN is kept apart and scored: settings are chosen on that, never on
a test folder. `--images N` trains on N images, stratified by label; `--again` also times the same command once more,
with the cache that the first has filled. The peer runs once for each seed.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HELD_OUT, HELD_OUT_SEED = 0.25, 123
QUALITY = ("map_macro", "hamming_loss", "exact_match", "f1_macro")
Scores = dict[str, float]


def run(*command: object) -> tuple[str, float]:
    """What a command prints on stdout, and its wall time in seconds."""
    start = time.perf_counter()
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - start


def parts(train: Path, shares: list[float], seed: int, folders: list[Path]) -> None:
    """Copies shares of the images of a folder, stratified by label, with their rows: the first into these folders."""
    import numpy as np

    from labelr.config import ReadOptions
    from labelr.data.load import load_dataset
    from labelr.data.splits import stratified_split

    dataset = load_dataset([train], ReadOptions())
    chosen = stratified_split(dataset.targets, dataset.digests, shares, groups=np.arange(len(dataset)), seed=seed)
    with (train / "labels.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for part, folder in enumerate(folders):
        names = {file for file, chosen_part in zip(dataset.files, chosen, strict=True) if chosen_part == part}
        (folder / "images").mkdir(parents=True)
        kept = [row for row in rows if row[0] in names]
        with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *kept])
        for row in kept:
            shutil.copy(train / "images" / row[0], folder / "images" / row[0])


def run_labelr(train: Path, test: Path, options: list[str], seed: int, *, again: bool) -> Scores:
    """One whole `labelr fit` from an empty cache, and the scores of its model on the test folder."""
    labelr = [sys.executable, "-m", "labelr"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABELR_HOME"] = folder
        command = [*labelr, "fit", train, "--quiet", "--test-fraction", "0", "--seed", seed, *options]
        before = os.times()
        model, seconds = run(*command)
        after = os.times()
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        result: Scores = {"seconds": seconds, "processor_seconds": processor}
        if again:
            result["seconds_again"] = run(*command)[1]
        report = run(*labelr, "evaluate", test, "--model", model.strip(), "--split", "all", "--json", "--quiet")[0]
        with Path(model.strip(), "history.csv").open(encoding="utf-8", newline="") as file:
            result["epochs"] = len(list(csv.DictReader(file)))
    metrics = json.loads(report)["metrics"]
    return {**{name: metrics[name] for name in QUALITY}, **result}


def run_peer(python: str, script: Path, train: Path, test: Path, options: list[str], seed: int) -> list[dict[str, Any]]:
    """The lines that the peer prints, one for each of its stages."""
    out, _ = run(python, script, train, test, "--seed", seed, *options)
    return [json.loads(line) for line in out.splitlines()]


def show_means(name: str, runs: list[Scores]) -> None:
    """Prints the mean and the range of each score."""
    for score in runs[0]:
        values = [run[score] for run in runs]
        print(f"  {name} {score}: {statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")


def main() -> None:
    """Runs every way with every seed, one seed after the other, so that all ways meet the same machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path, nargs="?")
    parser.add_argument("--way", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", type=int)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-options", default="")
    arguments = parser.parse_args()
    ways = dict(way.split(":", 1) for way in arguments.way)
    results: dict[str, list[Scores]] = {name: [] for name in ways}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            train, test = arguments.train, arguments.test
            if test is None:
                whole, train, test = train, Path(folder) / "train", Path(folder) / "test"
                parts(whole, [1 - HELD_OUT, HELD_OUT], HELD_OUT_SEED, [train, test])
            if arguments.images:
                whole, train = train, Path(folder) / f"{arguments.train.parent.name}-{arguments.images}"
                with (whole / "labels.csv").open(encoding="utf-8") as file:
                    share = arguments.images / (len(file.readlines()) - 1)
                parts(whole, [share, 1 - share], seed, [train])
            for name, options in ways.items():
                result = run_labelr(train, test, options.split(), seed, again=arguments.again)
                results[name].append(result)
                line = {key: round(value, 4) for key, value in result.items()}
                print(json.dumps({"way": name, "seed": seed, **line}), flush=True)
            if arguments.peer:
                options = arguments.peer_options.split()
                for stage in run_peer(arguments.peer_python, arguments.peer, train, test, options, seed):
                    print(json.dumps({"way": "peer", "seed": seed, **stage}), flush=True)
    for name, runs in results.items():
        show_means(name, runs)


if __name__ == "__main__":
    main()
