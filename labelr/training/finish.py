"""What makes a trained network a finished model: how certain it is, from where on labels apply, how good it is."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelr import files
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.label_table import Targets
from labelr.errors import LabelrError, preview
from labelr.model import store
from labelr.model.calibration import Calibration, calibrate, fit_calibration
from labelr.model.device import Runtime
from labelr.model.info import ModelInfo
from labelr.model.predict import Model, Probs
from labelr.progress import Track
from labelr.scoring.evaluate import evaluate_probs, predict_dataset
from labelr.scoring.report.page import write_report
from labelr.scoring.report.report_data import ReportData
from labelr.scoring.results import without_nan
from labelr.scoring.suspects import write_suspects
from labelr.scoring.thresholds import Goal, Thresholds, fit_thresholds

SCORED = {
    "test": "of the test split, which it was not trained on",
    "val": "of the validation split, which its best epoch and thresholds were chosen on: scores are optimistic",
}
"""Which images the report is on."""

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
            "%d of %d labels miss a %s of %g on images that the network was not trained on: %s",
            len(missed), len(labels), name, target, preview(missed),
        )  # fmt: skip


def finish(
    dataset: Dataset,
    info: ModelInfo,
    settings: TrainConfig,
    machine: Runtime,
    folder: Path,
    *,
    suspects: Path | None,
    track: Track,
) -> tuple[Model, dict[str, Any]]:
    """Chooses calibration and thresholds on the validation part, scores the test part, and completes the model.

    Args:
        dataset: The data.
        info: What was saved.
        settings: The settings, as resolved.
        machine: What to run on.
        folder: The model's directory.
        suspects: Where to write the given labels of the validation and test parts that are doubtful; None for nowhere.
        track: Watches the progress.

    Returns:
        The model, and the report that stands in its ``metrics.json``; on the validation part where there is no other.
    """
    model = store.load_from(folder, machine)
    val = dataset.split("val")
    val_probs = predict_dataset(model, val, options=settings, track=track)
    decisions = decide_how(val_probs, val.targets, settings)
    if len(val):
        tell_decisions(info.labels, decisions, settings)
    model = replace(model, info=with_decisions(info, decisions))
    names = [name for name in ("test", "val") if len(dataset.split(name))]
    scored_on = names[0] if names else None
    of_val = evaluate_probs(model, val, calibrate(val_probs, decisions.calibration))
    evaluation = of_val
    if scored_on != "val":
        test = dataset.split("test")
        evaluation = evaluate_probs(model, test, predict_dataset(model, test, options=settings, track=track))
    model, report = complete(model, {"scored_on": scored_on, **evaluation.to_json()})
    doubted = of_val.concat(evaluation) if scored_on == "test" else evaluation
    parts = "the validation and test splits" if scored_on == "test" else "the validation split"
    whence = f"of {parts} (not used to train the network)"
    source = ReportData(model, evaluation, SCORED.get(scored_on or "", ""), doubted, whence, saved_result=report)
    show(source, settings, suspects)
    return model, report


def complete(model: Model, report: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Stores a model's scores beside it and marks it as complete."""
    report = without_nan(report)
    files.write_atomically(model.path / store.METRICS_FILE, files.json_text(report))
    files.write_atomically(model.path / store.CONFIG_FILE, files.json_text(model.info.config))
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    info = replace(model.info, scores=report["metrics"], scored_on=report["scored_on"], complete=True, created=created)
    store.save_info(model.path, info)
    return replace(model, info=info), report


def show(source: ReportData, settings: TrainConfig, suspects: Path | None) -> None:
    """Writes what shows a complete model to people: the page, its charts, and the table of suspects if asked for.

    What cannot be written is warned of: the model is whole without it.
    """
    if suspects is not None:
        with _warned("the table of suspects"):
            write_suspects(suspects, source.checked, source.suspects)
            if not source.suspects.known:
                log.warning("%s is empty: training left no image out; look at all with `--folds`", suspects)
    if settings.report:
        with _warned("its report"):
            page = write_report(source.model.path, source, plot_format=settings.plot_format)
            log.info("report: %s", page)


@contextmanager
def _warned(what: str) -> Iterator[None]:
    """Turns an error of writing into a warning that the model is whole all the same."""
    try:
        yield
    except (LabelrError, OSError) as error:
        reason = error.message if isinstance(error, LabelrError) else str(error)
        log.warning("the model is complete, but %s is not: %s; see `labelr evaluate --help` to make it", what, reason)
