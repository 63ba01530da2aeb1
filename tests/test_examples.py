"""Which images the page shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_evaluation
from PIL import Image

from labelr.scoring.evaluation import Evaluation
from labelr.scoring.report.examples import Cell, confident_mistakes, least_certain, random_rows, thumbnail


@pytest.fixture
def evaluation(drawn: Path) -> Evaluation:
    """Three images and two labels, at thresholds of 0.5 and 0.3."""
    probs = np.array([[0.9, 0.8], [0.1, 0.2], [0.55, 0.29]], np.float32)
    targets = np.array([[0, 0], [1, 1], [np.nan, 1]], np.float32)
    made = make_evaluation(drawn, ["a", "b"], 3)
    return replace(made, probs=probs, targets=targets, thresholds=np.array([0.5, 0.3]))


def test_wrongly_written_labels_come_with_the_most_probable_first_one_an_image(evaluation: Evaluation) -> None:
    assert confident_mistakes(evaluation, written=True) == [Cell(0, 0)]


def test_missed_labels_come_with_the_least_probable_first_one_an_image(evaluation: Evaluation) -> None:
    assert confident_mistakes(evaluation, written=False) == [Cell(1, 0), Cell(2, 1)]


def test_least_certain_decisions_are_nearest_to_their_threshold_where_the_truth_is_known(
    evaluation: Evaluation,
) -> None:
    assert least_certain(evaluation) == [Cell(2, 1), Cell(1, 1), Cell(0, 0)]


def test_random_images_are_the_same_each_time_and_none_twice() -> None:
    assert random_rows(1000) == random_rows(1000)
    assert len(set(random_rows(1000))) == 12
    assert random_rows(3) == [0, 1, 2]
    assert random_rows(0) == []


def test_image_beyond_the_usual_limit_of_pixels_has_a_thumbnail(tmp_path: Path) -> None:
    Image.new("L", (20_001, 10_000)).save(tmp_path / "a.jpg")
    assert thumbnail(tmp_path / "a.jpg").reason == ""
