"""Metrics, compared with scikit-learn and with cases worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from labelr.model.decide import decide
from labelr.scoring import metrics

nan = np.nan


def random_case(
    seed: int, num_images: int = 60, num_labels: int = 7
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities that know something of targets that are all known; every label has both kinds."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, num_labels)) < rng.uniform(0.1, 0.6, num_labels)).astype(float)
    targets[0], targets[1] = 0, 1
    probs = (0.5 * targets + rng.random(targets.shape)) / 1.5
    return probs, targets


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_those_of_scikit_learn(seed: int) -> None:
    probs, targets = random_case(seed)
    scores = metrics.score(probs, targets, 0.5)
    preds = probs >= 0.5
    expected = {
        "loss": reference.log_loss(targets.ravel(), probs.ravel()),
        "hamming_loss": reference.hamming_loss(targets, preds),
        "exact_match": reference.accuracy_score(targets, preds),
        "map_macro": reference.average_precision_score(targets, probs, average="macro"),
    }
    for average in ("micro", "macro", "weighted", "samples"):
        named = {"average": average, "zero_division": 0}
        expected[f"precision_{average}"] = reference.precision_score(targets, preds, **named)
        expected[f"recall_{average}"] = reference.recall_score(targets, preds, **named)
        expected[f"f1_{average}"] = reference.f1_score(targets, preds, **named)
    assert scores == pytest.approx(expected, abs=1e-9)


def test_unknown_cells_count_nowhere() -> None:
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


def test_exact_match_asks_for_the_known_cells_only_and_leaves_out_images_without_any() -> None:
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


def test_nothing_known_is_nan_everywhere() -> None:
    scores = metrics.score(np.full((2, 3), 0.5), np.full((2, 3), nan), 0.5)
    assert all(np.isnan(value) for value in scores.values())


def test_no_images_is_nan_everywhere() -> None:
    scores = metrics.score(np.empty((0, 3)), np.empty((0, 3)), 0.5)
    assert all(np.isnan(value) for value in scores.values())


def test_correctly_empty_image_counts_zero_in_the_samples_average() -> None:
    scores = metrics.score(np.array([[0.9], [0.1]]), np.array([[1.0], [0.0]]), 0.5)
    assert scores["f1_samples"] == 0.5


def test_loss_is_finite_where_a_certain_prediction_is_wrong() -> None:
    assert metrics.bce(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-7))


def test_confusion_counts_along_each_axis() -> None:
    preds = np.array([[True, True, False], [False, True, True]])
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, nan]])
    by_label = metrics.confusion(preds, targets, axis=0)
    assert [by_label.tp.tolist(), by_label.fp.tolist()] == [[1, 1, 0], [0, 1, 0]]
    assert [by_label.fn.tolist(), by_label.tn.tolist()] == [[0, 0, 1], [1, 0, 0]]
    assert metrics.confusion(preds, targets, axis=1).tp.tolist() == [1, 1]
    assert metrics.confusion(preds, targets, axis=None).tp.tolist() == [2]


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected two arrays"):
        metrics.score(np.zeros((2, 3)), np.zeros((3, 2)), 0.5)


def test_label_applies_at_its_threshold_and_above() -> None:
    probs = np.array([[0.5, 0.4999, 0.9]])
    assert decide(probs, 0.5).tolist() == [[True, False, True]]
    assert decide(probs, [0.6, 0.4, 0.95]).tolist() == [[False, True, False]]
