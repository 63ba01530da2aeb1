"""Metrics, compared with scikit-learn and with cases worked out by hand."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from labelr.model.calibration import decide
from labelr.scoring import metrics

nan = np.nan
Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def _fast_scikit_learn() -> Iterator[None]:
    """Thousands of small calls spend most of their time in the validation of parameters."""
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        yield


def random_case(seed: int, num_images: int = 60, num_labels: int = 7) -> tuple[Array, Array]:
    """Informative probabilities, and targets that are all known; every label has positives and negatives."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, num_labels)) < rng.uniform(0.1, 0.6, num_labels)).astype(float)
    targets[0], targets[1] = 0, 1
    probs = (0.5 * targets + rng.random(targets.shape)) / 1.5
    return probs, targets


def rows_of(probs: Array, targets: Array) -> list[tuple[Array, Array]]:
    """The known cells of each image."""
    return [(row[~np.isnan(true)], true[~np.isnan(true)]) for row, true in zip(probs, targets, strict=True)]


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else nan


def expected_scores(probs: Array, targets: Array, threshold: float) -> dict[str, float]:
    """All metrics by scikit-learn's functions for one label, one image or all cells, on the known cells only."""
    rows, columns = rows_of(probs, targets), rows_of(probs.T, targets.T)
    known_rows = [(row, true) for row, true in rows if len(true)]
    if not known_rows:
        return dict.fromkeys(metrics.score(probs, targets, threshold), nan)
    both = [(row, true) for row, true in rows if len(set(true)) == 2]
    usable = [(column, true) for column, true in columns if len(set(true)) == 2]
    cells, truth = (np.concatenate(arrays) for arrays in zip(*known_rows, strict=True))
    mixed = len(set(truth)) == 2
    expected = {
        "loss": reference.log_loss(truth, cells.clip(1e-7, 1 - 1e-7), labels=[0, 1]),
        "hamming_loss": reference.zero_one_loss(truth, cells >= threshold),
        "exact_match": mean(float(((row >= threshold) == true).all()) for row, true in known_rows),
        "jaccard_samples": mean(
            reference.jaccard_score(true, row >= threshold, zero_division=0) for row, true in known_rows
        ),
        "map_macro": mean(reference.average_precision_score(true, column) for column, true in usable),
        "map_micro": reference.average_precision_score(truth, cells) if mixed else nan,
        "auroc_macro": mean(reference.roc_auc_score(true, column) for column, true in usable),
        "auroc_micro": reference.roc_auc_score(truth, cells) if mixed else nan,
        "lrap": mean(reference.label_ranking_average_precision_score([true], [row]) for row, true in both),
        "coverage_error": mean(reference.coverage_error([true], [row]) for row, true in both),
        "ranking_loss": mean(reference.label_ranking_loss([true], [row]) for row, true in both),
        "one_error": mean(1 - true[row.argmax()] for row, true in both),
        "brier": reference.mean_squared_error(truth, cells),
        "ece": calibration_error_by_hand(cells, truth),
    }
    for name in ("precision", "recall", "f1"):
        quality = partial(getattr(reference, f"{name}_score"), zero_division=0)
        weights = [true.sum() for _, true in columns]
        by_label = [quality(true, column >= threshold) if len(true) else 0.0 for column, true in columns]
        expected[f"{name}_micro"] = quality(truth, cells >= threshold)
        expected[f"{name}_macro"] = mean(quality(true, column >= threshold) for column, true in usable)
        expected[f"{name}_weighted"] = float(np.average(by_label, weights=weights)) if sum(weights) else nan
        expected[f"{name}_samples"] = mean(quality(true, row >= threshold) for row, true in known_rows)
    return expected


def calibration_error_by_hand(probs: Array, targets: Array) -> float:
    edges = [number / 15 for number in range(15)] + [1.1]
    total = 0.0
    for low, high in pairwise(edges):
        inside = (probs >= low) & (probs < high)
        if inside.any():
            total += inside.mean() * abs(probs[inside].mean() - targets[inside].mean())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learns(seed: int) -> None:
    probs, targets = random_case(seed)
    scores = metrics.score(probs, targets, 0.5)
    preds = probs >= 0.5
    expected = {
        "loss": reference.log_loss(targets.ravel(), probs.ravel()),
        "hamming_loss": reference.hamming_loss(targets, preds),
        "exact_match": reference.accuracy_score(targets, preds),
        "jaccard_samples": reference.jaccard_score(targets, preds, average="samples", zero_division=0),
        "brier": reference.brier_score_loss(targets.ravel(), probs.ravel()),
    }
    for average in ("micro", "macro"):
        expected[f"map_{average}"] = reference.average_precision_score(targets, probs, average=average)
        expected[f"auroc_{average}"] = reference.roc_auc_score(targets, probs, average=average)
    for average in ("micro", "macro", "weighted", "samples"):
        named = {"average": average, "zero_division": 0}
        expected[f"precision_{average}"] = reference.precision_score(targets, preds, **named)
        expected[f"recall_{average}"] = reference.recall_score(targets, preds, **named)
        expected[f"f1_{average}"] = reference.f1_score(targets, preds, **named)
    mixed = (targets.min(axis=1) == 0) & (targets.max(axis=1) == 1)
    expected["lrap"] = reference.label_ranking_average_precision_score(targets[mixed], probs[mixed])
    expected["coverage_error"] = reference.coverage_error(targets[mixed], probs[mixed])
    expected["ranking_loss"] = reference.label_ranking_loss(targets[mixed], probs[mixed])
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_images=st.integers(1, 8),
    num_labels=st.integers(1, 5),
    prevalence=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    unknown=st.sampled_from([0.0, 0.4, 1.0]),
    levels=st.sampled_from([1, 3, 1000]),  # of probabilities: all tied, many ties, few ties
)
def test_metrics_equal_scikit_learns_with_unknown_tied_and_missing_values(
    seed: int, num_images: int, num_labels: int, prevalence: float, unknown: float, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, num_labels)) < prevalence).astype(float)
    targets[rng.random(targets.shape) < unknown] = nan
    probs = rng.integers(0, levels + 1, targets.shape) / levels
    scores = metrics.score(probs, targets, 0.5)
    assert scores == pytest.approx(expected_scores(probs, targets, 0.5), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_has_fifteen_bins(seed: int) -> None:
    probs, targets = random_case(seed)
    expected = calibration_error_by_hand(probs.ravel(), targets.ravel())
    assert metrics.calibration_error(probs, targets) == pytest.approx(expected, abs=1e-12)


def test_cells_of_one_bin_are_calibrated_together() -> None:
    probs = np.array([[0.0, 0.05], [0.95, 1.0], [0.5, 0.5]])
    targets = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, nan]])
    assert metrics.calibration_error(probs, targets) == pytest.approx((0.05 + 0.05 + 0.5) / 5)


