"""The label table: its counts, and tables of some of its rows and labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelr.data.labels import LabelTable

NAN = float("nan")


def make_table() -> LabelTable:
    targets = np.array([[1, 0, NAN], [1, NAN, NAN], [0, 0, NAN]], dtype=np.float32)
    files = ("a.jpg", "sub/b.jpg", "c.jpg")
    return LabelTable(Path("labels.csv"), "one column a label", Path("photos"), files, ("dog", "cat", "cow"), targets)


def test_length_is_the_number_of_images() -> None:
    assert len(make_table()) == 3


def test_paths_lie_below_the_root() -> None:
    assert make_table().paths == [Path("photos/a.jpg"), Path("photos/sub/b.jpg"), Path("photos/c.jpg")]


def test_positives_pass_over_unknown_cells() -> None:
    positives = make_table().positives
    assert positives.dtype == np.int64
    assert positives.tolist() == [2, 0, 0]


def test_unknown_cells_are_counted() -> None:
    assert make_table().num_unknown == 4


@pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0])], ids=["list", "array"])
def test_take_gives_rows_in_the_order_asked_for(rows: list[int]) -> None:
    taken = make_table().take(rows)
    assert taken.files == ("c.jpg", "a.jpg")
    np.testing.assert_array_equal(taken.targets, make_table().targets[[2, 0]])


def test_take_of_no_rows_is_an_empty_table_of_the_same_labels() -> None:
    empty = make_table().take([])
    assert len(empty) == 0
    assert empty.targets.shape == (0, 3)
    assert empty.positives.tolist() == [0, 0, 0]


def test_take_takes_groups_and_parts_along() -> None:
    table = replace(make_table(), groups=("x", "", "y"), parts=("train", "val", "test"))
    taken = table.take([2, 0])
    assert taken.groups == ("y", "x")
    assert taken.parts == ("test", "train")


def test_take_of_a_table_without_groups_and_parts_has_none() -> None:
    taken = make_table().take([2, 0])
    assert taken.groups is None
    assert taken.parts is None


def test_take_leaves_the_table_as_it_was() -> None:
    table = make_table()
    table.take([1])
    assert table.files == make_table().files


def test_with_labels_gives_columns_in_the_order_asked_for() -> None:
    table = make_table().with_labels(["cat", "dog"])
    assert table.labels == ("cat", "dog")
    np.testing.assert_array_equal(table.targets, make_table().targets[:, [1, 0]])
