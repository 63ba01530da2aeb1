"""Suspected label errors: which, in which order, and how they are written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_OPTIONS, Cli, make_evaluation

from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.scoring.evaluate import check_suspects_file
from labelr.scoring.metrics import find_suspects
from labelr.scoring.results import write_suspects
from labelr.training.fit import FitResult

YES = np.array([0.9, 0.8, 0.7, 0.2, 0.6])
NO = np.array([0.1, 0.2, 0.9, 0.3, 0.55])


def one_label(yes: np.ndarray, no: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets (N, 1) of images with the given answer yes, and of images with no."""
    return np.concatenate([yes, no])[:, None], np.concatenate([np.ones(len(yes)), np.zeros(len(no))])[:, None]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_less_probable_answers_are_suspects_the_least_probable_first() -> None:
    found = find_suspects(*one_label(YES, NO))
    # given no at 0.9, given yes at 0.2, given no at 0.55; the other given answers have a probability of at least 0.5
    assert found.rows.tolist() == [7, 3, 9]
    assert found.columns.tolist() == [0, 0, 0]
    assert found.known == 10


def test_clear_suspects_are_off_the_diagonal_of_the_confident_joint() -> None:
    # Thresholds: yes 0.64, no 0.59. Given no at 0.9 >= 0.64, given yes at 1 - 0.2 >= 0.59; 0.55 is below 0.64.
    assert find_suspects(*one_label(YES, NO)).clear == 2


def test_probable_answer_below_its_threshold_is_found_by_confident_learning() -> None:
    # A rare label for which the model is never confident: 0.45 is above the threshold of yes, so no is suspicious.
    found = find_suspects(*one_label(np.array([0.4, 0.3, 0.35]), np.array([0.02, 0.03, 0.01, 0.45])))
    assert 6 in found.rows
    assert found.clear == 1


def test_unknown_cells_count_nowhere() -> None:
    probs, targets = one_label(YES, NO)
    more, unknown = np.array([[0.99], [0.01]]), np.array([[np.nan], [np.nan]])
    found = find_suspects(np.concatenate([more, probs]), np.concatenate([unknown, targets]))
    assert found.rows.tolist() == [9, 5, 11]
    assert (found.clear, found.known) == (2, 10)


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_label_with_equal_answers_only_has_no_suspects(answer: float) -> None:
    found = find_suspects(np.linspace(0, 1, 6)[:, None], np.full((6, 1), answer))
    assert (len(found), found.clear, found.known) == (0, 0, 6)


def test_no_images_have_no_suspects() -> None:
    found = find_suspects(np.empty((0, 3)), np.empty((0, 3)))
    assert (len(found), found.known) == (0, 0)


def test_flipped_labels_rank_first_with_good_predictions() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((400, 5)) < 0.3
    probs = np.clip(np.where(truth, 0.85, 0.12) + rng.normal(0, 0.15, truth.shape), 0, 1)
    flipped = rng.random(truth.shape) < 0.05
    found = find_suspects(probs, (truth ^ flipped).astype(float))
    hits = flipped[found.rows, found.columns]
    assert hits[: flipped.sum()].mean() > 0.9


def test_table_has_the_file_names_of_the_label_file_and_ranks_from_1(shapes: Path, tmp_path: Path) -> None:
    evaluation = make_evaluation(shapes, ["sea, deep", "=1+1"])
    found = evaluation.suspects
    check_suspects_file(tmp_path / "new" / "suspects.csv", force=False)
    write_suspects(tmp_path / "new" / "suspects.csv", evaluation)
    rows = rows_of(tmp_path / "new" / "suspects.csv")
    assert list(rows[0]) == ["filename", "label", "given", "probability", "rank"]
    assert [row["rank"] for row in rows] == [str(number) for number in range(1, len(found) + 1)]
    for row, image, label in zip(rows, found.rows, found.columns, strict=True):
        assert row["filename"] == evaluation.files[image]
        assert row["label"] == {"=1+1": "'=1+1"}.get(evaluation.labels[label], evaluation.labels[label])
        assert float(row["given"]) == evaluation.targets[image, label]
        assert float(row["probability"]) == pytest.approx(evaluation.probs[image, label], abs=1e-6)
    certainty = [float(row["probability"]) if row["given"] == "1" else 1 - float(row["probability"]) for row in rows]
    assert certainty == sorted(certainty)


def test_table_is_replaced_only_with_force_and_never_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "suspects.csv"
    check_suspects_file(path, force=False)
    path.write_text("mine")
    with pytest.raises(LabelrError, match=r"suspects\.csv exists already") as caught:
        check_suspects_file(path, force=False)
    assert "--force" in caught.value.hint
    check_suspects_file(path, force=True)
    with pytest.raises(LabelrError, match="is a folder"):
        check_suspects_file(tmp_path, force=True)


def test_fit_does_not_start_if_the_table_may_not_be_replaced(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    result = cli("fit", shapes, "--suspects", tmp_path / "mine.csv", *TINY_OPTIONS)
    assert result.code == 1
    assert "epoch" not in result.err
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_fit_does_not_start_if_the_table_cannot_be_written(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = cli("fit", shapes, "--suspects", tmp_path / "file" / "s.csv", *TINY_OPTIONS)
    assert result.code == 1
    assert "epoch" not in result.err
    assert f"cannot write {tmp_path / 'file'}" in result.err


@pytest.mark.slow
def test_fit_checks_the_images_that_were_not_trained_on(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    assert cli("fit", shapes, "-o", here, "--suspects", tmp_path / "s.csv", *TINY_OPTIONS).code == 0
    unseen = {row["image"] for row in rows_of(here / "splits.csv") if row["split"] != "train"}
    found = {row["filename"] for row in rows_of(tmp_path / "s.csv")}
    assert found
    assert found <= unseen


@pytest.mark.slow
def test_folds_check_all_images_by_out_of_fold_predictions(folded: FitResult) -> None:
    predictions = {row["filename"]: row for row in rows_of(folded.model.path / "predictions.csv")}
    rows = rows_of(folded.model.path.with_name("suspects.csv"))
    assert len({row["filename"] for row in rows}) > 20
    for row in rows:
        prob = float(predictions[row["filename"]][f"{row['label']}:probability"])
        assert float(row["probability"]) == pytest.approx(prob, abs=1e-6)
        assert row["given"] == predictions[row["filename"]][f"{row['label']}:target"]


@pytest.mark.slow
def test_evaluate_checks_the_evaluated_images(cli: Cli, shapes: Path, trained: Model, tmp_path: Path) -> None:
    command = ("evaluate", shapes, "--model", trained.path, "--split", "all", "--json")
    result = cli(*command, "--suspects", tmp_path / "s.csv")
    assert json.loads(result.out)["images"] == 60
    given = {row["filename"]: row for row in rows_of(shapes / "labels.csv")}
    for row in rows_of(tmp_path / "s.csv"):
        assert given[row["filename"]][row["label"]] == row["given"]
    assert cli(*command, "--suspects", tmp_path / "s.csv").code == 1
    assert cli(*command, "--suspects", tmp_path / "s.csv", "--force").code == 0