def test_unknown_labels_do_not_affect_the_ranking_of_known_ones() -> None:
    probs, targets = np.array([[0.9, 0.8, 0.1, 0.7]]), np.array([[nan, 1.0, 0.0, 0.0]])
    expected = {"lrap": 1.0, "coverage_error": 1.0, "ranking_loss": 0.0, "one_error": 0.0}
    assert metrics.label_ranking(probs, targets) == expected
    flipped = metrics.label_ranking(1 - probs, targets)
    assert flipped == pytest.approx({"lrap": 1 / 3, "coverage_error": 3, "ranking_loss": 1, "one_error": 1})


def test_unknown_cells_are_ignored() -> None:
    probs, targets = random_case(0)
    hidden = np.random.default_rng(1).random(targets.shape) < 0.3
    masked = np.where(hidden, nan, targets)
    scores = metrics.score(probs, masked, 0.5)
    known = ~hidden
    preds = probs >= 0.5
    assert scores["hamming_loss"] == pytest.approx((preds != targets)[known].mean())
    assert scores["f1_micro"] == pytest.approx(reference.f1_score(targets[known], preds[known]))
    by_label = [
        reference.average_precision_score(targets[known[:, label], label], probs[known[:, label], label])
        for label in range(targets.shape[1])
    ]
    assert scores["map_macro"] == pytest.approx(np.mean(by_label))
    f1 = [
        reference.f1_score(row[mask], pred[mask], zero_division=0)
        for row, pred, mask in zip(targets, preds, known, strict=True)
    ]
    assert scores["f1_samples"] == pytest.approx(np.mean(f1))
    assert metrics.score(np.where(hidden, 1 - probs, probs), masked, 0.5) == pytest.approx(scores)


def test_exact_match_uses_known_cells_and_images_with_any() -> None:
    preds = np.array([[True, False], [True, True], [False, False]])
    targets = np.array([[1.0, nan], [0.0, 1.0], [nan, nan]])
    assert metrics.exact_match(preds, targets) == 0.5


def test_label_without_positives_or_negatives_has_nan_ap_and_is_left_out_of_macro_averages() -> None:
    probs = np.array([[0.9, 0.1, 0.8], [0.2, 0.2, 0.7]])
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert metrics.average_precision(probs, targets) == pytest.approx([1.0, nan, nan], nan_ok=True)
    assert metrics.evaluable(targets).tolist() == [True, False, False]
    scores = metrics.score(probs, targets, 0.5)
    assert scores["map_macro"] == 1.0
    assert scores["f1_macro"] == 1.0


def test_all_metrics_are_nan_without_known_cells() -> None:
    scores = metrics.score(np.full((2, 3), 0.5), np.full((2, 3), nan), 0.5)
    assert all(np.isnan(value) for value in scores.values())


def test_all_metrics_are_nan_without_images() -> None:
    scores = metrics.score(np.empty((0, 3)), np.empty((0, 3)), 0.5)
    assert all(np.isnan(value) for value in scores.values())


def test_correctly_empty_image_counts_as_zero_in_the_samples_average() -> None:
    scores = metrics.score(np.array([[0.9], [0.1]]), np.array([[1.0], [0.0]]), 0.5)
    assert scores["f1_samples"] == 0.5


def test_loss_of_a_certain_wrong_prediction_is_finite() -> None:
    assert metrics.bce(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-7))


def test_confusion_counts_along_each_axis() -> None:
    preds = np.array([[True, True, False], [False, True, True]])
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, nan]])
    by_label = metrics.confusion(preds, targets, axis=0)
    assert [by_label.tp.tolist(), by_label.fp.tolist()] == [[1, 1, 0], [0, 1, 0]]
    assert [by_label.fn.tolist(), by_label.tn.tolist()] == [[0, 0, 1], [1, 0, 0]]
    assert metrics.confusion(preds, targets, axis=1).tp.tolist() == [1, 1]
    assert metrics.confusion(preds, targets, axis=None).tp.tolist() == [2]


def test_arrays_of_different_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected two arrays"):
        metrics.score(np.zeros((2, 3)), np.zeros((3, 2)), 0.5)


def test_label_applies_at_its_threshold_and_above() -> None:
    probs = np.array([[0.5, 0.4999, 0.9]])
    assert decide(probs, 0.5).tolist() == [[True, False, True]]
    assert decide(probs, [0.6, 0.4, 0.95]).tolist() == [[False, True, False]]
