"""Bootstrap intervals: the metrics of resamples equal scikit-learn's with sample weights."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from labelr.scoring import bootstrap, metrics
from labelr.scoring.metrics import FloatArray

nan = np.nan


@pytest.fixture(autouse=True)
def _fast_scikit_learn() -> Iterator[None]:
    """Thousands of small calls spend most of their time in the validation of parameters."""
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        yield


def case(seed: int, num_images: int = 80, num_labels: int = 6, levels: int = 20) -> tuple[FloatArray, FloatArray]:
    """Probabilities with ties, and targets of which some are unknown."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, num_labels)) < rng.uniform(0.05, 0.6, num_labels)).astype(float)
    probs = np.round((targets + rng.random(targets.shape)) / 2 * levels) / levels
    targets[rng.random(targets.shape) < 0.2] = nan
    return probs, targets


def weighted_by_scikit_learn(probs: FloatArray, targets: FloatArray, weights: FloatArray) -> dict[str, float]:
    """The headline metrics for one weighting ``(N,)``."""
    known = ~np.isnan(targets)
    spread = np.broadcast_to(weights[:, None], targets.shape)[known]
    truth, preds = targets[known], probs[known] >= 0.5
    precisions, f1 = [], []
    for column, true in zip(probs.T, targets.T, strict=True):
        rows = ~np.isnan(true) & (weights > 0)
        if len(set(true[rows])) == 2:
            named = {"sample_weight": weights[rows]}
            precisions.append(reference.average_precision_score(true[rows], column[rows], **named))
            f1.append(reference.f1_score(true[rows], column[rows] >= 0.5, zero_division=0, **named))
    f1_score = partial(reference.f1_score, zero_division=0)
    rows = [(row[mask], true[mask]) for row, true, mask in zip(probs, targets, known, strict=True)]
    of_images = [f1_score(true, row >= 0.5) if len(true) else 0.0 for row, true in rows]
    exact = [float(((row >= 0.5) == true).all()) for row, true in rows]
    known_rows = weights * known.any(axis=1)
    return {
        "map_macro": float(np.mean(precisions)) if precisions else nan,
        "f1_micro": f1_score(truth, preds, sample_weight=spread),
        "f1_macro": float(np.mean(f1)) if f1 else nan,
        "f1_samples": float(np.average(of_images, weights=known_rows)),
        "hamming_loss": reference.zero_one_loss(truth, preds, sample_weight=spread),
        "exact_match": float(np.average(exact, weights=known_rows)),
        "loss": reference.log_loss(truth, probs[known].clip(1e-7, 1 - 1e-7), sample_weight=spread, labels=[0, 1]),
    }


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_images=st.integers(2, 12),
    num_labels=st.integers(1, 4),
    levels=st.sampled_from([1, 4, 1000]),
)
def test_weighted_scores_equal_scikit_learns(seed: int, num_images: int, num_labels: int, levels: int) -> None:
    probs, targets = case(seed, num_images, num_labels, levels)
    targets[0, 0] = 1.0
    weights = np.random.default_rng(seed).integers(0, 4, (num_images, 2)).astype(float)
    weights[0] = 1
    scores = bootstrap.Weighted(probs, targets, 0.5).scores(weights)
    for column in range(2):
        expected = weighted_by_scikit_learn(probs, targets, weights[:, column])
        found = {name: values[column] for name, values in scores.items()}
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_equal_weights_give_the_plain_metrics() -> None:
    probs, targets = case(1)
    scores = bootstrap.Weighted(probs, targets, 0.5).scores(np.ones((len(probs), 1)))
    plain = metrics.score(probs, targets, 0.5)
    assert {name: values[0] for name, values in scores.items()} == pytest.approx(
        {name: plain[name] for name in bootstrap.HEADLINE}, abs=1e-12
    )


def test_weights_may_be_fractions() -> None:
    probs, targets = case(2)
    weighted = bootstrap.Weighted(probs, targets, 0.5)
    once, half = (weighted.scores(np.full((80, 1), weight)) for weight in (1, 0.01))
    assert half == {name: pytest.approx(values, abs=1e-12) for name, values in once.items()}


def test_interval_contains_the_score_and_narrows_with_more_images() -> None:
    widths = []
    for num_images in (50, 2000):
        probs, targets = case(3, num_images)
        scores, found = metrics.score(probs, targets, 0.5), bootstrap.intervals(probs, targets, 0.5)
        assert set(found) == set(bootstrap.HEADLINE)
        assert all(low <= scores[name] <= high for name, (low, high) in found.items())
        widths.append(found["f1_micro"][1] - found["f1_micro"][0])
    assert widths[1] < 0.3 * widths[0]


