"""What the charts show: axes, curves and bins."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import make_evaluation
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve

from labelr.scoring.report.charts import (
    axis_fraction,
    cooccurrence,
    curve_panels,
    history_panels,
    inner_ticks,
    nice_ticks,
    precision_recall,
    reliability_bins,
    shorten,
    tick_texts,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 0.25, 0.5, 0.75, 1)), (0, 0.0007, (0, 0.0002, 0.0004, 0.0006, 0.0008)), (1, 30, (0, 10, 20, 30))],
)
def test_nice_ticks_are_round_and_include_both_ends(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_ticks_of_an_axis_have_equally_many_decimals() -> None:
    assert tick_texts((0.0, 0.25, 0.5)) == ["0.00", "0.25", "0.50"]
    assert tick_texts((0.0, 10.0, 30.0)) == ["0", "10", "30"]
    assert tick_texts((0.0, 1e-5, 2e-5)) == ["0", "1e-5", "2e-5"]
    assert tick_texts((1e-3, 1e-2, 1.0), log=True) == ["0.001", "0.01", "1"]


def test_short_name_keeps_its_start_and_its_end() -> None:
    assert shorten("mountain", 8) == "mountain"
    assert shorten("mountain/with-snow/2024", 12) == "mountai…2024"
    assert len(shorten("x" * 60, 18)) == 18


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-4, 1e-1, [0.0001, 0.001, 0.01, 0.1]),
        (1e-3, 1e-2, [0.001, 0.002, 0.005, 0.01]),
        (1e-8, 1.0, [1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
        (1.1, 1.4, [1.1, 1.2, 1.3, 1.4]),
        (0.0011, 0.0012, [0.0011, 0.001125, 0.00115, 0.001175, 0.0012]),
    ],
)
def test_log_ticks_are_round_and_few(low: float, high: float, expected: list[float]) -> None:
    assert list(inner_ticks(low, high, log=True)) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(0.13, 0.87), (0.0, 0.6), (3, 7), (-2.5, 1e4), (0.30001, 0.30002)])
@pytest.mark.parametrize("log", [False, True])
def test_inner_ticks_are_within_any_ends(low: float, high: float, log: bool) -> None:
    ticks = inner_ticks(max(low, 0.01) if log else low, high, log=log)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert list(ticks) == sorted(set(ticks))


def test_equal_ratios_have_equal_distances_on_a_log_axis() -> None:
    fractions = [axis_fraction(value, (1e-4, 1.0), log=True) for value in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    assert fractions == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert axis_fraction(0.25, (0.0, 0.5)) == 0.5
    assert math.isclose(axis_fraction(0.5, (1.0, 0.0)), 0.5)


def test_curve_equals_scikit_learns_and_continues_at_full_recall() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random(50) < 0.4).astype(float)
    probs = np.round(np.clip(targets * 0.3 + rng.random(50), 0, 1.3) / 1.3, 2)
    precision, recall, _ = precision_recall_curve(targets, probs)
    points = precision_recall(probs, targets)
    assert (1.0, targets.mean()) in points
    for x, y in zip(recall[:-1], precision[:-1], strict=True):  # between the ends of a vertical drop
        heights = [height for place, height in points if place == x]
        assert min(heights) <= y <= max(heights)


def test_curve_of_many_images_has_few_points_and_little_error() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random(5000) < 0.3).astype(float)
    probs = np.clip(0.4 * targets + 0.6 * rng.random(5000), 0, 1)
    points = precision_recall(probs, targets)
    assert len(points) <= 125
    precision, recall, _ = precision_recall_curve(targets, probs)
    xs, ys = np.array(points).T
    inside = (recall > 0.05) & (recall < 1)
    assert np.abs(np.interp(recall[inside], xs, ys) - precision[inside]).max() < 0.02


def test_label_that_is_never_predicted_has_no_mark_and_one_without_positives_no_curve(shapes: Path) -> None:
    evaluation = make_evaluation(shapes, ["normal", "never predicted", "absent"])
    evaluation.probs[:, 1] *= 0.5
    evaluation.targets[:, 2] = 0
    normal, never, absent = curve_panels(evaluation, [0, 1, 2])
    assert normal is not None
    assert normal.mark is not None
    assert never is not None
    assert never.mark is None
    assert absent is None


def test_bins_of_the_reliability_diagram_equal_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    probs = rng.random((200, 3)).astype(np.float32)
    targets = (rng.random((200, 3)) < probs).astype(np.float32)
    targets[rng.random((200, 3)) < 0.2] = np.nan
    known = ~np.isnan(targets)
    share, mean = calibration_curve(targets[known], probs[known].astype(float), n_bins=10)
    bins = reliability_bins(probs, targets)
    assert [b.share for b in bins] == pytest.approx(share)
    assert [b.mean for b in bins] == pytest.approx(mean)
    assert sum(b.count for b in bins) == known.sum()
    assert all(b.interval[0] <= b.share <= b.interval[1] for b in bins)


def test_interval_of_a_bin_is_wilsons_interval() -> None:
    probs, targets = np.full((10, 1), 0.5), np.repeat([0.0, 1.0], 5)[:, None]
    (half,) = reliability_bins(probs, targets)
    assert half.interval == pytest.approx((0.2366, 0.7634), abs=1e-4)
    (all_true,) = reliability_bins(probs[:5], targets[5:])
    assert all_true.interval == pytest.approx((0.5655, 1.0), abs=1e-4)


def test_cooccurrence_counts_images_with_both_labels() -> None:
    marked = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], bool)
    assert cooccurrence(marked).tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]


HISTORY = {
    "epoch": [1.0, 2.0, 3.0], "train_loss": [0.7, 0.5, 0.3], "val_loss": [0.6, 0.55, 0.6], "val_f1": [0.1, 0.4, 0.5],
    "val_precision": [0.2, 0.5, 0.6], "val_recall": [0.1, 0.3, 0.4], "val_map": [0.2, 0.5, 0.6], "lr": [0.1, 0.2, 0.1],
    "seconds": [3.0, 2.0, 2.0],
}  # fmt: skip


def test_history_has_losses_their_gap_scores_learning_rate_and_time() -> None:
    panels = {panel.title: panel for panel in history_panels(HISTORY, 2)}
    assert len(panels) == 6
    assert [line.name for line in panels["Loss"].lines] == ["training", "validation"]
    gap = [y for _, y in panels["Validation loss minus training loss"].lines[0].points]
    assert gap == pytest.approx([-0.1, 0.05, 0.3])
    assert [line.name for line in panels["F1, precision and recall"].lines] == ["F1", "precision", "recall"]
    assert {panel.rule for panel in panels.values()} == {2.0}


def test_history_without_validation_has_no_scores_and_no_gap() -> None:
    nothing = [float("nan")] * 3
    history = {name: nothing if name.startswith("val") else values for name, values in HISTORY.items()}
    assert [panel.title for panel in history_panels(history, 3)] == ["Loss", "Learning rate", "Time per epoch"]


@pytest.mark.parametrize("missing", HISTORY)
def test_any_column_of_a_history_may_be_missing(missing: str) -> None:
    panels = history_panels({name: values for name, values in HISTORY.items() if name != missing}, 2)
    assert (missing == "epoch") == (panels == [])


def test_history_of_one_epoch_and_an_empty_one_can_be_drawn() -> None:
    one = history_panels({name: values[:1] for name, values in HISTORY.items()}, 1)
    assert all(panel.x_range[0] < panel.x_range[1] and panel.y_range[0] < panel.y_range[1] for panel in one)
    assert all(line.dots for panel in one for line in panel.lines)
    assert history_panels({}, 1) == []
