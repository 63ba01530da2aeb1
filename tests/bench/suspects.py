"""How many flipped labels stand at the head of the list of suspects. Run it by hand.

    python tests/bench/suspects.py TRAIN --seeds 3 --folds 3 --epochs 12

Flips a share of the known labels of the data folder TRAIN at random (another choice with each seed; the folder itself
is left as it is), cross-validates, and compares the list with what was flipped. The curve is the share of flipped
labels among the first pairs, as many as a percentage of all known labels, and the share of all flipped ones that is
among them; "list" is the first 5 % of the list itself.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np

from labelr.config import ReadOptions
from labelr.data.dataset import Dataset, write_labels
from labelr.data.load import load_dataset
from labelr.training.fit import fit

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)


def flip(table: Dataset, share: float, rng: np.random.Generator) -> set[tuple[str, str]]:
    """Flips a share of a table's known labels in place; which ones, as file and label."""
    rows, columns = np.nonzero(~np.isnan(table.targets))
    chosen = rng.choice(len(rows), round(share * len(rows)), replace=False)
    table.targets[rows[chosen], columns[chosen]] = 1 - table.targets[rows[chosen], columns[chosen]]
    return {(table.files[rows[one]], table.labels[columns[one]]) for one in chosen}


def listed(data: Path, folder: Path, seed: int, options: argparse.Namespace) -> tuple[np.ndarray, int, int]:
    """Whether each suspect was flipped, in order; how many labels were flipped, and how many there are."""
    table = load_dataset([data], ReadOptions())
    flipped = flip(table, options.share, np.random.default_rng(seed))
    write_labels(folder / "labels.csv", table)
    settings = {"folds": options.folds, "epochs": options.epochs, "seed": seed, "report": False}
    fit(
        data, {**settings, "labels": str(folder / "labels.csv")}, output=folder / "model",
        suspects=folder / "suspects.csv",
    )  # fmt: skip
    with (folder / "suspects.csv").open(encoding="utf-8", newline="") as file:
        hits = [(row["filename"], row["label"]) in flipped for row in csv.DictReader(file)]
    return np.array(hits), len(flipped), int((~np.isnan(table.targets)).sum())


def main() -> None:
    """Prints a line a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels, to be flipped")
    options = parser.parse_args()
    for seed in range(options.seeds):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            hits, flipped, known = listed(options.train, Path(name), seed, options)
        first = [hits[: round(share * known)] for share in SHARES]
        curve = ", ".join(f"{share:.0%} {one.mean():.2f}" for share, one in zip(SHARES, first, strict=True))
        found = ", ".join(f"{share:.0%} {one.sum() / flipped:.2f}" for share, one in zip(SHARES, first, strict=True))
        print(f"seed {seed}: {flipped} of {known} labels flipped; {len(hits)} suspects")
        print(f"  flipped among the first {curve}; list {hits[: max(1, len(hits) // 20)].mean():.2f}")
        print(f"  found among the first {found}; in all {hits.sum() / flipped:.2f}")
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
