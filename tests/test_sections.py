"""The example images that the report shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_evaluation
from PIL import Image

from labelr.scoring.report.sections import (
    example,
    false_negatives,
    false_positives,
    least_certain,
    make_thumbnail,
    random_rows,
)
from labelr.scoring.results import Evaluation


@pytest.fixture
def evaluation(shapes: Path) -> Evaluation:
    """Three images and two labels, at thresholds of 0.5 and 0.3."""
    probs = np.array([[0.9, 0.8], [0.1, 0.2], [0.55, 0.29]], np.float32)
    targets = np.array([[0, 0], [1, 1], [np.nan, 1]], np.float32)
    return replace(
        make_evaluation(shapes, ["a", "b"], 3), probs=probs, targets=targets, thresholds=np.array([0.5, 0.3])
    )


def test_false_positives_start_with_the_most_probable_one_per_image(evaluation: Evaluation) -> None:
    assert false_positives(evaluation) == [(0, 0)]


def test_false_negatives_start_with_the_least_probable_one_per_image(evaluation: Evaluation) -> None:
    assert false_negatives(evaluation) == [(1, 0), (2, 1)]


def test_least_certain_predictions_are_closest_to_their_threshold_where_the_target_is_known(
    evaluation: Evaluation,
) -> None:
    assert least_certain(evaluation) == [(2, 1), (1, 1), (0, 0)]


def test_random_sample_is_deterministic_and_has_no_duplicates() -> None:
    assert random_rows(1000) == random_rows(1000)
    assert len(set(random_rows(1000))) == 12
    assert random_rows(3) == [0, 1, 2]
    assert random_rows(0) == []


def test_example_shows_each_label_with_its_verdict(evaluation: Evaluation) -> None:
    verdicts = [
        {
            label["label"]: (label["kind"], label["verdict"])
            for label in example(evaluation, make_thumbnail, row)["labels"]
        }
        for row in range(3)
    ]
    assert verdicts == [
        {"a": ("wrong", "not given"), "b": ("wrong", "not given")},
        {"a": ("wrong", "given, but missed"), "b": ("wrong", "given, but missed")},
        {"a": ("unknown", "predicted; truth unknown"), "b": ("wrong", "given, but missed")},
    ]


def test_thumbnail_is_small_and_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (600, 300), "red")
    image.paste("blue", (0, 0, 300, 300))  # the left half, which the rotation makes the top
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    shown = make_thumbnail(tmp_path / "turned.jpg")
    assert shown.pixels is not None
    assert shown.pixels.shape == (224, 112, 3)
    assert shown.pixels[20, 56].tolist() == pytest.approx([0, 0, 254], abs=12)
    assert shown.pixels[200, 56].tolist() == pytest.approx([254, 0, 0], abs=12)


def test_thumbnail_of_noise_is_limited_in_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert 1_000 < len(make_thumbnail(tmp_path / "noise.png").url) < 24_000


def test_image_above_the_default_pixel_limit_has_a_thumbnail(tmp_path: Path) -> None:
    Image.new("L", (20_001, 10_000)).save(tmp_path / "a.jpg")
    assert make_thumbnail(tmp_path / "a.jpg").reason == ""
