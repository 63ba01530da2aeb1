"""What makes a trained network a finished model: how certain it is, from where on labels apply, how good it is."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelr import files
from labelr.config import TrainConfig
from labelr.data.labels import Targets
from labelr.errors import some
from labelr.model import shelf, store
from labelr.model.calibration import Calibration, calibrate
from labelr.model.device import Machine
from labelr.model.info import ModelInfo
from labelr.model.predict import Model, Probs
from labelr.progress import Track
from labelr.scoring.calibrate import fit_calibration
from labelr.scoring.evaluate import predict_dataset, score_dataset
from labelr.scoring.evaluation import without_nan
from labelr.scoring.thresholds import Goal, Thresholds, fit_thresholds
from labelr.training.prepare import Prepared

log = logging.getLogger(__name__)


class Decisions(NamedTuple):
    """How a network's probabilities become labels.

    Attributes:
        calibration: What they go through first.
        thresholds: From where on a label applies, shape ``(L,)``.
        missed: Which labels miss the precision or recall that was asked for, shape ``(L,)``.
    """

    calibration: Calibration
    thresholds: Thresholds
    missed: np.ndarray[tuple[int], np.dtype[np.bool_]]


def decide_how(probs: Probs, targets: Targets, config: TrainConfig) -> Decisions:
    """The calibration and the thresholds that suit probabilities and targets, ``(N, L)``, unseen in training."""
    calibration = fit_calibration(probs, targets)
    goal = Goal(precision=config.target_precision, recall=config.target_recall)
    return Decisions(calibration, *fit_thresholds(calibrate(probs, calibration), targets, goal))


def with_decisions(info: ModelInfo, decisions: Decisions) -> ModelInfo:
    """A model's description with its calibration and thresholds."""
    thresholds = tuple(decisions.thresholds.tolist())
    return replace(info, calibration=decisions.calibration, thresholds=thresholds)


def tell_decisions(labels: Sequence[str], decisions: Decisions, config: TrainConfig) -> None:
    """Says how probabilities were calibrated, and which labels miss what was asked for."""
    log.info(
        "calibrated by a temperature of %.2f and a bias of %.2f; thresholds from %.3f to %.3f",
        decisions.calibration.temperature, decisions.calibration.bias,
        decisions.thresholds.min(), decisions.thresholds.max(),
    )  # fmt: skip
    missed = [label for label, one in zip(labels, decisions.missed, strict=True) if one]
    if missed:
        name = "precision" if config.target_precision is not None else "recall"
        target = config.target_precision if config.target_precision is not None else config.target_recall
        log.warning(
            "%d of %d labels do not reach a %s of %g on validation images: %s",
            len(missed), len(labels), name, target, some(missed),
        )  # fmt: skip


def finish(
    prepared: Prepared, info: ModelInfo, settings: TrainConfig, machine: Machine, folder: Path, track: Track
) -> tuple[Model, dict[str, Any]]:
    """Chooses calibration and thresholds on the validation part, scores the test part, and completes the model.

    Returns:
        The model, and the report that stands in its ``metrics.json``; on the validation part where there is no other.
    """
    model = store.load(folder, machine=machine)
    val = prepared.part("val")
    decisions = decide_how(predict_dataset(model, val, options=settings, track=track), val.table.targets, settings)
    if len(val.table):
        tell_decisions(info.labels, decisions, settings)
    model = replace(model, info=with_decisions(info, decisions))
    names = [name for name in ("test", "val") if len(prepared.part(name).table)]
    scored_on = names[0] if names else None
    evaluation = score_dataset(model, prepared.part(scored_on or "test"), options=settings, track=track)
    return complete(model, {"scored_on": scored_on, **evaluation.to_json()})


def complete(model: Model, report: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Stores a model's scores beside it and marks it as complete."""
    report = without_nan(report)
    files.write_atomically(model.path / shelf.METRICS_FILE, files.json_text(report))
    files.write_atomically(model.path / shelf.CONFIG_FILE, files.json_text(model.info.config))
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    info = replace(model.info, scores=report["metrics"], scored_on=report["scored_on"], complete=True, created=created)
    shelf.save_info(model.path, info)
    return replace(model, info=info), report
