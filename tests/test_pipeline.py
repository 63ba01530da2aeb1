"""From image files to labels."""

import os
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tag_results import read_csv

from labelr.config import TagOptions
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.predict import Model
from labelr.model.predictor import MICRO_BATCH_SIZES, micro_batch_size
from labelr.scoring.evaluate import evaluate
from labelr.tagging.pipeline import LabelSelection, Result, TaggedImage, Tagger
from labelr.tagging.tag import tag


def test_swapped_images_of_the_same_size_and_time_are_tagged_again(
    shapes: Path, tmp_path: Path, trained: Model
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, number in (("a.bmp", 1), ("b.bmp", 2)):
        with Image.open(shapes / "images" / f"{number:05d}.png") as image:
            image.convert("RGB").save(folder / name)
        os.utime(folder / name, (1, 1))
    tag(folder, trained, output=tmp_path / "out")
    before = read_csv(tmp_path / "out" / "probabilities.csv")
    (folder / "a.bmp").rename(folder / "c")
    (folder / "b.bmp").rename(folder / "a.bmp")
    (folder / "c").rename(folder / "b.bmp")
    tag(folder, trained, output=tmp_path / "out")
    after = read_csv(tmp_path / "out" / "probabilities.csv")
    assert after[1][1:] == before[2][1:] != before[1][1:] == after[2][1:]


def tag_names(
    model: Model, photos: Path, names: list[str], previous: dict[str, Result] | None = None
) -> list[TaggedImage]:
    return list(Tagger.load(model, TagOptions()).tag(names, photos, (previous or {}).get))


def test_probabilities_are_those_of_the_model(photos: Path, trained: Model) -> None:
    names = ["z.png", "a.png", "deep/b.png"]
    images = tag_names(trained, photos, names)
    assert [image.name for image in images] == names
    probs = trained.predict([photos / name for name in names]).probs
    np.testing.assert_allclose([image.result.probs for image in images], probs, atol=1e-6)


def test_probabilities_do_not_depend_on_other_images(photos: Path, shapes: Path, trained: Model) -> None:
    for number in range(micro_batch_size(trained.runtime, 32)):
        shutil.copy(shapes / "images" / f"{number + 10:05d}.png", photos / f"n{number}.png")
    names = sorted(path.name for path in photos.glob("*.png"))
    (alone,) = tag_names(trained, photos, ["z.png"])
    np.testing.assert_array_equal(tag_names(trained, photos, names)[-1].result.probs, alone.result.probs)


def test_images_are_tagged_in_order_where_another_device_predicts(
    shapes: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(path.name for path in (shapes / "images").iterdir())
    expected = tag_names(trained, shapes / "images", names)
    previous = {image.name: image.result for image in expected[5:40]}
    other = replace(trained, runtime=replace(trained.runtime, device=torch.device("meta")))
    predict = trained.predict_pixels
    monkeypatch.setattr(Model, "predict_pixels", lambda _, batches: predict(batches))
    monkeypatch.setitem(MICRO_BATCH_SIZES, "meta", 32)
    found = tag_names(other, shapes / "images", names, previous)
    assert [image.name for image in found] == names
    assert [image.origin for image in found].count("unchanged") == len(previous)
    np.testing.assert_allclose(
        [image.result.probs for image in found], [image.result.probs for image in expected], atol=1e-6
    )


def test_unchanged_and_touched_images_keep_their_results(photos: Path, trained: Model) -> None:
    names = ["a.png", "deep/b.png", "z.png"]
    previous = {image.name: image.result._replace(width=12345) for image in tag_names(trained, photos, names)}
    os.utime(photos / "a.png", (1, 1))
    shutil.copy(photos / "a.png", photos / "z.png")
    images = tag_names(trained, photos, names, previous)
    assert [(image.origin, image.result.width) for image in images] == [
        ("touched", 12345), ("unchanged", 12345), ("new", 64),
    ]  # fmt: skip
    assert images[0].result.status[1] == 1_000_000_000


def test_failed_image_is_tried_again(photos: Path, trained: Model) -> None:
    (image,) = tag_names(trained, photos, ["a.png"])
    failed = image.result._replace(reason="cannot be written")
    assert tag_names(trained, photos, ["a.png"], {"a.png": failed})[0].origin == "new"


@pytest.mark.parametrize(("name", "reason"), [("gone.png", "no such file"), ("deep/broken.jpg", "not an image")])
def test_image_that_cannot_be_opened_has_a_reason_and_no_labels(
    photos: Path, trained: Model, name: str, reason: str
) -> None:
    (image,) = tag_names(trained, photos, [name])
    assert reason in image.result.reason
    assert (image.ranked, image.result.width, len(image.result.probs)) == ([], 0, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"threshold": 0}, ["disc", "horizontal_stripes", "triangle"]),
        ({"threshold": 0, "top_k": 2}, ["disc", "horizontal_stripes"]),
        ({"threshold": 0.5}, ["disc"]),
        ({"threshold": 0.5, "min_labels": 2}, ["disc", "horizontal_stripes"]),
        ({"threshold": 1, "top_k": 1, "min_labels": 1}, ["disc"]),
        ({"threshold": 0, "only": "triangle"}, ["triangle"]),
        ({"threshold": 0, "exclude": ["disc"]}, ["horizontal_stripes", "triangle"]),
    ],
)
def test_labels_are_selected_by_threshold_number_and_name(
    trained: Model, options: dict[str, Any], expected: list[str]
) -> None:
    selection = LabelSelection.of(trained, TagOptions.of(options))
    image = selection.apply(Result("a.png", (1, 1, 1), "", 8, 8, "", np.array([0.4, 0.6, 0.2], np.float32)))
    assert [selection.labels[index] for index in image.ranked] == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["triangle"]),
        ({"min_labels": 1}, ["triangle"]),
        ({"min_labels": 1, "top_k": 1}, ["triangle"]),
        ({"min_labels": 2}, ["disc", "triangle"]),
        ({"min_labels": 2, "top_k": 2}, ["disc", "triangle"]),
    ],
)
def test_minimum_of_labels_adds_to_those_that_reach_their_thresholds(
    trained: Model, tmp_path: Path, options: dict[str, Any], expected: list[str]
) -> None:
    table = tmp_path / "thresholds.csv"
    table.write_text("label,threshold\ndisc,0.9\nhorizontal_stripes,0.9\ntriangle,0.1\n")
    selection = LabelSelection.of(trained, TagOptions(threshold_file=str(table), **options))
    image = selection.apply(Result("a.png", (1, 1, 1), "", 8, 8, "", np.array([0.4, 0.6, 0.2], np.float32)))
    assert [selection.labels[index] for index in image.ranked] == expected


