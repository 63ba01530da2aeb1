"""From trained weights to a complete model: calibration, thresholds, metrics."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from labelr.config import ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.load import load_dataset
from labelr.errors import LabelrError
from labelr.model.calibration import UNCALIBRATED, calibrate, fit_calibration
from labelr.model.predict import Model
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.thresholds import fit_thresholds
from labelr.training.finalize import DecisionRule
from labelr.training.fit import fit


def validation(model: Model, data: Path) -> Dataset:
    """The images of the model's validation split."""
    dataset = load_dataset([data], ReadOptions())
    rows = (model.path / "splits.csv").read_text().splitlines()[1:]
    named = {row.split(",")[0] for row in rows if row.split(",")[1] == "val"}
    return dataset.take([row for row, file in enumerate(dataset.files) if file in named])


def test_calibration_and_thresholds_are_fitted_on_the_validation_split(trained: Model, shapes: Path) -> None:
    val = validation(trained, shapes)
    raw = predict_dataset(replace(trained, info=replace(trained.info, calibration=UNCALIBRATED)), val)
    calibration = fit_calibration(raw, val.targets)
    assert trained.info.calibration.temperature == pytest.approx(calibration.temperature)
    assert trained.info.calibration.temperature != 1
    expected = fit_thresholds(calibrate(raw, calibration), val.targets)
    assert trained.info.thresholds == pytest.approx(expected)
    assert set(trained.info.thresholds) != {0.5}


def test_calibration_and_thresholds_are_saved(trained: Model) -> None:
    saved = json.loads((trained.path / "model.json").read_text())
    assert saved["calibration"] == asdict(trained.info.calibration)
    assert saved["thresholds"] == list(trained.info.thresholds)
    report = json.loads((trained.path / "metrics.json").read_text())
    assert {"intervals", "baselines", "f1_at", "few_positives"} <= set(report)
    assert [row["threshold"] for row in report["per_label"]] == list(trained.info.thresholds)


def test_target_recall_is_reached_on_validation_images(shapes: Path) -> None:
    model = fit(shapes, {**TINY, "target_recall": 1.0, "val_fraction": 0.3}).model
    val = validation(model, shapes)
    preds = predict_dataset(model, val) >= model.thresholds()
    assert preds[val.targets == 1].all()
    assert not preds.all()


def test_labels_that_cannot_promise_the_target_precision_are_named(
    shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = fit(shapes, {**TINY, "target_precision": 0.9, "val_fraction": 0.3, "report": True}).model
    assert model.info.thresholds == (0.9, 0.9, 0.9)  # 22 predictions would be needed, among 18 images
    assert "3 of 3 labels cannot promise a precision of 0.9, and apply from a probability of 0.9" in caplog.text
    assert "at least 22 predictions on validation images" in caplog.text
    assert json.loads((model.path / "metrics.json").read_text())["missed_target"] == list(model.labels)
    page = (model.path / "report" / "report.html").read_text()
    assert f"Labels that miss the target precision or recall, 3 of 3 labels: {', '.join(model.labels)}." in page


def test_target_without_validation_images_is_an_error_before_training(shapes: Path, home: Path) -> None:
    with pytest.raises(LabelrError, match="no validation images") as caught:
        fit(shapes, {**TINY, "val_fraction": 0, "target_recall": 0.9})
    assert "--val-fraction" in caught.value.hint
    assert list((home / "models").iterdir()) == []


def test_without_validation_images_nothing_is_fitted(shapes: Path) -> None:
    info = fit(shapes, {**TINY, "val_fraction": 0}).model.info
    assert info.calibration == UNCALIBRATED
    assert info.thresholds == (0.5, 0.5, 0.5)


def test_targets_of_one_kind_give_no_calibration_and_default_thresholds() -> None:
    probs = np.random.default_rng(0).random((5, 2)).astype(np.float32)
    rule = DecisionRule.fit(probs, np.zeros((5, 2), np.float32), TrainConfig())
    assert rule.calibration == UNCALIBRATED
    assert rule.thresholds.tolist() == [0.5, 0.5]
