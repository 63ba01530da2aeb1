"""Images a second that reach training without a cache: decoded on threads, as labelr does, and by worker processes.

python tests/bench/streaming.py PHOTOS --size 146 --workers 2
"""

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelr.config import ReadOptions
from labelr.data.images import read_pixels
from labelr.data.pixels import open_pixels
from labelr.data.walk import find_images

BATCH_SIZE = 64


class Files(Dataset[Tensor]):
    """Image files one by one, as DataLoader takes them."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        """The pixels of one file, ``(S, S, 3)``."""
        return torch.from_numpy(np.array(read_pixels(self.paths[row], self.size)))


def main() -> None:
    """Prints both rates as the median of some rounds in turn, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=146)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = list(find_images(arguments.photos))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    options = ReadOptions(cache_limit=0)
    pixels = open_pixels(paths, digests, arguments.size, options=options, threads=arguments.workers)
    processes = DataLoader(Files(paths, arguments.size), BATCH_SIZE, num_workers=arguments.workers)
    ways: dict[str, Callable[[], int]] = {
        "threads": lambda: sum(len(batch) for batch in pixels.batches(BATCH_SIZE)),
        "processes": lambda: sum(len(batch) for batch in processes),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, read in ways.items():
            start = time.perf_counter()
            count = read()
            rates[name].append(count / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name}: {rate:.0f} images/s")
    print(f"ratio {medians['threads'] / medians['processes']:.2f}")


if __name__ == "__main__":
    main()
