"""How far the label shares of the parts are from the whole, stratified and at random, on a folder's label file.

python tests/bench/splits.py ../shared/data/scenes/train ../shared/data/grocery/train
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr.config import TrainConfig
from labelr.training.fit import load_splits


def deviations(targets: NDArray[np.float32], parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The distance of each part's share of each label from the whole's, in points, shape ``(3, L)``."""
    shares = np.stack([np.nanmean(targets[parts == part], axis=0) for part in range(3)])
    return np.asarray(100 * np.abs(shares - np.nanmean(targets, axis=0)), dtype=np.float64)


def main() -> None:
    """Prints a row for each folder and way to split, over five seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="+")
    print("folder      split       mean    worst   labels missing from a part   (points, mean of 5 seeds)")
    for folder in parser.parse_args().folders:
        rows: dict[str, list[tuple[float, float, int]]] = {"stratified": [], "at random": []}
        for seed in range(5):
            dataset = load_splits([folder], TrainConfig(seed=seed))
            targets, splits = dataset.targets, np.asarray(dataset.splits)
            shuffled = np.random.default_rng(seed).permutation(splits)
            for name, parts in (("stratified", splits), ("at random", shuffled)):
                missing = sum(int((targets[parts == part] == 1).any(axis=0).sum()) for part in range(3))
                apart = deviations(targets, parts)
                rows[name].append((apart.mean(), apart.max(), 3 * targets.shape[1] - missing))
        for name, values in rows.items():
            mean, worst, lacking = np.mean(values, axis=0)
            print(f"{folder.parent.name:<11} {name:<11} {mean:.2f}    {worst:.2f}    {lacking:.1f}")


if __name__ == "__main__":
    main()
