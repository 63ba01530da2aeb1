"""What the charts show, whoever draws them."""

from pathlib import Path

import numpy as np
import pytest
from conftest import make_evaluation
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve

from labelr.scoring.report.charts import (
    curve_panels,
    history_panels,
    precision_recall,
    reliability,
    together,
    wilson,
)


def test_curve_is_scikit_learns_and_goes_on_where_all_is_found() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random(50) < 0.4).astype(float)
    probs = np.round(np.clip(targets * 0.3 + rng.random(50), 0, 1.3) / 1.3, 2)
    precision, recall, _ = precision_recall_curve(targets, probs)
    points = precision_recall(probs, targets)
    assert (1.0, targets.mean()) in points
    for x, y in zip(recall[:-1], precision[:-1], strict=True):  # between the ends of a drop that is upright
        heights = [height for place, height in points if place == x]
        assert min(heights) <= y <= max(heights)


def test_curve_of_many_images_is_short_and_within_a_sixtieth() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random(5000) < 0.3).astype(float)
    probs = np.clip(0.4 * targets + 0.6 * rng.random(5000), 0, 1)
    points = precision_recall(probs, targets)
    assert len(points) <= 125
    precision, recall, _ = precision_recall_curve(targets, probs)
    xs, ys = np.array(points).T
    inside = (recall > 0.05) & (recall < 1)
    assert np.abs(np.interp(recall[inside], xs, ys) - precision[inside]).max() < 0.02


def test_label_that_is_never_written_has_no_mark_and_one_without_positives_no_curve(drawn: Path) -> None:
    evaluation = make_evaluation(drawn, ["usual", "silent", "absent"])
    evaluation.probs[:, 1] *= 0.5
    evaluation.targets[:, 2] = 0
    usual, silent, absent = curve_panels(evaluation, [0, 1, 2])
    assert usual is not None
    assert usual.mark is not None
    assert silent is not None
    assert silent.mark is None
    assert absent is None


def test_bins_of_the_reliability_diagram_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    probs = rng.random((200, 3)).astype(np.float32)
    targets = (rng.random((200, 3)) < probs).astype(np.float32)
    targets[rng.random((200, 3)) < 0.2] = np.nan
    known = ~np.isnan(targets)
    share, mean = calibration_curve(targets[known], probs[known].astype(float), n_bins=10)
    bins = reliability(probs, targets)
    assert [one.share for one in bins] == pytest.approx(share)
    assert [one.mean for one in bins] == pytest.approx(mean)
    assert sum(one.count for one in bins) == known.sum()
    assert all(one.interval[0] <= one.share <= one.interval[1] for one in bins)


def test_interval_of_a_share_is_wilsons() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 5) == pytest.approx((0.5655, 1.0), abs=1e-4)


def test_labels_together_are_counted_image_by_image() -> None:
    marked = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], bool)
    assert together(marked).tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]


HISTORY = {
    "epoch": [1.0, 2.0, 3.0], "train_loss": [0.7, 0.5, 0.3], "val_loss": [0.6, 0.55, 0.6], "val_f1": [0.1, 0.4, 0.5],
    "val_precision": [0.2, 0.5, 0.6], "val_recall": [0.1, 0.3, 0.4], "val_map": [0.2, 0.5, 0.6], "lr": [0.1, 0.2, 0.1],
    "seconds": [3.0, 2.0, 2.0],
}  # fmt: skip


def test_history_has_losses_scores_pace_and_the_gap_between_the_losses() -> None:
    panels = {panel.title: panel for panel in history_panels(HISTORY, 2)}
    assert len(panels) == 6
    assert [line.name for line in panels["Loss"].lines] == ["training", "validation"]
    gap = [y for _, y in panels["Validation loss minus training loss"].lines[0].points]
    assert gap == pytest.approx([-0.1, 0.05, 0.3])
    assert [line.name for line in panels["F1, precision and recall"].lines] == ["F1", "precision", "recall"]
    assert {panel.rule for panel in panels.values()} == {2.0}


def test_history_without_validation_has_neither_scores_nor_a_gap() -> None:
    nothing = [float("nan")] * 3
    history = {name: nothing if name.startswith("val") else values for name, values in HISTORY.items()}
    assert [panel.title for panel in history_panels(history, 3)] == ["Loss", "Learning rate", "Time an epoch"]


@pytest.mark.parametrize("missing", HISTORY)
def test_any_column_of_a_history_may_be_missing(missing: str) -> None:
    panels = history_panels({name: values for name, values in HISTORY.items() if name != missing}, 2)
    assert (missing == "epoch") == (panels == [])


def test_history_of_one_epoch_and_none_at_all_can_be_drawn() -> None:
    one = history_panels({name: values[:1] for name, values in HISTORY.items()}, 1)
    assert all(panel.x_range[0] < panel.x_range[1] and panel.y_range[0] < panel.y_range[1] for panel in one)
    assert all(line.dots for panel in one for line in panel.lines)
    assert history_panels({}, 1) == []
