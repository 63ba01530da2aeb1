"""The data set: its counts, and selections of its rows, labels and splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from labelr.config import ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.scan import Scan
from labelr.data.value_range import Levels, ValueRange

NAN = float("nan")


def make_dataset() -> Dataset:
    targets = np.array([[1, 0, NAN], [1, NAN, NAN], [0, 0, NAN]], dtype=np.float32)
    files = ("a.jpg", "sub/b.jpg", "c.jpg")
    return Dataset(Path("labels.csv"), "one column a label", Path("photos"), files, ("dog", "cat", "cow"), targets)


def test_length_is_the_number_of_images() -> None:
    assert len(make_dataset()) == 3


def test_paths_lie_below_the_root() -> None:
    assert make_dataset().paths == [Path("photos/a.jpg"), Path("photos/sub/b.jpg"), Path("photos/c.jpg")]


def test_positives_pass_over_unknown_cells() -> None:
    positives = make_dataset().positives
    assert positives.dtype == np.int64
    assert positives.tolist() == [2, 0, 0]


def test_unknown_cells_are_counted() -> None:
    assert make_dataset().num_unknown == 4


@pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0])], ids=["list", "array"])
def test_take_gives_rows_in_the_order_asked_for(rows: list[int]) -> None:
    taken = make_dataset().take(rows)
    assert taken.files == ("c.jpg", "a.jpg")
    np.testing.assert_array_equal(taken.targets, make_dataset().targets[[2, 0]])


def test_take_of_no_rows_is_an_empty_dataset_of_the_same_labels() -> None:
    empty = make_dataset().take([])
    assert len(empty) == 0
    assert empty.targets.shape == (0, 3)
    assert empty.positives.tolist() == [0, 0, 0]


def test_take_takes_groups_and_splits_along() -> None:
    dataset = replace(make_dataset(), groups=("x", "", "y"), named_splits=("train", "val", "test"))
    taken = dataset.take([2, 0])
    assert taken.groups == ("y", "x")
    assert taken.named_splits == ("test", "train")


def test_take_of_a_dataset_without_groups_and_splits_has_none() -> None:
    taken = make_dataset().take([2, 0])
    assert taken.groups is None
    assert taken.named_splits is None


def test_take_leaves_the_dataset_as_it_was() -> None:
    dataset = make_dataset()
    dataset.take([1])
    assert dataset.files == make_dataset().files


def test_with_labels_gives_columns_in_the_order_asked_for() -> None:
    dataset = make_dataset().with_labels(["cat", "dog"])
    assert dataset.labels == ("cat", "dog")
    np.testing.assert_array_equal(dataset.targets, make_dataset().targets[:, [1, 0]])


def test_split_gives_the_images_of_one_split() -> None:
    dataset = replace(make_dataset(), splits=np.array([0, 2, 0]))
    assert dataset.split("train").files == ("a.jpg", "c.jpg")
    assert dataset.split_rows("test").tolist() == [1]
    assert len(dataset.split("val")) == 0
    assert dataset.split_names == ["train", "test", "train"]


def test_table_has_a_row_for_each_file_and_a_column_for_each_label() -> None:
    table = make_dataset().to_frame()
    assert (table.index.name, table.attrs) == ("filename", {"root": "photos"})
    assert table.to_csv(lineterminator="\n").splitlines() == [
        "filename,dog,cat,cow", "a.jpg,1.0,0.0,", "sub/b.jpg,1.0,,", "c.jpg,0.0,0.0,",
    ]  # fmt: skip


def test_table_has_splits_and_groups_where_known() -> None:
    named = replace(make_dataset(), groups=("x", "y", "y"), named_splits=("test", "train", "train"))
    assert named.to_frame().columns.tolist() == ["split", "group", "dog", "cat", "cow"]
    assert named.to_frame()["split"].tolist() == ["test", "train", "train"]
    assert replace(named, splits=np.array([0, 1, 2])).to_frame()["split"].tolist() == ["train", "val", "test"]
    assert replace(named, labels=("dog", "split", "cow")).to_frame().columns.tolist() == [
        "group",
        "dog",
        "split",
        "cow",
    ]


def test_data_set_shows_its_size_and_labels_and_not_its_images() -> None:
    assert repr(make_dataset()) == "<Dataset of labels.csv: 3 images, 3 labels>"
    page = make_dataset()._repr_html_()
    assert "cow" in page
    assert "b.jpg" not in page


def test_value_range_is_that_of_the_training_images() -> None:
    scans = tuple(Scan("", levels=Levels(0.0, white, "integers")) for white in (3000.0, 60_000.0, 60_000.0))
    dataset = replace(make_dataset(), scans=scans)
    assert dataset.value_range == ValueRange(integers=(0.0, 65_535.0))
    assert replace(dataset, splits=np.array([0, 1, 2])).value_range == ValueRange(integers=(0.0, 3072.0))


def test_bands_that_are_not_used_are_noted_with_the_number_of_images(tmp_path: Path) -> None:
    dataset = replace(make_dataset(), root=tmp_path, files=("a.tif", "b.tif", "c.tif"))
    for file in dataset.files:
        tifffile.imwrite(tmp_path / file, np.zeros((8, 8, 5), np.uint8), photometric="rgb", extrasamples=[0, 0])
    (note,) = dataset.scanned(ReadOptions()).findings.notes
    assert "first three of 5 bands" in note
    assert note.endswith("(3 images)")
