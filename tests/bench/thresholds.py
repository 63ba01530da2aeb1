"""What calibration and fitted thresholds are worth on photographs, and how long scoring takes. Run it by hand.

    python tests/bench/thresholds.py TRAIN TEST --models DIR --seeds 5
    python tests/bench/thresholds.py TRAIN TEST --models DIR --target-precision 0.9 --val-fraction 0.3
    python tests/bench/thresholds.py --simulate 0.9
    python tests/bench/thresholds.py --speed

The first trains a model on TRAIN with each seed (other options go to the settings, as `--epochs 15`), of which a tenth
is the validation part; models that are in DIR already are taken as they are. Calibration and thresholds are fitted anew
on the validation part, and TEST only reports: macro and micro F1 at 0.5, uncalibrated, and at the fitted thresholds,
and the expected calibration error before and after, beside that of outcomes drawn from the calibrated probabilities
themselves, below which nobody can be expected to get.

The second measures a target precision on TEST: how many labels have thresholds that promise it, how many of these keep
it, by how much the others fall short, and the recall of all labels; beside the same for the lowest thresholds that
reach it on the validation images, which promise too much. The third does so for labels with a prevalence of 0.02 to 0.5
whose probabilities are calibrated or, by label, wrong by a shift of logits: 300 validation images, 5,000 others, 40
seeds. The last times all figures of 10,000 images with 90 labels, and the intervals of 5,000 images with 20.
"""

import argparse
import json
import resource
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import precision_recall_curve

from labelr.config import ReadOptions, TrainConfig
from labelr.data.load import load_dataset
from labelr.data.splits import read_splits
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED, calibrate, decide
from labelr.model.predict import Model
from labelr.model.predictor import Probs
from labelr.scoring import bootstrap, metrics
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.results import Evaluation
from labelr.scoring.thresholds import Goal, fit_thresholds
from labelr.training.finalize import DecisionRule
from labelr.training.fit import fit


def trained(train: Path, folder: Path, settings: dict[str, object]) -> Model:
    """The model in a folder, trained where it is not there yet, with the network's own probabilities."""
    if not (folder / store.METRICS_FILE).is_file():
        fit(train, {**settings, "test_fraction": 0}, output=folder, force=True)
    model = store.load(folder)
    return replace(model, info=replace(model.info, calibration=UNCALIBRATED))


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


def measure(model: Model, train: Path, test: Path, target_precision: float | None) -> dict[str, float]:
    """Scores on the test folder before and after what the validation part has taught, or of a target precision."""
    val_probs, val_targets = predictions(model, train, "val")
    decisions = DecisionRule.fit(val_probs, val_targets, TrainConfig())
    raw, targets = predictions(model, test, None)
    probs = calibrate(raw, decisions.calibration)
    if target_precision is not None:
        return promises((calibrate(val_probs, decisions.calibration), val_targets), (probs, targets), target_precision)
    at_half = metrics.averages(decide(raw, 0.5), targets)
    fitted = metrics.averages(decide(probs, decisions.thresholds), targets)
    figures = {"temperature": decisions.calibration.temperature, "bias": decisions.calibration.bias}
    for name in ("f1_macro", "f1_micro"):
        figures |= {f"{name}_at_half": at_half[name], f"{name}_fitted": fitted[name]}
        figures[f"{name}_gain"] = fitted[name] - at_half[name]
    before, after = metrics.calibration_error(raw, targets), metrics.calibration_error(probs, targets)
    return {**figures, "ece_before": before, "ece_after": after, "ece_least": least_error(probs, targets)}


