"""Several columns of classes."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, make_data, read_table

NAN = float("nan")
SEASONS = ("season=Fall", "season=Summer")


def two(tmp_path: Path, name: str, first: str, second: str) -> Path:
    """A table with a season and a further column."""
    return make_data(tmp_path, f'filename,season,{name}\na.jpg,Fall,"{first}"\nb.jpg,Summer,"{second}"\n')


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (("1", "-1"), {}, [1, 0]),
        (("1", "-1"), {"minus_one": "unknown"}, [1, NAN]),
        (("x", ""), {}, [1, 0]),
        (("x", ""), {"blank": "unknown"}, [1, NAN]),
        (("yes", "no"), {}, [1, 0]),
        (("0", ""), {}, [0, NAN]),
    ],
)
def test_marks_mean_what_they_mean_in_a_wide_table(
    cells: tuple[str, str], options: dict[str, str], expected: list[float], tmp_path: Path
) -> None:
    table = read_table(two(tmp_path, "dog", *cells), label_column=["season", "dog"], **options)
    assert_table(table, ["a.jpg", "b.jpg"], [*SEASONS, "dog"], [[1, 0, expected[0]], [0, 1, expected[1]]])


def test_cell_that_is_no_mark_is_named_or_its_row_skipped(tmp_path: Path) -> None:
    data = two(tmp_path, "dog", "1", "maybe")
    options = {"label_column": ["season", "dog"]}
    assert 'row 3, column "dog": expected 0, 1 or nothing, got "maybe"' in error_of(data, **options).message
    table = read_table(data, skip_invalid=True, **options)
    assert (table.files, table.findings.unlisted) == (("a.jpg",), ())
    assert read_table(data, exclude=["dog"], **options).labels == SEASONS


def test_letters_are_words(tmp_path: Path) -> None:
    table = read_table(two(tmp_path, "gender", "M", "F"), label_column=["season", "gender"])
    assert table.labels == (*SEASONS, "gender=F", "gender=M")
    assert table.targets[:, 2:].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("cells", [("dog|cat", "dog"), ("dog, cat", "dog"), ('[""dog"", ""cat""]', '[""dog""]')])
def test_list_in_a_cell_is_a_label_for_each_item(cells: tuple[str, str], tmp_path: Path) -> None:
    table = read_table(two(tmp_path, "seen", *cells), label_column=["season", "seen"])
    assert table.labels == (*SEASONS, "seen=cat", "seen=dog")
    assert table.targets[:, 2:].tolist() == [[1, 1], [0, 1]]


def test_words_with_spaces_are_one_label(tmp_path: Path) -> None:
    table = read_table(two(tmp_path, "seen", "Red Fox", "Roe Deer"), label_column=["season", "seen"])
    assert table.labels == (*SEASONS, "seen=Red Fox", "seen=Roe Deer")


SLOTS = "filename,Species1,Species2,dark\na.jpg,fox,deer,1\nb.jpg,deer,,0\nc.jpg,,,0\n"
IMAGES = ["a.jpg", "b.jpg", "c.jpg"]


def test_numbered_columns_are_slots_of_one_kind(tmp_path: Path) -> None:
    data = make_data(tmp_path, SLOTS, images=IMAGES)
    table = read_table(data, label_column=["Species1", "Species2", "dark"])
    assert_table(table, IMAGES, ["deer", "fox", "dark"], [[1, 1, 1], [1, 0, 0], [0, 0, 0]])


def test_image_without_a_filled_slot_is_unknown_if_blanks_are(tmp_path: Path) -> None:
    data = make_data(tmp_path, SLOTS, images=IMAGES)
    table = read_table(data, label_column=["Species1", "Species2", "dark"], blank="unknown")
    assert_table(table, IMAGES, ["deer", "fox", "dark"], [[1, 1, 1], [1, 0, 0], [NAN, NAN, 0]])


def test_slot_may_be_empty_or_have_no_number(tmp_path: Path) -> None:
    text = "filename,label,label 2,label_3\na.jpg,dog,cat,\nb.jpg,cat,,\n"
    table = read_table(make_data(tmp_path, text), label_column=["label", "label 2", "label_3"])
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])


def test_label_in_two_columns_is_named(tmp_path: Path) -> None:
    text = "filename,seen1,seen2,dog\na.jpg,dog,cat,1\nb.jpg,cat,,0\n"
    error = error_of(make_data(tmp_path, text), label_column=["seen1", "seen2", "dog"])
    assert "has 1 label in several of the columns: dog" in error.message
