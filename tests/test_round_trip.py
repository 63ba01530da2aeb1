"""Every text that labelr writes into a table is read back as it was, and no spreadsheet runs it."""

import csv
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import put, read_table
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labelr import files, serialization
from labelr.config import ReadOptions
from labelr.data.check import FixedTable
from labelr.data.dataset import Dataset, write_labels
from labelr.data.formats.source import Source
from labelr.data.scan import Scan
from labelr.data.splits import read_splits, write_splits
from labelr.tagging.writers import IMAGE_HEADER

STARTS = (
    "",
    "'",
    "''",
    "=",
    "'=",
    "''=",
    "+",
    "-",
    "@",
    "＝",
    "'＠",
    "-1",
    "+.5",
    "'-1",
    "\t=",
    "'\t",
    " =",
    '"',
    "./",
    ",",
)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
TEXTS = st.text(CHARACTERS, max_size=8)
LABELS = st.builds(str.__add__, st.sampled_from(STARTS), TEXTS).map(str.strip).filter(bool)
NAMES = (
    st.builds(str.__add__, st.sampled_from((*STARTS, "\t", "  ", "\r", "\udcff")), TEXTS)
    .map(lambda name: f"{name.replace('/', '')}.jpg")
    .filter(lambda name: not name.startswith("."))
)


def rows_of(path: Path) -> list[list[str]]:
    """The cells of a table as labelr reads them, without padding removed from names."""
    table = Source(path, path.parent, ReadOptions(encoding="utf-8"), keep_spaces=True).require_table()
    return table.rows


def assert_harmless(path: Path) -> None:
    """Asserts that no cell but a number begins as a formula does."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    starts = tuple("=+-@＝＋－＠\t\r\n")
    risky = [cell for cell in cells if cell.startswith(starts) or cell.strip().startswith(starts)]
    number = re.compile(r"[-+][0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?")
    assert all(map(number.fullmatch, risky)), risky


@given(st.lists(LABELS, min_size=1, max_size=4, unique=True), st.lists(NAMES, min_size=1, max_size=4, unique=True))
@example(["+0E0"], ["0.jpg"])  # a number
@example(["'\n0", "'\t0"], ["\t=.jpg"])  # split at tabs, more rows fit
@settings(max_examples=60, deadline=None)
def test_labels_and_names_survive_every_table(labels: list[str], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.csv")
        scans = tuple(Scan(digest=f"{number:064x}") for number in range(len(names)))
        dataset = Dataset(
            path, "", path.parent, tuple(names), tuple(labels), np.ones((len(names), len(labels)), np.float32),
            scans=scans, splits=np.zeros(len(names), np.int64), unreadable=dict.fromkeys(names, labels[0]),
        )  # fmt: skip
        write_labels(path, dataset)
        assert_harmless(path)
        header, *rows = rows_of(path)
        assert header == ["filename", *labels]
        assert [row[0].removeprefix("./") for row in rows] == names

        files.write_atomically(path, dataset.errors_csv)
        assert_harmless(path)
        assert [row[1] for row in rows_of(path)[1:]] == [labels[0]] * len(names)

        files.write_atomically(path, serialization.csv_text(IMAGE_HEADER, [(label, "0.5") for label in labels]))
        assert_harmless(path)
        assert [row[0] for row in rows_of(path)[1:]] == labels

        FixedTable([["photo", *labels, "changes"], *([name, *labels, ""] for name in names)], []).write(path)
        assert_harmless(path)
        assert [row[1:-1] for row in rows_of(path)] == [labels] * (len(names) + 1)

        write_splits(path.parent, dataset)
        assert_harmless(path.parent / "splits.csv")
        assert [row.image for row in read_splits(path.parent / "splits.csv")] == names


def test_apostrophe_in_a_table_of_another_program_is_kept(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "labels.csv", "photo,'=x,cat\na.jpg,1,0\n")
    assert read_table(tmp_path).labels == ("'=x", "cat")


def test_apostrophe_that_labelr_may_have_written_is_removed_and_said(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "labels.csv", "filename,'=x,''=y,'z\na.jpg,1,0,1\n")
    table = read_table(tmp_path)
    assert table.labels == ("=x", "'=y", "'z")
    assert any("''=y, '=x" in note for note in table.findings.notes)


@pytest.mark.parametrize(
    "names", [["\ta.jpg", "a.jpg"], [" a.jpg", "a.jpg"], ["a.jpg ", "a.jpg"], [" d/a.jpg", "d/a.jpg"]]
)
def test_spaces_around_a_file_name_are_part_of_it(names: list[str], tmp_path: Path) -> None:
    for name in names:
        put(tmp_path, name)
    put(tmp_path, "labels.csv", f"filename,cat\n{names[0]},1\n{names[1]},0\n")
    assert read_table(tmp_path).files == tuple(names)


def test_spaces_that_no_file_has_are_left_out_and_said(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "a.png")
    put(tmp_path, "labels.csv", "id,filename,cat\n1,  a.jpg ,1\n")
    table = read_table(tmp_path)
    assert table.files == ("a.jpg",)
    assert any("spaces around them" in note for note in table.findings.notes)


def test_splits_know_names_with_spaces(tmp_path: Path) -> None:
    put(tmp_path, "train.txt", " a.jpg\nb.jpg\n")
    put(tmp_path, "val.txt", "a.jpg\n")
    assert {row.image: row.split for row in read_splits(tmp_path)} == {
        " a.jpg": "train",
        "b.jpg": "train",
        "a.jpg": "val",
    }
