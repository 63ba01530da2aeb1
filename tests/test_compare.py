"""Models on the same images: which images and labels count, and what is said of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Cli

import labelr
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.predict import Model, build_network
from labelr.scoring.compare import Comparison
from labelr.scoring.results import Evaluation


@pytest.fixture
def other(trained: Model, home: Path) -> Path:
    """A model with the labels in another order, thresholds and weights of its own, and the same splits."""
    folder = Path(shutil.copytree(trained.path, home / "models" / "other"))
    network = build_network(trained.info)
    labels = ("triangle", "horizontal_stripes", "disc")
    store.save(folder, network, replace(trained.info, labels=labels, thresholds=(0.2, 0.4, 0.6)))
    return folder


def learn(folder: Path, splits: str) -> None:
    """Makes a model say that it has learned from its first images or not, one letter each: T for train, e for test."""
    path = folder / "splits.csv"
    header, *rows = path.read_text().splitlines()
    for number, split in enumerate(splits):
        image, _, *rest = rows[number].split(",")
        rows[number] = ",".join((image, "train" if split == "T" else "test", *rest))
    path.write_text("\n".join([header, *rows]))


@pytest.mark.slow
def test_models_are_scored_as_by_evaluate(trained: Model, other: Path, shapes: Path) -> None:
    result = labelr.compare([trained, other], threads=1).to_json()
    assert result["images"] == 6
    assert result["labels"] == list(trained.labels)
    for model, found in zip((trained.path, other), result["models"], strict=True):
        assert found["metrics"] == pytest.approx(labelr.evaluate(shapes, model, threads=1).to_json()["metrics"])
    first, second = result["models"]
    assert (first["differences"], first["difference_intervals"]) == (None, None)
    for name, difference in second["differences"].items():
        low, high = second["difference_intervals"][name]
        assert difference == pytest.approx(second["metrics"][name] - first["metrics"][name])
        assert low <= difference <= high


def test_only_images_that_no_model_has_learned_from_count(trained: Model, other: Path, tmp_path: Path) -> None:
    third = Path(shutil.copytree(other, tmp_path / "third"))
    learn(other, "TTTTeeee" + "T" * 52)
    learn(third, "eeTTTTee" + "T" * 52)
    found = labelr.compare([other, third], threads=1)
    assert found.evaluations[0].files == ("00006.png", "00007.png")
    learn(third, "T" * 60)
    with pytest.raises(LabelrError, match="no images to evaluate on: third was trained on every image left") as caught:
        labelr.compare([other, third], threads=1)
    assert "`data=DIR`" in caught.value.hint


def test_only_common_labels_are_compared(
    trained: Model, other: Path, shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = other / "model.json"
    path.write_text(path.read_text().replace('"disc"', '"dog"'))
    caplog.set_level("INFO")
    found = labelr.compare([trained, other], threads=1)
    assert found.evaluations[1].labels == ("horizontal_stripes", "triangle")
    assert found.evaluations[1].thresholds.tolist() == [0.4, 0.2]
    assert "compared by 2 labels that all models and the data have; left out: disc, dog" in caplog.text
    with pytest.raises(LabelrError, match="no label in common"):
        labelr.compare([trained, other], shapes, only=("disc",), threads=1)


def test_data_and_threshold_may_be_given(trained: Model, other: Path, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    lines = (shapes / "labels.csv").read_text().splitlines()
    (tmp_path / "few" / "labels.csv").write_text("\n".join(lines[:41]))
    shutil.copytree(shapes / "images", tmp_path / "few" / "images")
    learn(other, "e" * 60)
    third = Path(shutil.copytree(other, tmp_path / "third"))
    found = labelr.compare([other, third], tmp_path / "few", threshold=0.3, threads=1)
    assert len(found.evaluations[0].probs) == 40
    assert [item.threshold for item in found.evaluations] == [0.3, 0.3]
    assert found.to_json()["data"] == str(tmp_path / "few" / "labels.csv")
    assert "third does not clearly differ from other: mAP" in repr(found)


@pytest.mark.slow
def test_data_that_is_gone_is_an_error_that_names_the_option(
    cli: Cli, shapes: Path, home: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    model = labelr.fit(data, TINY, epochs=1).model
    shutil.copytree(model.path, home / "models" / "copy")
    data.rename(tmp_path / "moved")
    result = cli("models", "compare", "data", "copy")
    assert result.code == 1
    assert "cannot read the data that data was trained on" in result.err
    assert "`--data DIR`" in result.err
    assert cli("models", "compare", "data", "copy", "--data", tmp_path / "moved", "--threads", 1).code == 0


def test_compare_prints_the_models_side_by_side(cli: Cli, trained: Model, other: Path) -> None:
    command = ("models", "compare", trained.path, "other", "--threads", 1)
    shown = cli(*command)
    assert shown.code == 0
    assert "other: difference" in shown.out
    assert "mAP" in shown.out
    assert "too few images with a label to tell whether other is better than trained: mAP" in shown.out
    assert "on 6 images that neither has learned from." in shown.out
    machine = json.loads(cli(*command, "--json").out)
    assert [model["name"] for model in machine["models"]] == ["trained", "other"]


def test_images_on_which_map_is_not_evaluable_compare_nothing(trained: Model, other: Path) -> None:
    learn(other, "e" + "T" * 59)
    third = Path(shutil.copytree(other, other.with_name("third")))
    found = labelr.compare([other, third], threads=1)
    assert found.describe() == (
        "third cannot be compared with other: no label has positives and negatives among 1 image that neither has "
        "learned from"
    )
    assert found.verdict() is None
    assert found.to_json()["models"][1]["differences"]["map_macro"] is None


@pytest.mark.parametrize("images", [9, 10])
def test_difference_is_clear_from_ten_images_on(images: int) -> None:
    targets = np.tile(np.eye(2, dtype=np.float32), (5, 1))[:images]
    half = np.full(2, 0.5)
    first, second = (
        Evaluation(
            labels=("a", "b"), probs=probs, targets=targets, thresholds=half, model_thresholds=half, prevalence=half,
            files=("",) * images, model=f"/{name}", data="", paths=(), digests=("",) * images,
        )
        for name, probs in (("first", 1 - targets), ("second", targets))
    )  # fmt: skip
    found = Comparison((first, second))
    assert found.verdict() == (None if images == 9 else "better")
    assert found.describe().startswith("second is better than first" if images == 10 else "too few images")
    assert Comparison((second, first)).verdict() == (None if images == 9 else "worse")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["trained"], 2),
        (["trained", "trained"], 2),
        ([], 2),
        (["trained", "nothing"], 1),
        (["a", "b", "--threshold", "2"], 2),
    ],
)
def test_comparison_needs_two_models_that_exist(cli: Cli, trained: Model, arguments: list[str], code: int) -> None:
    named = [str(trained.path) if name == "trained" else name for name in arguments]
    result = cli("models", "compare", *named)
    assert (result.code, result.out) == (code, "")
