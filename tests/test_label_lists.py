"""Labels of image files as lists, as a matrix and as a mapping, from the Python API."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, assert_table, put

import labelr
from labelr.config import ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.load import read_labels
from labelr.data.locate import locate_data, with_label_table
from labelr.fields import SettingError

NAMES = ["a.jpg", "sub/b.jpg", "c.jpg"]
TAGS = [["dog", "cat"], [], ["dog"]]
MARKS: list[list[float]] = [[1, 1], [0, 0], [0, 1]]
"""Of cat and dog."""


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [put(tmp_path / "photos", name) for name in [*NAMES, "unlisted.jpg"]][:3]


def read(data: Any, **settings: Any) -> Dataset:
    data, settings = with_label_table(data, settings)
    folders, options = locate_data(data, ReadOptions.of(settings))
    return read_labels(folders, options)


def test_lists_sets_single_labels_and_mappings_of_labels_are_the_same(paths: list[Path]) -> None:
    texts = list(map(str, paths))
    for data, labels in (
        (paths, TAGS),
        (texts, [{"dog", "cat"}, (), "dog"]),
        (pd.Series(texts), pd.Series(TAGS)),
        (np.array(texts), TAGS),
    ):
        assert_table(read(data, labels=labels), NAMES, ["cat", "dog"], MARKS)
    assert_table(read(dict(zip(texts, TAGS, strict=True))), NAMES, ["cat", "dog"], MARKS)


def test_matrix_has_a_column_for_each_name_and_nan_is_unknown(paths: list[Path]) -> None:
    marks: list[list[float]] = [[1, np.nan], [0, 0], [0, 1]]
    for labels in (marks, np.array(marks), np.array(marks, np.float32)):
        assert_table(read(paths, labels=labels, label_names=["cat", "dog"]), NAMES, ["cat", "dog"], marks)
    assert_table(read(paths, labels=pd.DataFrame(marks, columns=["cat", "dog"])), NAMES, ["cat", "dog"], marks)
    assert_table(read(paths, labels=np.array(marks) > 0, label_names=["id", "split"]), NAMES, ["id", "split"],
                 [[1, 0], [0, 0], [0, 1]])  # fmt: skip
    assert_table(read(paths, labels=[[1, 0], [0, 0], [1, 1]], label_names=["filename", "folder"]), NAMES,
                 ["filename", "folder"], [[1, 0], [0, 0], [1, 1]])  # fmt: skip


def test_nan_is_unknown_also_beside_ones_alone_unless_blank_says_no(paths: list[Path]) -> None:
    marks: list[list[float]] = [[1, np.nan], [np.nan, 1], [1, 1]]
    frame = pd.DataFrame(marks, columns=["cat", "dog"])
    table = frame.assign(filename=NAMES)
    assert_table(read(paths, labels=np.array(marks), label_names=["cat", "dog"]), NAMES, ["cat", "dog"], marks)
    assert_table(read(paths, labels=frame.astype("Int64")), NAMES, ["cat", "dog"], marks)
    assert_table(read(table, images=paths[0].parent), NAMES, ["cat", "dog"], marks)
    closed: list[list[float]] = [[1, 0], [0, 1], [1, 1]]
    assert_table(read(paths, labels=frame, blank="no"), NAMES, ["cat", "dog"], closed)
    assert_table(read(table, images=paths[0].parent, blank="no"), NAMES, ["cat", "dog"], closed)


def test_values_of_mappings_are_marks_and_names_that_one_lacks_are_unknown(paths: list[Path]) -> None:
    rows = [{"cat": 1, "dog": 0}, {"cat": False}, {"dog": True, "cat": None}]
    marks: list[list[float]] = [[1, 0], [0, np.nan], [np.nan, 1]]
    assert_table(read(paths, labels=rows), NAMES, ["cat", "dog"], marks)
    assert_table(read(dict(zip(paths, rows, strict=True))), NAMES, ["cat", "dog"], marks)


def test_generators_and_tensors_are_read_as_lists_are(paths: list[Path]) -> None:
    generated = read((path for path in paths), labels=((tag for tag in tags) for tags in TAGS))
    assert_table(generated, NAMES, ["cat", "dog"], MARKS)
    tensor = torch.tensor(MARKS, dtype=torch.bfloat16)
    for labels in (tensor, list(tensor)):
        assert_table(read(paths, labels=labels, label_names=("cat", "dog")), NAMES, ["cat", "dog"], MARKS)
    assert labelr.read(iter(paths), labels=TAGS)["dog"].tolist() == [1, 0, 1]


def test_labels_of_which_no_image_has_one_are_an_error(paths: list[Path]) -> None:
    with pytest.raises(labelr.LabelrError, match="no image has a label") as caught:
        read(paths, labels=[[], [], []])
    assert caught.value.hint == "give some images at least one label"
    with pytest.raises(labelr.LabelrError, match="no image has a label"):
        read(paths, labels=[{}, {}, {}])


def test_labels_may_contain_what_tables_give_a_meaning(paths: list[Path]) -> None:
    labels = [["a,b", "it's", 'say "hi"'], ["x|y", "=1"], ["0", "id"]]
    assert set(read(paths, labels=labels).labels) == {label for row in labels for label in row}


def test_paths_are_relative_to_the_working_directory_or_to_a_folder(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paths[0].parent
    assert_table(read(NAMES, labels=TAGS, images=folder), NAMES, ["cat", "dog"], MARKS)
    monkeypatch.chdir(folder)
    assert_table(read(NAMES, labels=TAGS), NAMES, ["cat", "dog"], MARKS)


def test_no_folder_is_searched(paths: list[Path], forbid: Callable[[Path], None]) -> None:
    (paths[0].parent / "private").mkdir()
    forbid(paths[0].parent / "private")
    findings = read(paths, labels=TAGS).findings
    assert (findings.unlisted, findings.unreadable_folders) == ((), ())


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (None, None, "no labels are given for 3 image files"),
        (TAGS[:1], None, "there are 3 images, but labels of 1"),
        ("labels.csv", None, "labels: expected labels of each image, got 'labels.csv'"),
        ({"a.jpg": ["dog"]}, None, "labels: expected labels of each image, got {"),
        (MARKS, None, r"labels\[0\]: expected texts, got 1"),
        ([["dog"], None, []], None, r"labels\[1\]: expected texts, got None"),
        ([{"dog": 1}, ["cat"], []], None, r"labels\[0\]: expected texts, got {'dog': 1}"),
        (MARKS, ["cat"], r"labels\[0\]: expected 1 number, one for each label, got 2 values"),
        (MARKS, "cat", "label_names: expected a list of texts, got 'cat'"),
        (MARKS, ["cat", "cat"], "label_names: expected a name for each label, got twice: cat"),
        (MARKS, ["cat", ""], "label_names: expected a name for each label, got an empty name"),
        ([[1, 0], [0, 0.5], [0, 1]], ["cat", "dog"], r"labels\[1\], label 'dog': expected 1, 0 or NaN .* got 0\.5"),
        ([{"cat": "?"}, {}, {}], None, r"labels\[0\], label 'cat': expected 1, 0 or NaN .* got '\?'"),
        (TAGS, ["cat", "dog"], "label_names: names the columns of a 0/1 matrix, but the labels have names"),
        ([{"cat": 1}, {}, {}], ["cat"], "label_names: names the columns of a 0/1 matrix, but the labels have names"),
    ],
)
def test_labels_that_do_not_fit_are_wrong_usage(paths: list[Path], labels: Any, names: Any, message: str) -> None:
    with pytest.raises(labelr.LabelrError, match=message) as caught:
        with_label_table(paths, {"labels": labels, "label_names": names})
    assert caught.value.hint


@pytest.mark.parametrize("empty", [[], {}, (), iter(()), pd.DataFrame(), np.array([]), pd.Series(dtype=str)])
def test_empty_data_is_an_error_and_trains_on_no_synthetic_images(empty: Any) -> None:
    for function in (labelr.fit, labelr.evaluate, labelr.check, labelr.read):
        with pytest.raises(labelr.LabelrError, match="no images are given"):
            function(empty)
    with pytest.raises(labelr.LabelrError, match="no images are given"):
        labelr.tune(empty, lr=[1e-3, 1e-4])
    with pytest.raises(labelr.LabelrError, match="no images"):
        labelr.tag(empty)
    with pytest.raises(labelr.LabelrError, match="no images are given"):
        labelr.check(None)


def test_items_that_are_no_paths_are_named(paths: list[Path]) -> None:
    with pytest.raises(labelr.LabelrError, match=r"data\[1\]: expected a path, got 3"):
        labelr.check([paths[0], 3])  # type: ignore[list-item]
    with pytest.raises(labelr.LabelrError, match=r"photos\[0\]: expected a path, got 3"):
        labelr.tag([3])  # type: ignore[list-item]


def test_image_that_is_not_there_is_named(paths: list[Path]) -> None:
    with pytest.raises(labelr.LabelrError, match=r"1 of 4 images in .* is not in .*: gone\.jpg"):
        labelr.fit([*paths, paths[0].with_name("gone.jpg")], labels=[*TAGS, ["dog"]])


@pytest.mark.slow
def test_model_is_trained_and_evaluated_on_lists(shapes: Path, tmp_path: Path) -> None:
    table = labelr.read(shapes)
    paths = [shapes / "images" / name for name in table.index]
    labels = [[label for label in table.columns if row[label] == 1] for _, row in table.iterrows()]
    result = labelr.fit(paths, TINY, labels=labels, output=tmp_path / "model")
    assert set(result.model.labels) == set(table.columns)
    evaluation = labelr.evaluate(dict(zip(paths, labels, strict=True)), result.model, split="test")
    assert evaluation.metrics["map_macro"] == pytest.approx(result.metrics["map_macro"])


def test_labels_whose_index_names_images_in_another_order_are_an_error() -> None:
    paths, frame = ["a.jpg", "b.jpg"], pd.DataFrame({"dog": [1, 0]}, index=["b.jpg", "a.jpg"])
    with pytest.raises(SettingError, match="names other images than the paths, or in another order"):
        with_label_table(paths, {"labels": frame})
    table, _ = with_label_table(paths, {"labels": frame.loc[paths]})
    assert table["dog"].tolist() == [0, 1]
