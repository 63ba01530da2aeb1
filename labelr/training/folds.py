"""Cross-validation: each of several models is evaluated on a fold of the images that the others are trained on."""

import io
import logging
import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.data.dataset import Dataset
from labelr.data.duplicates import group_images
from labelr.data.label_table import SPLITS
from labelr.data.splits import stratified_split
from labelr.errors import LabelrError, pluralize
from labelr.model import store
from labelr.model.archive import zip_errors
from labelr.model.calibration import calibrate
from labelr.model.predict import Model
from labelr.model.predictor import Probs
from labelr.scoring.evaluate import evaluate_probs, predict_dataset
from labelr.scoring.metrics import mean_or_nan
from labelr.scoring.report.page import ReportData
from labelr.scoring.results import AVERAGES, Evaluation, predictions_csv
from labelr.training.epochs import train
from labelr.training.finalize import SCORED, DecisionRule, complete
from labelr.training.record import FOLDS_FOLDER, START_OVER
from labelr.training.run import Run

MAX_FOLD_HEADERS = 2**16
"""The most bytes of a fold's file besides its probabilities."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folds:
    """The out-of-fold predictions of K models on N images.

    Attributes:
        probs: Uncalibrated, each by the model that was not trained on the image, shape ``(N, L)``.
        fold_of: The fold of each image, from 0 to K - 1, shape ``(N,)``.
        best_epochs: The best epoch of each model.
    """

    probs: Probs
    fold_of: NDArray[np.int64]
    best_epochs: tuple[int, ...]

    @property
    def median_epoch(self) -> int:
        """The number of epochs for the final model, which has no validation images to select one on."""
        return round(statistics.median(self.best_epochs))


def cross_validate(run: Run, dataset: Dataset) -> Folds:
    """Trains a model for each fold on the other folds, less a validation split.

    Folds that a stopped run has finished are not trained again. The splits of the data set are not used.

    Raises:
        LabelrError: If there are too few images, or a model cannot be trained.
    """
    config, num_folds = run.config, run.config.folds or 0
    groups = group_images(dataset.digests, dataset.fingerprints, dataset.groups)
    fold_of = _split(dataset, [1 / num_folds] * num_folds, groups, config.seed)
    sizes = np.bincount(fold_of, minlength=num_folds)
    if not sizes.all():
        raise LabelrError(
            f"{pluralize(len(groups), 'image')}, with copies and groups kept together, cannot fill {num_folds} folds",
            "use fewer `--folds`, or label more images",
        )
    probs = np.empty(dataset.targets.shape, np.float32)
    best_epochs = []
    for fold, size in enumerate(sizes.tolist()):
        log.info("fold %d of %d: %s held out", fold + 1, num_folds, pluralize(size, "image is", "images are"))
        held_out, rest = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        splits = np.full(len(groups), SPLITS.index("test"))
        fractions = (1 - config.val_fraction, config.val_fraction)  # of train and val, the first of SPLITS
        splits[rest] = _split(dataset.take(rest), fractions, groups[rest], config.seed)
        path = run.folder / FOLDS_FOLDER / f"{fold + 1}.npz"
        if not path.exists():
            _train_fold(run.fold(str(fold + 1)), replace(dataset, splits=splits), path)
        probs[held_out], best_epoch = _read_fold(path, (int(size), len(dataset.labels)))
        best_epochs.append(best_epoch)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    return Folds(probs, fold_of, tuple(best_epochs))


def _train_fold(run: Run, dataset: Dataset, path: Path) -> None:
    """Trains the model of one fold, and saves its predictions on the held-out images, which are the test split."""
    train(run, dataset)
    model = store.load_from(run.folder, run.runtime)
    probs = predict_dataset(model, dataset.split("test"), options=run.config, track=run.track)
    with files.replacing(path) as file:
        np.savez(file, probs=probs, best_epoch=model.info.best_epoch)


def _read_fold(path: Path, shape: tuple[int, int]) -> tuple[Probs, int]:
    """The predictions of one fold, and the epoch of its model that was kept.

    Raises:
        LabelrError: If they are damaged, or of other images.
    """
    with files.reading(path, START_OVER):
        content = files.read_bytes(path, 4 * math.prod(shape) + MAX_FOLD_HEADERS)
        with zip_errors(), np.load(io.BytesIO(content)) as saved:
            probs, best_epoch = saved["probs"], saved["best_epoch"]
        if probs.shape != shape or probs.dtype != np.float32 or not ((probs >= 0) & (probs <= 1)).all():
            raise ValueError("it does not hold the probabilities of this fold")
        if best_epoch.shape != () or best_epoch.dtype.kind != "i" or best_epoch < 1:
            raise ValueError("it does not hold the kept epoch of this fold")
    return probs, int(best_epoch)


def _split(dataset: Dataset, fractions: Sequence[float], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return stratified_split(dataset.targets, dataset.digests, fractions, groups=groups, seed=seed)


def finalize_folds(run: Run, dataset: Dataset, folds: Folds, *, suspects: Path | None = None) -> Model:
    """Calibrates the model that was trained on all images on the out-of-fold predictions, and completes it.

    Each fold is evaluated with the calibration and thresholds of the other folds, so that nothing was fitted on the
    images of its scores. The table of labels and ``predictions.csv`` use the model's own. Suspected label errors are
    searched among all images. The model's metrics are means over the folds, with their standard deviation.
    """
    config, targets = run.config, dataset.targets
    rule = DecisionRule.fit(folds.probs, targets, config)
    model = rule.apply_to(store.load_from(run.folder, run.runtime))
    rule.log_summary(model.labels, config)
    per_fold = []
    for fold in range(len(folds.best_epochs)):
        mine, others = np.flatnonzero(folds.fold_of == fold), folds.fold_of != fold
        fold_rule = DecisionRule.fit(folds.probs[others], targets[others], config)
        per_fold.append(_evaluate(model, dataset.take(mine), folds.probs[mine], fold_rule))
    pooled = _evaluate(model, dataset, folds.probs, rule)
    predictions = predictions_csv(pooled, {"fold": (folds.fold_of + 1).tolist()})
    files.write_atomically(run.folder / store.PREDICTIONS_FILE, predictions)
    result = pooled.to_json() | {"f1_at": _mean_f1_at(per_fold)} | _means_and_spreads(per_fold)
    del result["intervals"]  # the spread replaces them
    counts = {"images": [len(evaluation.files) for evaluation in per_fold], "best_epochs": list(folds.best_epochs)}
    missed = rule.missed_labels(model.labels)
    report = ReportData(
        model, pooled, {"scored_on": "folds", "missed_target": missed, **result, "folds": counts},
        SCORED["folds"], pooled, "(each predicted by a model that was not trained on it)",
    )  # fmt: skip
    return complete(report, config, suspects, run.track)


def _evaluate(model: Model, dataset: Dataset, probs: Probs, rule: DecisionRule) -> Evaluation:
    return evaluate_probs(rule.apply_to(model), dataset, calibrate(probs, rule.calibration))


def _means_and_spreads(per_fold: list[Evaluation]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each metric over the folds where it is evaluable."""
    values = {name: np.array([fold.metrics[name] for fold in per_fold]) for name in per_fold[0].metrics}
    finite = {name: column[~np.isnan(column)] for name, column in values.items()}
    return {
        "metrics": {name: float(mean_or_nan(column)) for name, column in finite.items()},
        "spread": {name: float(column.std(ddof=1)) if len(column) > 1 else np.nan for name, column in finite.items()},
    }


def _mean_f1_at(per_fold: list[Evaluation]) -> dict[str, dict[str, float]]:
    all_f1 = [fold.f1_at for fold in per_fold]
    return {
        name: {average: float(mean_or_nan(np.array([f1[name][average] for f1 in all_f1]))) for average in AVERAGES}
        for name in all_f1[0]
    }
