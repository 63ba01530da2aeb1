"""Cross-validation: several models, each scored on the images that the others have learned from."""

import logging
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.duplicates import group_images
from labelr.data.label_table import SPLITS
from labelr.data.splits import stratified_split
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.calibration import calibrate
from labelr.model.device import Runtime
from labelr.model.info import ModelInfo
from labelr.model.predict import Model, Probs
from labelr.progress import Track
from labelr.scoring.evaluate import evaluate_probs, predict_dataset
from labelr.scoring.metrics import mean_or_nan
from labelr.scoring.report.report_data import ReportData
from labelr.scoring.results import AVERAGES, Evaluation, predictions_csv
from labelr.training.epochs import train
from labelr.training.finish import Decisions, complete, decide_how, show, tell_decisions, with_decisions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folds:
    """What K models say of N images, each model of those that it was not trained on.

    Attributes:
        probs: Not calibrated, shape ``(N, L)``.
        fold_of: The fold of each image, from 0 to K - 1, shape ``(N,)``.
        best_epochs: Of each model, K of them.
    """

    probs: Probs
    fold_of: NDArray[np.int64]
    best_epochs: tuple[int, ...]

    @property
    def median_epoch(self) -> int:
        """How long a model should train that has no images left to tell."""
        return round(statistics.median(self.best_epochs))


def cross_validate(
    dataset: Dataset,
    config: TrainConfig,
    info: ModelInfo,
    machine: Runtime,
    folder: Path,
    *,
    log_dir: Path | None,
    track: Track,
) -> Folds:
    """Trains a model for each fold on the others, but for a validation part that chooses its best epoch.

    What a run that was stopped has left in the folder is not trained again.

    Args:
        dataset: The data; its parts are passed over.
        config: The settings, as resolved, with the number of folds.
        info: What is known of the models.
        machine: What to run on.
        folder: Where what each model says of its fold is kept until all is done.
        log_dir: Where TensorBoard events go, a folder a fold; None for nowhere.
        track: Watches the progress.

    Raises:
        LabelrError: If there are too few images, or a model cannot be trained.
    """
    num_folds = config.folds or 0
    groups = group_images(dataset.digests, dataset.fingerprints, dataset.groups)
    fold_of = _split(dataset, [1 / num_folds] * num_folds, groups, config.seed)
    sizes = np.bincount(fold_of, minlength=num_folds)
    if not sizes.all():
        raise LabelrError(
            f"{len(groups):,} images, copies and groups kept together, do not fill {num_folds} folds",
            "take fewer `--folds`, or label more images",
        )
    probs = np.empty(dataset.targets.shape, np.float32)
    best_epochs = []
    for fold, size in enumerate(sizes.tolist()):
        log.info("fold %d of %d: %s images are held out", fold + 1, num_folds, f"{size:,}")
        held_out, rest = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        parts = np.full(len(groups), SPLITS.index("test"))
        shares = (1 - config.val_fraction, config.val_fraction)  # of train and val, the first of SPLITS
        parts[rest] = _split(dataset.take(rest), shares, groups[rest], config.seed)
        done = folder / f"{fold + 1}.npz"
        if not done.exists():
            events = log_dir / f"fold-{fold + 1}" if log_dir is not None else None
            place = files.make_folder(folder / str(fold + 1))
            part = replace(dataset, splits=parts)
            trained, _ = train(part, config, info, machine, place, deadline=None, log_dir=events, track=track)
            model = store.load_from(place, machine)
            said = predict_dataset(model, dataset.take(held_out), options=config, track=track)
            with files.replacing(done) as file:
                np.savez(file, probs=said, best_epoch=trained.best_epoch)
        with np.load(done) as kept:
            probs[held_out] = kept["probs"]
            best_epochs.append(int(kept["best_epoch"]))
        shutil.rmtree(folder / str(fold + 1), ignore_errors=True)
    return Folds(probs, fold_of, tuple(best_epochs))


def _split(dataset: Dataset, shares: Sequence[float], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return stratified_split(dataset.targets, dataset.digests, shares, groups=groups, seed=seed)


def finish_folds(
    folds: Folds,
    dataset: Dataset,
    info: ModelInfo,
    settings: TrainConfig,
    machine: Runtime,
    folder: Path,
    *,
    suspects: Path | None,
) -> tuple[Model, dict[str, Any]]:
    """Gives the model that was trained on everything what the folds have taught, and completes it.

    Calibration and thresholds are chosen on all out-of-fold predictions. Each fold is scored with those that the other
    folds alone would give, so that no score is of images that anything was fitted on; the table of labels and
    ``predictions.csv`` are of the model's own. Doubtful labels are sought among all images, and go to `suspects`.

    Returns:
        The model, and the report: its metrics are means over the folds, with their spread (standard deviation).
    """
    targets = dataset.targets
    decisions = decide_how(folds.probs, targets, settings)
    tell_decisions(info.labels, decisions, settings)
    model = store.load_from(folder, machine)
    model = replace(model, info=with_decisions(info, decisions))
    per_fold = []
    for fold in range(len(folds.best_epochs)):
        mine, others = np.flatnonzero(folds.fold_of == fold), folds.fold_of != fold
        fitted = decide_how(folds.probs[others], targets[others], settings)
        per_fold.append(_evaluation(model, dataset.take(mine), folds.probs[mine], fitted))
    pooled = _evaluation(model, dataset, folds.probs, decisions)
    predictions = predictions_csv(pooled, {"fold": (folds.fold_of + 1).tolist()})
    files.write_atomically(folder / store.PREDICTIONS_FILE, predictions)
    report = pooled.to_json() | {"f1_at": _mean_f1_at(per_fold)} | _means_and_spreads(per_fold)
    del report["intervals"]  # the spread stands in their place
    counts = {"images": [len(one.files) for one in per_fold], "best_epochs": list(folds.best_epochs)}
    model, report = complete(model, {"scored_on": "folds", **report, "folds": counts})
    scored = "in all, each predicted by a model that was not trained on it"
    whence = "(each predicted by a model that was not trained on it)"
    show(ReportData(model, pooled, scored, pooled, whence, saved_result=report), settings, suspects)
    return model, report


def _evaluation(model: Model, dataset: Dataset, probs: Probs, decisions: Decisions) -> Evaluation:
    decided = replace(model, info=with_decisions(model.info, decisions))
    return evaluate_probs(decided, dataset, calibrate(probs, decisions.calibration))


def _means_and_spreads(per_fold: list[Evaluation]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each metric over the folds where it can be evaluated."""
    values = {name: np.array([one.metrics[name] for one in per_fold]) for name in per_fold[0].metrics}
    finite = {name: column[~np.isnan(column)] for name, column in values.items()}
    return {
        "metrics": {name: float(mean_or_nan(column)) for name, column in finite.items()},
        "spread": {name: float(column.std(ddof=1)) if len(column) > 1 else np.nan for name, column in finite.items()},
    }


def _mean_f1_at(per_fold: list[Evaluation]) -> dict[str, dict[str, float]]:
    all_f1 = [one.f1_at for one in per_fold]
    return {
        name: {average: float(mean_or_nan(np.array([one[name][average] for one in all_f1]))) for average in AVERAGES}
        for name in all_f1[0]
    }
