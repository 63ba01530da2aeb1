"""What an evaluation leaves in a directory."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from labelr.errors import LabelrError
from labelr.scoring.evaluation import Evaluation
from labelr.scoring.results import check_free, write_results


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


def test_files_hold_the_report_the_table_the_predictions_and_the_errors(evaluation: Evaluation, tmp_path: Path) -> None:
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


def test_predictions_hold_target_probability_and_decision_of_each_cell(evaluation: Evaluation, tmp_path: Path) -> None:
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


def test_results_are_replaced_only_by_force_and_other_files_stay(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    check_free(tmp_path, force=False)
    write_results(tmp_path, evaluation, "filename,reason\n")
    with pytest.raises(LabelrError, match=r"metrics\.json is there already") as caught:
        check_free(tmp_path, force=False)
    assert "--force" in caught.value.hint
    check_free(tmp_path, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
