"""The result of an evaluation: baselines, F1 at two thresholds, the table of labels, and the files."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, Elements

from labelr import serialization
from labelr.scoring.results import COLUMNS, Evaluation, sort_rows, write_results


def make(num_images: int = 400) -> Evaluation:
    """A model that is not confident enough: its probabilities are half of what they should be."""
    rng = np.random.default_rng(5)
    prevalence = np.array([0.6, 0.3, 0.1])
    targets = (rng.random((num_images, 3)) < prevalence).astype(np.float32)
    probs = (0.4 * targets + 0.2 * rng.random(targets.shape)).astype(np.float32)
    fitted = np.array([0.3, 0.3, 0.3])
    names = tuple(f"{number}.jpg" for number in range(num_images))
    return Evaluation(("sky", "tree", "dog"), probs, targets, fitted, fitted, prevalence, names)


def test_prior_baseline_predicts_frequent_labels_and_ranks_nothing() -> None:
    evaluation = make()
    prior = evaluation.baselines["prior"]
    shares = evaluation.targets.mean(axis=0)
    assert prior["map_macro"] == pytest.approx(shares.mean())
    assert prior["auroc_macro"] == 0.5
    assert prior["recall_macro"] == pytest.approx(1 / 3)  # sky only
    assert prior["one_error"] < evaluation.baselines["random"]["one_error"]


@pytest.mark.parametrize("num_images", [3, 400])
def test_random_baseline_has_the_expected_values_even_for_few_images(num_images: int) -> None:
    evaluation = make(num_images)
    guess = evaluation.baselines["random"]
    assert guess["auroc_micro"] == pytest.approx(0.5, abs=0.05)
    assert guess["hamming_loss"] == pytest.approx(0.5, abs=0.05)
    assert guess["loss"] == pytest.approx(1.0, abs=0.1)
    assert guess == evaluation.baselines["random"]


def test_f1_at_one_half_and_at_the_models_thresholds_are_both_computed() -> None:
    evaluation = replace(make(), thresholds=np.full(3, 0.55), threshold=0.55)
    half, own = evaluation.f1_at["0.5"], evaluation.f1_at["auto"]
    assert own == dict.fromkeys(own, pytest.approx(own["micro"])) | {"samples": own["samples"]}
    assert own["micro"] == 1.0
    assert evaluation.metrics["f1_micro"] < half["micro"] < own["micro"]


def test_labels_that_are_not_evaluable_or_have_few_positives_are_listed() -> None:
    evaluation = make()
    targets = evaluation.targets.copy()
    targets[:, 1], targets[9:, 2] = 0, np.nan
    changed = replace(evaluation, targets=targets)
    assert changed.not_evaluable == ["tree"]
    assert changed.few_positives == ["tree", "dog"]
    row = changed.label_rows[1]
    assert (row["support"], row["tp"], row["fn"]) == (0, 0, 0)
    assert all(np.isnan(row[name]) for name in ("precision", "recall", "f1", "ap", "auroc"))


def test_table_of_labels_has_all_columns_and_counts_that_add_up() -> None:
    for row in make().label_rows:
        assert tuple(row) == COLUMNS
        assert row["tp"] + row["fn"] == row["support"]
        assert row["tp"] + row["fp"] == row["predicted"]
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == 400


def test_rows_are_sorted_from_the_highest_with_nan_last() -> None:
    rows = [{"label": label, "f1": f1} for label, f1 in (("b", np.nan), ("c", 0.1), ("a", 0.9))]
    assert [row["label"] for row in sort_rows(rows, "f1")] == ["a", "c", "b"]
    assert [row["label"] for row in sort_rows(rows, "label")] == ["a", "b", "c"]
    assert sort_rows(rows, None) == rows
    by_support = replace(make(), sort="support").label_rows
    assert [row["label"] for row in by_support] == ["sky", "tree", "dog"]


def test_json_has_no_nan() -> None:
    assert serialization.without_nan({"a": [np.nan, 1], "b": {"c": (np.nan,)}, "d": "nan"}) == {
        "a": [None, 1], "b": {"c": [None]}, "d": "nan",
    }  # fmt: skip
    evaluation = make(2)
    result = replace(evaluation, targets=np.full_like(evaluation.targets, np.nan)).to_json()
    assert "NaN" not in json.dumps(result)
    assert result["intervals"]["map_macro"] == [None, None]


@pytest.fixture
def evaluation() -> Evaluation:
    """Two images and two labels, of which one cell is unknown."""
    probs = np.array([[0.75, 0.25], [0.5, 0.125]], np.float32)
    targets = np.array([[1.0, np.nan], [0.0, 1.0]], np.float32)
    thresholds = np.array([0.6, 0.25])
    return Evaluation(
        ("sky", "a,b"), probs, targets, thresholds, thresholds, np.array([0.5, 0.5]), ("1.jpg", "d/2.jpg")
    )


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_written_files_have_the_metrics_the_table_of_labels_the_predictions_and_the_errors(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "out"
    write_results(folder, evaluation, "filename,reason\n")
    names = ["errors.csv", "metrics.json", "per_label.csv", "predictions.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "errors.csv").read_text() == "filename,reason\n"
    assert json.loads((folder / "metrics.json").read_text()) == evaluation.to_json()
    header, *rows = read(folder / "per_label.csv")
    assert [row[0] for row in rows] == ["sky", "a,b"]
    assert dict(zip(header, rows[0], strict=True))["f1"] == "1.0"
    assert dict(zip(header, rows[1], strict=True))["f1"] == ""  # not evaluable


def test_predictions_have_target_probability_and_prediction_of_each_cell(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    write_results(tmp_path, evaluation, "filename,reason\n")
    assert read(tmp_path / "predictions.csv") == [
        [
            "filename",
            "sky:target",
            "sky:probability",
            "sky:prediction",
            "a,b:target",
            "a,b:probability",
            "a,b:prediction",
        ],
        ["1.jpg", "1", "0.75", "1", "", "0.25", "1"],
        ["d/2.jpg", "0", "0.5", "0", "1", "0.125", "0"],
    ]


def test_table_of_labels_is_that_of_its_file_by_label(evaluation: Evaluation, tmp_path: Path) -> None:
    write_results(tmp_path, evaluation, "filename,reason\n")
    written = pd.read_csv(tmp_path / "per_label.csv", index_col="label")
    pd.testing.assert_frame_equal(evaluation.per_label, written)
    assert evaluation.per_label["f1"].isna().tolist() == [False, True]
    assert evaluation.per_label["support"].dtype == "int64"


def test_table_of_predictions_is_that_of_its_file_by_file_name(evaluation: Evaluation, tmp_path: Path) -> None:
    write_results(tmp_path, evaluation, "filename,reason\n")
    written = pd.read_csv(tmp_path / "predictions.csv", index_col="filename")
    pd.testing.assert_frame_equal(evaluation.predictions, written, check_dtype=False)
    kinds = {str(name).rpartition(":")[2]: str(dtype) for name, dtype in evaluation.predictions.dtypes.items()}
    assert kinds == {"target": "float32", "probability": "float32", "prediction": "int8"}


def test_evaluation_shows_its_main_metrics_and_every_label(evaluation: Evaluation) -> None:
    assert repr(replace(evaluation, model="/models/some")) == (
        "<Evaluation of some: 2 images, 2 labels; mAP 1.000, F1 micro 0.667, F1 macro 1.000>"
    )
    page = Elements(replace(evaluation, labels=HOSTILE[:2])._repr_html_())
    assert "script" not in {tag for tag, _ in page.elements}
    assert all(label in page.text for label in HOSTILE[:2])
    assert "Hamming loss" in page.text
