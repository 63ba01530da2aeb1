"""From trained weights to a complete model: calibration, thresholds, evaluation and report."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files, serialization
from labelr.config import CompareOptions, ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.label_table import Targets
from labelr.data.splits import recorded_digests
from labelr.errors import LabelrError, first_line, pluralize, preview
from labelr.frames import format_number
from labelr.model import store
from labelr.model.calibration import Calibration, calibrate, fit_calibration
from labelr.model.info import ModelInfo
from labelr.model.predict import Model
from labelr.model.predictor import Probs
from labelr.progress import Track
from labelr.scoring.compare import Comparison, compare_models
from labelr.scoring.evaluate import evaluate_probs, predict_dataset
from labelr.scoring.report.page import ReportData, write_report
from labelr.scoring.results import read_metrics, write_suspects
from labelr.scoring.thresholds import Goal, Thresholds, fit_thresholds, predictions_needed
from labelr.training.run import Run

SCORED = {
    "test": "of the test split, which it was not trained on",
    "val": "of the validation split, which its thresholds were chosen on: scores are optimistic",
    "folds": "in all, each predicted by a model that was not trained on it",
}
"""The images that the scores of a new model are on, as phrases that follow their number."""

IMAGES = {"test": "test images", "val": "validation images", "folds": "images over all folds"}

MAX_COMPARED = 2000
"""Test images on which a new model is compared with an earlier one, so that it takes seconds."""

log = logging.getLogger(__name__)


class DecisionRule(NamedTuple):
    """How a network's probabilities become labels, fitted on images that it was not trained on.

    Attributes:
        calibration: Applied to the probabilities first.
        thresholds: A label applies from its threshold on, shape ``(L,)``.
        missed: Whether a label misses the target recall, or cannot promise the target precision, shape ``(L,)``.
    """

    calibration: Calibration
    thresholds: Thresholds
    missed: NDArray[np.bool_]

    @classmethod
    def fit(cls, probs: Probs, targets: Targets, config: TrainConfig) -> "DecisionRule":
        """The rule for uncalibrated probabilities and targets ``(N, L)``."""
        calibration = fit_calibration(probs, targets)
        goal = Goal(precision=config.target_precision, recall=config.target_recall)
        calibrated = calibrate(probs, calibration)
        thresholds = fit_thresholds(calibrated, targets, goal)
        return cls(calibration, thresholds, goal.missed(calibrated, targets, thresholds))

    def apply_to(self, model: Model) -> Model:
        """The model with this calibration and these thresholds."""
        thresholds = tuple(self.thresholds.tolist())
        return replace(model, info=replace(model.info, calibration=self.calibration, thresholds=thresholds))

    def missed_labels(self, labels: tuple[str, ...]) -> list[str]:
        """The labels that miss the target."""
        return [label for label, is_missed in zip(labels, self.missed, strict=True) if is_missed]

    def log_summary(self, labels: tuple[str, ...], config: TrainConfig) -> None:
        """Logs the calibration, and which labels miss the target."""
        low, high = f"{self.thresholds.min():.3f}", f"{self.thresholds.max():.3f}"
        log.info(
            "calibrated with a temperature of %.2f and a bias of %.2f; %s",
            self.calibration.temperature, self.calibration.bias,
            f"thresholds from {low} to {high}" if low != high else f"threshold {low}",
        )  # fmt: skip
        missed = self.missed_labels(labels)
        if not missed:
            return
        count, precision = f"{len(missed)} of {pluralize(len(labels), 'label')}", config.target_precision
        if precision is None:
            log.warning(
                "a recall of %g on images that the network was not trained on is missed by %s: %s",
                config.target_recall, count, preview(missed),
            )  # fmt: skip
        else:
            log.warning(
                "a precision of %g cannot be promised for %s, from a probability of %g on: %s; a promise needs at "
                "least %d predictions on validation images, nearly all right: %s",
                precision, count, precision, preview(missed), predictions_needed(precision),
                "label more images" if config.folds else "use `--folds`, or label more images",
            )  # fmt: skip


def finalize(run: Run, dataset: Dataset, *, suspects: Path | None = None) -> Model:
    """Calibrates the trained model on the validation split, evaluates it on the test split, and completes it.

    Without a test split it is evaluated on the validation split. Both are searched for suspected label errors.
    """
    model, config = store.load_from(run.folder, run.runtime), run.config
    val, test = dataset.split("val"), dataset.split("test")
    val_probs = predict_dataset(model, val, options=config, track=run.track)
    rule = DecisionRule.fit(val_probs, val.targets, config)
    if len(val):
        rule.log_summary(model.labels, config)
    model = rule.apply_to(model)
    evaluation = checked = evaluate_probs(model, val, calibrate(val_probs, rule.calibration))
    scored_on, splits = "val" if len(val) else None, "the validation split"
    if len(test):
        evaluation = evaluate_probs(model, test, predict_dataset(model, test, options=config, track=run.track))
        checked = checked.concat(evaluation)
        scored_on, splits = "test", "the validation and test splits"
    report = ReportData(
        model, evaluation,
        {"scored_on": scored_on, "missed_target": rule.missed_labels(model.labels), **evaluation.to_json()},
        SCORED.get(scored_on or "", ""), checked, f"of {splits} (not used to train the network)",
    )  # fmt: skip
    return complete(report, config, suspects, run.track)


def complete(report: ReportData, config: TrainConfig, suspects: Path | None, track: Track) -> Model:
    """Saves a model's evaluation beside it, and marks it as complete; then writes the wanted report and suspects.

    A report or table of suspects that cannot be written is a warning only, since the model is complete.
    """
    model, result = report.model, serialization.without_nan(report.result)
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    info = replace(model.info, scores=result["metrics"], scored_on=result["scored_on"], complete=True, created=created)
    model = replace(model, info=info)
    files.write_atomically(model.path / store.METRICS_FILE, serialization.json_text(result))
    files.write_atomically(model.path / store.CONFIG_FILE, serialization.json_text(info.config))
    store.save_info(model.path, info)
    report = replace(report, model=model, result=result)
    if suspects is not None:
        with _warn_on_error("the table of suspects"):
            write_suspects(suspects, report.checked)
            if not report.checked.suspects.known:
                log.warning("%s is empty: no image was held out of training; check all with `--folds`", suspects)
    if config.report:
        with _warn_on_error("its report"):
            log.info("report: %s", write_report(model.path, report, plot_format=config.plot_format, track=track))
    return model


def replaced_model(run: Run, dataset: Dataset) -> ModelInfo | None:
    """The info of a finished model of the same images and labels that a new run is about to replace."""
    try:
        info = None if run.record else store.check(run.folder)
    except LabelrError:
        return None
    return info if info is not None and info.complete and _knows(run.folder, info, dataset) else None


def compare_with_earlier(run: Run, model: Model, dataset: Dataset, replaced: ModelInfo | None) -> None:
    """Logs how a new model compares with the best earlier one of the same data, on test images unseen by both.

    It warns if the new model is the default from now on, and is clearly worse or cannot be compared. It does not pin
    the earlier one itself: then no later model would become the default either, which a script that trains every night
    would notice late. Of a replaced model only the scores are left.
    """
    try:
        if replaced is not None:
            _log_replaced(model, replaced)
        default = _default_model(model)
        found = _compare_with_best(run, model, dataset)
    except LabelrError as error:  # the model is complete all the same
        log.warning("%s is not compared with earlier models: %s", model.name, error.message)
        return
    if found is None:
        return
    earlier, sentence, comparison = found
    difference = comparison.differences[0]["map_macro"][0] if comparison else np.nan
    is_default = default == model.path
    if is_default and not difference >= 0:
        reason = "newest" if store.pinned_model() is None else "default"
        keep = f"keep {earlier.name} with `labelr models default {shlex.quote(earlier.name)}`"
        sentence += f". Without `--model`, {model.name} is used now, since it is the {reason}; {keep}"
    elif default and not is_default and difference > 0 and model.path.parent == store.models_folder():
        change = f"change that with `labelr models default {shlex.quote(model.name)}`"
        sentence += f". Without `--model`, {default.name} is used; {change}"
    is_doubtful = np.isnan(difference) or (comparison and comparison.verdict() == "worse")
    log.log(logging.WARNING if is_default and is_doubtful else logging.INFO, "%s", sentence)


def _default_model(model: Model) -> Path | None:
    """The default model now that a new one is the newest; None if it does not matter or, with a warning, is gone."""
    try:
        if store.pinned_model() is None:
            return model.path if model.path.parent == store.models_folder() else None
        return store.find_default()
    except LabelrError as error:
        log.warning("%s; %s", error.message, error.hint)
        return None


def _compare_with_best(run: Run, model: Model, dataset: Dataset) -> tuple[Path, str, Comparison | None] | None:
    """The best earlier model that can be compared, or else is the best, how the new one compares, and the comparison.

    None if there is no earlier model.
    """
    failed = []
    test = dataset.split("test")
    for earlier in _find_earlier(model, dataset):
        try:
            comparison = _compare(run, earlier, model, test)
        except (LabelrError, OSError, RuntimeError) as error:
            sentence = f"{model.name} cannot be compared with {earlier.name}: {first_line(error)}"
        else:
            sentence = comparison.describe()
            if comparison.is_evaluable:
                return earlier, sentence, comparison
        failed.append((earlier, sentence, None))
        if not len(test):
            break
    return failed[0] if failed else None


def _compare(run: Run, earlier: Path, model: Model, test: Dataset) -> Comparison:
    """The comparison of an earlier model with a new one on the images of the test split."""
    if not len(test):
        raise LabelrError("there is no test split")
    rows = np.unique(np.linspace(0, len(test) - 1, min(len(test), MAX_COMPARED)).astype(int))
    models = (store.load_from(earlier, run.runtime), model)
    options = CompareOptions.of({name: getattr(run.config, name) for name in ReadOptions.names()})
    return compare_models(models, test.take(rows), options, track=run.track)


def _find_earlier(model: Model, dataset: Dataset) -> Iterator[Path]:
    """The other models in the models folder that know images and labels of a data set, the best first.

    The default comes before all. Damaged models are skipped with a warning.
    """
    pinned = store.listed_default()
    known = [
        (path == pinned, (info.scores or {}).get("map_macro") or 0.0, path)
        for path, info in store.list_models()
        if path != model.path and info.complete and _knows(path, info, dataset)
    ]
    for _, _, path in sorted(known, reverse=True):
        try:
            store.verify(path)
        except LabelrError as error:
            log.warning("%s; the model is skipped", error.message)
        else:
            yield path


def _knows(folder: Path, info: ModelInfo, dataset: Dataset) -> bool:
    """Whether a model shares labels and images, which are recognised by content, with a data set."""
    return not (set(info.labels).isdisjoint(dataset.labels) or recorded_digests(folder).isdisjoint(dataset.digests))


def _log_replaced(model: Model, replaced: ModelInfo) -> None:
    """Logs the mAP of a model and of the one that it replaces; a warning if the old one is above the new interval."""
    before, after = ((info.scores or {}).get("map_macro") for info in (replaced, model.info))
    if before is None or after is None:
        return
    high = read_metrics(model.path).get("intervals", {}).get("map_macro", [None, None])[1]
    images, own = (IMAGES.get(info.scored_on or "", "images") for info in (model.info, replaced))
    log.log(
        logging.WARNING if high is not None and before > high else logging.INFO,
        "%s has mAP %s on its %s; the model that it replaced had mAP %s on its own %s, which may be others: without "
        "`--force`, both are kept and compared on the same images",
        model.name, format_number(after), images, format_number(before), own,
    )  # fmt: skip


@contextmanager
def _warn_on_error(what: str) -> Iterator[None]:
    try:
        yield
    except (LabelrError, OSError) as error:
        reason = error.message if isinstance(error, LabelrError) else str(error)
        log.warning("the model is complete, but %s is not: %s; write it with `labelr evaluate`", what, reason)
