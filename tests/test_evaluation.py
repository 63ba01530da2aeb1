"""All figures of one evaluation: baselines, F1 at two thresholds, the table of labels."""

import json
from dataclasses import replace

import numpy as np
import pytest

from labelr.scoring.evaluation import COLUMNS, Evaluation, sort_rows, without_nan


def made(num_images: int = 400) -> Evaluation:
    """A model that is too careful: its probabilities are half of what they should be."""
    rng = np.random.default_rng(5)
    prevalence = np.array([0.6, 0.3, 0.1])
    targets = (rng.random((num_images, 3)) < prevalence).astype(np.float32)
    probs = (0.4 * targets + 0.2 * rng.random(targets.shape)).astype(np.float32)
    fitted = np.array([0.3, 0.3, 0.3])
    names = tuple(f"{number}.jpg" for number in range(num_images))
    return Evaluation(("sky", "tree", "dog"), probs, targets, fitted, fitted, prevalence, names)


def test_prior_baseline_writes_labels_that_most_images_have_and_orders_nothing() -> None:
    evaluation = made()
    prior = evaluation.baselines["prior"]
    shares = evaluation.targets.mean(axis=0)
    assert prior["map_macro"] == pytest.approx(shares.mean())
    assert prior["auroc_macro"] == 0.5
    assert prior["recall_macro"] == pytest.approx(1 / 3)  # sky alone
    assert prior["one_error"] < evaluation.baselines["random"]["one_error"]


@pytest.mark.parametrize("num_images", [3, 400])
def test_random_baseline_is_what_chance_gives_however_few_images_there_are(num_images: int) -> None:
    evaluation = made(num_images)
    guess = evaluation.baselines["random"]
    assert guess["auroc_micro"] == pytest.approx(0.5, abs=0.05)
    assert guess["hamming_loss"] == pytest.approx(0.5, abs=0.05)
    assert guess["loss"] == pytest.approx(1.0, abs=0.1)
    assert guess == evaluation.baselines["random"]


def test_f1_at_one_half_stands_beside_f1_at_the_models_thresholds() -> None:
    evaluation = replace(made(), thresholds=np.full(3, 0.55), threshold=0.55)
    half, own = evaluation.f1_at["0.5"], evaluation.f1_at["auto"]
    assert own == dict.fromkeys(own, pytest.approx(own["micro"])) | {"samples": own["samples"]}
    assert own["micro"] == 1.0
    assert evaluation.metrics["f1_micro"] < half["micro"] < own["micro"]


def test_labels_without_both_kinds_and_those_with_few_positives_are_named() -> None:
    evaluation = made()
    targets = evaluation.targets.copy()
    targets[:, 1], targets[9:, 2] = 0, np.nan
    spoilt = replace(evaluation, targets=targets)
    assert spoilt.not_evaluable == ["tree"]
    assert spoilt.few_positives == ["tree", "dog"]
    row = spoilt.per_label[1]
    assert (row["support"], row["tp"], row["fn"]) == (0, 0, 0)
    assert all(np.isnan(row[name]) for name in ("precision", "recall", "f1", "ap", "auroc"))


def test_table_of_labels_has_all_columns_and_counts_that_add_up() -> None:
    for row in made().per_label:
        assert tuple(row) == COLUMNS
        assert row["tp"] + row["fn"] == row["support"]
        assert row["tp"] + row["fp"] == row["predicted"]
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == 400


def test_rows_are_sorted_from_the_highest_and_nan_comes_last() -> None:
    rows = [{"label": label, "f1": f1} for label, f1 in (("b", np.nan), ("c", 0.1), ("a", 0.9))]
    assert [row["label"] for row in sort_rows(rows, "f1")] == ["a", "c", "b"]
    assert [row["label"] for row in sort_rows(rows, "label")] == ["a", "b", "c"]
    assert sort_rows(rows, None) == rows
    by_support = replace(made(), sort="support").per_label
    assert [row["label"] for row in by_support] == ["sky", "tree", "dog"]


def test_json_knows_no_nan() -> None:
    assert without_nan({"a": [np.nan, 1], "b": {"c": (np.nan,)}, "d": "nan"}) == {
        "a": [None, 1], "b": {"c": [None]}, "d": "nan",
    }  # fmt: skip
    evaluation = made(2)
    report = replace(evaluation, targets=np.full_like(evaluation.targets, np.nan)).to_json()
    assert "NaN" not in json.dumps(report)
    assert report["intervals"]["map_macro"] == [None, None]
