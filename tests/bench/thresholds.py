"""What calibration and fitted thresholds are worth on photographs, and how long scoring takes. Run it by hand.

    python tests/bench/thresholds.py TRAIN TEST --models DIR --seeds 5
    python tests/bench/thresholds.py --speed

The first trains a model on TRAIN with each seed (other options go to the settings, as `--epochs 15`), of which a tenth
is the validation part; models that are in DIR already are taken as they are. Calibration and thresholds are fitted anew
on the validation part, and TEST only reports: macro and micro F1 at 0.5, uncalibrated, and at the fitted thresholds,
and the expected calibration error before and after, beside that of outcomes drawn from the calibrated probabilities
themselves, below which nobody can be expected to get. The second times all figures of 10,000 images with 90 labels, and
the intervals of 5,000 images with 20.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from labelr.config import ReadOptions, TrainConfig
from labelr.data.load import load_dataset
from labelr.data.splits import read_splits
from labelr.model import store
from labelr.model.calibration import calibrate, decide
from labelr.model.predict import Model, Probs
from labelr.scoring import bootstrap, metrics
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.results import Evaluation
from labelr.training.finalize import DecisionRule
from labelr.training.fit import fit


def trained(train: Path, folder: Path, settings: dict[str, object]) -> Model:
    """The model in a folder, trained where it is not there yet, with the network's own probabilities."""
    if not (folder / store.METRICS_FILE).is_file():
        fit(train, {**settings, "test_fraction": 0}, output=folder, force=True)
    return store.load(folder).uncalibrated


def predictions(model: Model, data: Path, part: str | None) -> tuple[Probs, np.ndarray]:
    """Probabilities and targets, (N, L) both, of a folder's images, or of those in a part of the model's split."""
    dataset = load_dataset([data], ReadOptions()).with_labels(model.labels)
    if part is not None:
        named = {row.digest for row in read_splits(model.path / "splits.csv") if row.split == part}
        dataset = dataset.take([row for row, digest in enumerate(dataset.digests) if digest in named])
    return predict_dataset(model, dataset), dataset.targets


def least_error(probs: Probs, targets: np.ndarray) -> float:
    """The mean calibration error of targets that come true exactly as often as the probabilities say."""
    rng = np.random.default_rng(0)
    drawn = (np.where(np.isnan(targets), np.nan, rng.random(probs.shape) < probs) for _ in range(20))
    return statistics.mean(metrics.calibration_error(probs, outcome) for outcome in drawn)


def measure(model: Model, train: Path, test: Path) -> dict[str, float]:
    """Scores on the test folder before and after what the validation part has taught."""
    decisions = DecisionRule.fit(*predictions(model, train, "val"), TrainConfig())
    raw, targets = predictions(model, test, None)
    probs = calibrate(raw, decisions.calibration)
    at_half = metrics.averages(decide(raw, 0.5), targets)
    fitted = metrics.averages(decide(probs, decisions.thresholds), targets)
    figures = {"temperature": decisions.calibration.temperature, "bias": decisions.calibration.bias}
    for name in ("f1_macro", "f1_micro"):
        figures |= {f"{name}_at_half": at_half[name], f"{name}_fitted": fitted[name]}
        figures[f"{name}_gain"] = fitted[name] - at_half[name]
    before, after = metrics.calibration_error(raw, targets), metrics.calibration_error(probs, targets)
    return {**figures, "ece_before": before, "ece_after": after, "ece_least": least_error(probs, targets)}


def show_speed() -> None:
    """Times what is outside the network, on random arrays."""
    rng = np.random.default_rng(0)
    for num_images, num_labels, hidden in ((10_000, 90, 0.0), (10_000, 90, 0.2), (5_000, 20, 0.0)):
        targets = (rng.random((num_images, num_labels)) < np.linspace(0.01, 0.3, num_labels)).astype(np.float32)
        probs = (1 / (1 + np.exp(2.5 - 3 * targets - rng.normal(size=targets.shape)))).astype(np.float32)
        targets[rng.random(targets.shape) < hidden] = np.nan
        start = time.perf_counter()
        decisions = DecisionRule.fit(probs, targets, TrainConfig())
        fitted = time.perf_counter()
        bootstrap.intervals(probs, targets, decisions.thresholds)
        resampled = time.perf_counter()
        names, labels = (tuple(map(str, range(size))) for size in targets.shape)
        thresholds, prevalence = decisions.thresholds, np.nanmean(targets, axis=0)
        Evaluation(labels, probs, targets, thresholds, thresholds, prevalence, names).to_json()
        seconds = time.perf_counter() - resampled
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{num_images:,} x {num_labels}, {hidden:.0%} unknown: {fitted - start:.1f} s for calibration and "
            f"thresholds, {resampled - fitted:.1f} s for {bootstrap.RESAMPLES:,} resamples, {seconds:.1f} s for all "
            f"figures of an evaluation (intervals among them), peak {peak} MB"
        )


def main() -> None:
    """Measures every seed and prints a line for each, then means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", type=Path, nargs="?")
    parser.add_argument("test", type=Path, nargs="?")
    parser.add_argument("--models", type=Path, default=Path("thresholds-models"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed:
        show_speed()
        return
    runs = []
    for seed in range(arguments.seeds):
        settings = {"seed": seed, "epochs": arguments.epochs, "threads": arguments.threads}
        model = trained(arguments.train, arguments.models / f"{arguments.train.parent.name}-{seed}", settings)
        runs.append(measure(model, arguments.train, arguments.test))
        print(json.dumps({"seed": seed, **{name: round(value, 5) for name, value in runs[-1].items()}}), flush=True)
    for name in runs[0]:
        values = [run[name] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: {statistics.mean(values):.5f} +- {spread:.5f} ({min(values):.5f} .. {max(values):.5f})")


if __name__ == "__main__":
    main()