def test_interval_contains_the_score_where_most_labels_have_one_positive() -> None:
    rng = np.random.default_rng(5)
    targets = np.zeros((80, 60))
    targets[rng.integers(0, 80, 60), np.arange(60)] = 1
    probs = np.clip(0.3 * targets + 0.7 * rng.random(targets.shape), 0, 1)
    scores, found = metrics.score(probs, targets, 0.5), bootstrap.intervals(probs, targets, 0.5)
    for name in ("map_macro", "f1_macro"):
        low, high = found[name]
        assert scores[name] - low > 0.2 * (high - low)
        assert high - scores[name] > 0.2 * (high - low)


def test_interval_is_within_the_range_of_the_metric() -> None:
    targets = np.repeat([0.0, 1.0], [6, 6])[:, None]
    probs = np.clip(targets + np.linspace(-0.3, 0.3, 12)[:, None], 0.01, 0.99)
    probs[0] = 0.9
    found = bootstrap.intervals(probs, targets, 0.5)
    assert all(0 <= low <= high <= 1 for name, (low, high) in found.items() if name != "loss")


def test_interval_of_a_share_is_the_binomial_interval() -> None:
    probs = np.zeros((400, 1))
    targets = np.repeat([0.0, 1.0], [300, 100])[:, None]
    low, high = bootstrap.intervals(probs, targets, 0.5)["exact_match"]
    error = np.sqrt(0.75 * 0.25 / 400)
    assert [low, high] == pytest.approx([0.75 - 1.96 * error, 0.75 + 1.96 * error], abs=0.008)


def test_interval_depends_on_the_seed_and_not_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    probs, targets = case(4)
    first = bootstrap.intervals(probs, targets, 0.5, resamples=200)
    assert bootstrap.intervals(probs, targets, 0.5, resamples=200, seed=1) != first
    monkeypatch.setattr(bootstrap, "MAX_WEIGHTS", 80 * 7)
    assert bootstrap.intervals(probs, targets, 0.5, resamples=200) == {
        name: pytest.approx(ends, abs=1e-12) for name, ends in first.items()
    }


def test_difference_of_a_model_to_itself_is_zero_without_any_width() -> None:
    probs, targets = case(6)
    found = bootstrap.differences((probs, 0.5), (probs, 0.5), targets)
    assert set(found) == set(bootstrap.HEADLINE)
    assert all(values == pytest.approx((0, 0, 0), abs=1e-12) for values in found.values())


def test_difference_is_that_of_the_metrics_and_its_interval_narrower_than_of_other_resamples() -> None:
    rng = np.random.default_rng(7)
    targets = (rng.random((200, 4)) < 0.3).astype(float)
    probs = 0.2 * targets + 0.8 * rng.random(targets.shape)
    better = 0.95 * probs + 0.05 * targets
    found = bootstrap.differences((probs, 0.5), (better, 0.5), targets)
    before, after = (metrics.score(values, targets, 0.5) for values in (probs, better))
    ends = [bootstrap.intervals(values, targets, 0.5)["map_macro"] for values in (probs, better)]
    for name, (difference, low, high) in found.items():
        assert difference == pytest.approx(after[name] - before[name], abs=1e-12)
        assert low <= difference <= high
    assert found["map_macro"][1] > 0
    independent = math.hypot(*(high - low for low, high in ends))
    assert found["map_macro"][2] - found["map_macro"][1] < 0.5 * independent


def test_interval_of_a_difference_of_shares_is_that_of_paired_proportions() -> None:
    rng = np.random.default_rng(8)
    right = rng.random((400, 2)) < (0.8, 0.7)  # whether each model is right about an image
    targets = np.zeros((400, 1))
    wrong_and_right = [np.where(column, 0.1, 0.9)[:, None] for column in right.T]
    _, low, high = bootstrap.differences((wrong_and_right[0], 0.5), (wrong_and_right[1], 0.5), targets)["exact_match"]
    change = right[:, 1].astype(float) - right[:, 0]
    error = change.std() / np.sqrt(400)
    assert [low, high] == pytest.approx([change.mean() - 1.96 * error, change.mean() + 1.96 * error], abs=0.01)


def test_interval_without_known_cells_is_nan() -> None:
    for shape in ((0, 2), (3, 2)):
        found = bootstrap.intervals(np.full(shape, 0.5), np.full(shape, nan), 0.5)
        assert all(np.isnan(end) for ends in found.values() for end in ends)


def test_interval_of_one_image_has_no_width() -> None:
    found = bootstrap.intervals(np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]]), 0.5)
    assert found["exact_match"] == (1.0, 1.0)
    assert np.isnan(found["map_macro"][0])


def test_difference_without_images_is_nan() -> None:
    found = bootstrap.differences(*2 * ((np.empty((0, 2)), 0.5),), np.empty((0, 2)))
    assert all(np.isnan(value) for values in found.values() for value in values)
