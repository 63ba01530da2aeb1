"""Cross-validation: every image is predicted by a model that was not trained on it."""

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, TINY_OPTIONS, Cli

import labelr
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.training.fit import FitResult, fit
from labelr.training.folds import _read_fold


def report_of(model: Model) -> dict[str, object]:
    report: dict[str, object] = json.loads((model.path / "metrics.json").read_text())
    return report


@pytest.mark.slow
def test_final_model_trains_on_all_images_for_the_median_of_the_best_epochs(folded: FitResult) -> None:
    with (folded.model.path / "splits.csv").open() as file:
        assert [row["split"] for row in csv.DictReader(file)] == ["train"] * 60
    best = report_of(folded.model)["folds"]["best_epochs"]  # type: ignore[index]
    assert len(best) == 3
    assert len(folded.history) == folded.model.info.best_epoch == round(statistics.median(best))
    assert folded.model.info.config["folds"] == 3


@pytest.mark.slow
def test_scores_are_means_over_folds_with_their_spread(folded: FitResult) -> None:
    report = report_of(folded.model)
    assert report["scored_on"] == folded.model.info.scored_on == "folds"
    assert folded.metrics == report["metrics"]
    assert sum(report["folds"]["images"]) == report["images"] == 60  # type: ignore[index]
    assert all(value >= 0 for value in report["spread"].values())  # type: ignore[attr-defined]
    assert report["spread"]["loss"] > 0  # type: ignore[index]
    assert "intervals" not in report


@pytest.mark.slow
def test_each_image_has_one_out_of_fold_prediction_and_thresholds_come_from_them(
    folded: FitResult, shapes: Path
) -> None:
    with (folded.model.path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["filename"] for row in rows) == sorted(path.name for path in (shapes / "images").iterdir())
    for label, threshold in zip(folded.model.labels, folded.model.info.thresholds, strict=True):
        applies = [float(row[f"{label}:probability"]) >= threshold for row in rows]
        assert applies == [row[f"{label}:prediction"] == "1" for row in rows]
    with (shapes / "labels.csv").open() as file:
        targets = {row["filename"]: row["disc"] for row in csv.DictReader(file)}
    assert {row["filename"]: row["disc:target"] for row in rows} == targets


@pytest.mark.slow
def test_out_of_fold_predictions_differ_from_those_of_the_final_model(folded: FitResult, shapes: Path) -> None:
    with (folded.model.path / "predictions.csv").open() as file:
        probs = np.array([float(row["disc:probability"]) for row in csv.DictReader(file)])
    seen = labelr.evaluate(shapes, folded.model, split="all").probs[:, 1]
    assert np.abs(seen - probs).max() > 0.01


@pytest.mark.slow
def test_every_image_was_trained_on(folded: FitResult, shapes: Path) -> None:
    with pytest.raises(LabelrError, match="was trained on every image"):
        labelr.evaluate(shapes, folded.model)


@pytest.mark.slow
def test_fit_shows_mean_and_spread_and_a_plain_model_replaces_the_predictions(
    cli: Cli, shapes: Path, tmp_path: Path
) -> None:
    place = tmp_path / "here"
    folded = cli("fit", shapes, "--folds", 2, "-o", place, *TINY_OPTIONS)
    assert folded.code == 0
    assert "Measured on 60 images in all, each predicted by a model that was not trained on it." in folded.err
    assert "spread" in folded.err
    assert (place / "predictions.csv").is_file()
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == []
    assert cli("fit", shapes, "-o", place, "--force", *TINY_OPTIONS).code == 0
    assert not (place / "predictions.csv").exists()


def test_images_of_one_group_are_kept_in_one_fold(shapes: Path, tmp_path: Path) -> None:
    header, *rows = (shapes / "labels.csv").read_text().splitlines()
    table = tmp_path / "groups.csv"
    table.write_text("\n".join([f"{header},patient", *(f"{row},anna" for row in rows)]))
    message = "60 images, with copies and groups kept together, cannot fill 2 folds"
    with pytest.raises(LabelrError, match=message) as caught:
        fit(shapes, {**TINY, "folds": 2, "labels": str(table), "group": "patient"})
    assert "--folds" in caught.value.hint


def test_splits_in_the_label_file_and_folds_exclude_each_other(shapes: Path, tmp_path: Path) -> None:
    header, *rows = (shapes / "labels.csv").read_text().splitlines()
    table = tmp_path / "parts.csv"
    table.write_text("\n".join([f"{header},split", f"{rows[0]},val", *(f"{row},train" for row in rows[1:])]))
    with pytest.raises(LabelrError, match="states which images are train, val and test") as caught:
        fit(shapes, {**TINY, "folds": 2, "labels": str(table)})
    assert "--folds" in caught.value.hint


@pytest.mark.parametrize(
    "arrays",
    [
        {"probs": np.zeros((3, 2), np.float32)},
        {"probs": np.zeros((4, 2), np.float32), "best_epoch": 1},
        {"probs": np.full((3, 2), np.nan, np.float32), "best_epoch": 1},
        {"probs": np.zeros((3, 2), np.float32), "best_epoch": 0},
        {"probs": np.zeros(10**6, np.float32), "best_epoch": 1},
    ],
)
def test_damaged_predictions_of_a_fold_are_an_error(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "1.npz", **arrays)
    with pytest.raises(LabelrError, match=r"1\.npz is damaged"):
        _read_fold(tmp_path / "1.npz", (3, 2))