@pytest.mark.parametrize("options", [{"threshold": 0.5}, {"threshold": 0.2, "top_k": 2, "min_labels": 1}])
def test_labels_of_many_images_are_those_of_each_one(trained: Model, options: dict[str, Any]) -> None:
    selection = LabelSelection.of(trained, TagOptions.of(options))
    probs = np.random.default_rng(0).choice([0.1, 0.4, 0.6, 0.9], (50, 3)).astype(np.float32)  # with ties
    np.testing.assert_array_equal(selection.applies(probs), [selection.applies(row) for row in probs])


def test_unknown_label_is_refused_with_a_suggestion(trained: Model) -> None:
    with pytest.raises(SettingError, match="no label 'disk'") as caught:
        LabelSelection.of(trained, TagOptions(only=("disk",)))
    assert "`disc`" in caught.value.hint


def test_selection_without_labels_is_refused(trained: Model) -> None:
    with pytest.raises(SettingError, match="no label is left"):
        LabelSelection.of(trained, TagOptions(exclude=trained.labels))


def test_image_fails_where_the_output_is_not_a_number(photos: Path, shapes: Path, trained: Model) -> None:
    network = deepcopy(trained.module)
    with torch.no_grad():
        network.state_dict()["stem.0.weight"].mul_(1e38)  # numbers overflow in the layers that follow
    model = replace(trained, module=network)
    (image,) = tag_names(model, photos, ["a.png"])
    assert (image.result.reason, len(image.probs)) == ("the model's output is NaN", 0)
    with pytest.raises(LabelrError, match=r"output is NaN for images\[0\]"):
        model.predict(photos / "a.png")
    with pytest.raises(LabelrError, match=r"output is NaN for .* images of .*labels.csv: 00000"):
        evaluate(shapes, model, split="all")
