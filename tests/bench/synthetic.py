"""The default run on synthetic images, with several seeds, beside a linear model on the same raw pixels.

python tests/bench/synthetic.py
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from labelr.config import TrainConfig
from labelr.data.synthetic import make_synthetic_dataset
from labelr.scoring.metrics import score


def fit_seed(num_labels: int, seed: int) -> tuple[float, float]:
    """Micro F1 on the test part, and the wall time of the whole command in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--num-labels", str(num_labels), "--seed", str(seed), "--output", f"{folder}/model"]
        command = [sys.executable, "-m", "labelr", "fit", "--synthetic", "--json", "--quiet", *options]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
    return json.loads(done.stdout)["metrics"]["f1_micro"], seconds


def linear_f1(num_labels: int) -> float:
    """Micro F1 of a logistic regression on raw pixels, trained on as many images as the network."""
    with tempfile.TemporaryDirectory() as folder:
        count = TrainConfig().synthetic
        data = make_synthetic_dataset(Path(folder) / "data", count, num_labels)
        rows = [line.split(",") for line in (data / "labels.csv").read_text().splitlines()[1:]]
        pixels = np.stack([np.asarray(Image.open(data / "images" / row[0])).ravel() / 255 for row in rows])
    targets = np.array([row[1:] for row in rows], dtype=float)
    train = slice(0, int(0.8 * count))
    test = slice(int(0.9 * count), count)
    model = OneVsRestClassifier(LogisticRegression(C=0.01, max_iter=300)).fit(pixels[train], targets[train])
    return score(model.predict_proba(pixels[test]), targets[test], 0.5)["f1_micro"]


def main() -> None:
    """Prints a line for each number of labels."""
    for num_labels in (6, 12):
        runs = [fit_seed(num_labels, seed) for seed in range(3)]
        scores, seconds = zip(*runs, strict=True)
        print(
            f"{num_labels} labels: micro F1 {statistics.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f}), "
            f"{statistics.mean(seconds):.0f} s a run; linear model {linear_f1(num_labels):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
