"""Cells that hold a number for each label."""

import time
from pathlib import Path

import pytest
from conftest import assert_table, cpu_limit, error_of, make_data, put, read_table

from labelr.data.formats.arrange import read_vector, vector_size

FILES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def make_vectors(folder: Path, cells: list[str]) -> Path:
    rows = "".join(f'{name},"{cell}"\n' for name, cell in zip(FILES, cells, strict=True))
    return make_data(folder, f"filename,labels\n{rows}", images=FILES)


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ("[1, 0, 1]", "[0, 0, 0]"), ("1 0 1", "0 0 0"), ("1|0|1", "0|0|0"), ("(1.0, 0.0, 1.0)", "(0.0, 0.0, 0.0)"),
        ("[True, False, True]", "[False, False, False]"), ("['1', '0', '1']", "['0', '0', '0']"),
        ("tensor([1, 0, 1])", "tensor([0, 0, 0])"), ("array([1, 0, 1], dtype=int32)", "array([0, 0, 0], dtype=int32)"),
        ("[1. 0. 1.]", "[0. 0. 0.]"), ("[1, -1, 1]", "[-1, -1, -1]"),
    ],
)  # fmt: skip
def test_numbers_become_numbered_labels(on: str, off: str, tmp_path: Path) -> None:
    table = read_table(make_vectors(tmp_path, [on, off, on, off]))
    assert_table(table, FILES, ["labels_1", "labels_2", "labels_3"], [[1, 0, 1], [0, 0, 0]] * 2)
    assert any("hold 3 numbers, read as the labels labels_1 to labels_3" in note for note in table.findings.notes)


@pytest.mark.parametrize("wrong", ["[1, 0]", "[0, 1, 2]", "unlabeled", "[0.5, 0, 1]"])
def test_cell_that_is_no_such_vector_is_an_error_or_left_out(wrong: str, tmp_path: Path) -> None:
    data = make_vectors(tmp_path, ["[1, 0, 1]", "[0, 1, 0]", wrong, "[0, 0, 1]"])
    assert f'row 4, column "labels": expected 3 numbers that are 0 or 1, got "{wrong}"' in error_of(data).message
    table = read_table(data, skip_invalid=True)
    assert_table(table, ["a.jpg", "b.jpg", "d.jpg"], table.labels, [[1, 0, 1], [0, 1, 0], [0, 0, 1]])


def test_wrong_vector_far_below_is_found(tmp_path: Path) -> None:
    cells = ["[0, 1, 0]", "[1, 0, 0]"] * 150
    cells[250] = "[-2, 1, 0]"
    rows = "".join(f'{row}.jpg,"{cell}"\n' for row, cell in enumerate(cells))
    data = make_data(tmp_path, f"filename,labels\n{rows}", images=[f"{row}.jpg" for row in range(300)])
    assert 'row 252, column "labels"' in error_of(data).message


def test_long_vectors_are_read_soon(tmp_path: Path) -> None:
    data = make_data(
        tmp_path, "filename,labels\n" + "".join(f"{row}.jpg,{'1 0 ' * 40}\n" for row in range(600)), ["0.jpg"]
    )
    start = time.process_time()
    read_table(data, skip_missing=True)
    assert time.process_time() - start < cpu_limit(3)  # seconds, in place of 12


def test_class_numbers_between_spaces_are_tags_though_some_are_0_and_1(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "Id,Target\na,0 25\nb,0 1\nc,2\n", ["a.png", "b.png", "c.png"]))
    assert_table(table, ["a.png", "b.png", "c.png"], ["0", "1", "2", "25"], [[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0]])


def test_missing_vector_is_unknown(tmp_path: Path) -> None:
    table = read_table(make_vectors(tmp_path, ["[1, 0]", "", "nan", "[0, 1]"]))
    assert_table(table, ["a.jpg", "d.jpg"], ["labels_1", "labels_2"], [[1, 0], [0, 1]])
    assert table.findings.unlabelled == ("b.jpg", "c.jpg")


@pytest.mark.parametrize(
    "cells",
    [
        ["[3, 17]", "[2, 5]"], ["[4]", "[4, 9]"], ["1,0", "0,0"], ["dog, cat", "cat"], ["0 25", "0 1", "2"],
        ["0 25", "0 1", "1 0", "16 0"],
    ],
)  # fmt: skip
def test_lists_of_numbers_or_words_are_no_vectors(cells: list[str]) -> None:
    assert vector_size(cells) == 0


def test_words_are_no_vector() -> None:
    assert (read_vector("0 1 dog"), read_vector("1"), read_vector("")) == ([], [], [])


def test_vectors_beside_images_are_refused(tmp_path: Path) -> None:
    for name in FILES:
        put(tmp_path, name)
        put(tmp_path, f"{Path(name).stem}.txt", "0 1 0")
    assert "hold numbers such as 0 1 0, not tags" in error_of(tmp_path).message


def test_boxes_are_no_vectors_of_labels(tmp_path: Path) -> None:
    rows = 'a.jpg,dog,"[0.1, 0.2, 0.3, 0.4]"\na.jpg,cat,"[0.1, 0.2, 0.5, 0.4]"\nb.jpg,cat,"[0.1, 0.2, 1.0, 1.0]"\n'
    table = read_table(make_data(tmp_path, f"filename,category,bbox\n{rows}"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])


@pytest.mark.parametrize(
    "text",
    [
        'filename,dog,embedding\na.jpg,1,"[0.24, -0.54]"\nb.jpg,0,"[0.1, 0.9]"\n',
        "filename;dog;score2\na.jpg;1;0,1\nb.jpg;0;0,12\n",
        'filename,label,center\na.jpg,dog,"(0.7, 0.2)"\nb.jpg,,"(0, 1)"\n',
        'filename,dog,cell\na.jpg,1,"0,1"\nb.jpg,0,"1,1"\n',
    ],
    ids=["embedding", "decimal comma", "point", "place"],
)
def test_numbers_beside_labels_are_no_vectors_of_labels(text: str, tmp_path: Path) -> None:
    assert read_table(make_data(tmp_path, text)).labels == ("dog",)


def test_only_column_of_vectors_holds_the_labels(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,y_true\na.jpg,1 0\nb.jpg,0 1\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["y_true_1", "y_true_2"], [[1, 0], [0, 1]])