def highest_recall(probs: np.ndarray, targets: np.ndarray, precision: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest threshold of each label that reaches a precision on the same images, and which labels have one."""
    thresholds = np.full(targets.shape[1], precision)
    found = np.zeros(targets.shape[1], dtype=bool)
    for label in np.flatnonzero(metrics.evaluable(targets)):
        reached, _, cuts = precision_recall_curve(targets[:, label], probs[:, label])
        is_reached = reached[:-1] >= precision
        found[label] = is_reached.any()
        thresholds[label] = cuts[is_reached.argmax()] if found[label] else precision
    return thresholds, found


def promises(
    fitted: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray], precision: float
) -> dict[str, float]:
    """What a target precision is worth: probabilities and targets, (N, L) both, of some images and of others."""
    goal = Goal(precision=precision)
    bounded = fit_thresholds(*fitted, goal)
    rules = {"reached": highest_recall(*fitted, precision), "bounded": (bounded, ~goal.missed(*fitted, bounded))}
    figures: dict[str, float] = {}
    for name, (thresholds, promised) in rules.items():
        counts = metrics.confusion(decide(others[0], thresholds), others[1], axis=0)
        usable = (counts.predicted > 0) & promised
        short = np.maximum(precision - counts.precision[usable], 0)
        figures |= {
            f"{name}_promised": promised.mean(),
            f"{name}_kept": (short == 0).mean() if usable.any() else np.nan,
            f"{name}_shortfall": short.mean() if usable.any() else np.nan,
            f"{name}_recall": counts.recall[counts.support > 0].mean(),
            f"{name}_recall_of_promised": counts.recall[usable].mean() if usable.any() else np.nan,
            f"{name}_precision_of_others": counts.precision[(counts.predicted > 0) & ~promised].mean(),
        }
    return figures


def simulate(seed: int, precision: float, *, spread: float, shift: float) -> dict[str, float]:
    """The same for probabilities that are calibrated, but for a shift of the logits of each label."""
    rng = np.random.default_rng(seed)
    prevalences = np.geomspace(0.02, 0.5, 12)
    shifts = rng.normal(0, shift, len(prevalences))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        probs = rng.beta(spread * prevalences, spread * (1 - prevalences), (count, len(prevalences)))
        probs = probs.clip(1e-6, 1 - 1e-6)
        return probs, (rng.random(probs.shape) < expit(logit(probs) + shifts)).astype(np.float64)

    return promises(draw(300), draw(5000), precision)


def show_simulation(precision: float) -> None:
    """Prints means over seeds, for models that rank well and less well."""
    for spread, shift in ((0.3, 0.0), (0.3, 0.5), (0.7, 0.0), (0.7, 0.5), (2.0, 0.0)):
        runs = [simulate(seed, precision, spread=spread, shift=shift) for seed in range(40)]
        print(f"beta distributions of concentration {spread}, shifts of {shift}:")
        show_means(runs)


def show_means(runs: list[dict[str, float]]) -> None:
    """Prints the mean of each figure over the runs where there is one, with its spread."""
    for name in runs[0]:
        values = [run[name] for run in runs if not np.isnan(run[name])] or [np.nan]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"  {name}: {statistics.mean(values):.5f} +- {spread:.5f} ({min(values):.5f} .. {max(values):.5f})")


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
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("test", type=Path, nargs="?")
    parser.add_argument("--models", type=Path, default=Path("thresholds-models"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--val-fraction", type=float)
    parser.add_argument("--backbone", default="none")
    parser.add_argument("--train", default="auto")
    parser.add_argument("--target-precision", type=float)
    parser.add_argument("--simulate", type=float, metavar="PRECISION")
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed:
        show_speed()
        return
    if arguments.simulate:
        show_simulation(arguments.simulate)
        return
    runs = []
    names = ("epochs", "threads", "val_fraction", "backbone", "train")
    for seed in range(arguments.seeds):
        settings = {name: value for name in names if (value := getattr(arguments, name)) is not None}
        folder = arguments.models / f"{arguments.data.parent.name}-{seed}"
        model = trained(arguments.data, folder, {**settings, "seed": seed})
        runs.append(measure(model, arguments.data, arguments.test, arguments.target_precision))
        print(json.dumps({"seed": seed, **{name: round(value, 5) for name, value in runs[-1].items()}}), flush=True)
    show_means(runs)


if __name__ == "__main__":
    main()
