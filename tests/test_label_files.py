"""Where label files and images are looked for, and what is said where they are not found."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, make_data, put, read_table

from labelr.config import ReadOptions
from labelr.data.label_files import find_sources
from labelr.data.walk import FileIndex
from labelr.errors import LabelrError


def find_label_file(data: Path) -> Path:
    (source,) = find_sources(data, data, ReadOptions(), FileIndex())
    return source.path


LABELS = "filename,dog\na.jpg,1\nb.jpg,0\n"


def test_images_folder_is_preferred_to_the_data_folder(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, LABELS, images=["a.jpg", "b.jpg", "images/a.jpg", "images/b.jpg"]))
    assert table.root == tmp_path / "images"


def test_images_option_names_their_folder(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS, images=["images/a.jpg", "photos/a.jpg", "photos/b.jpg"])
    table = read_table(tmp_path, images=str(tmp_path / "photos"))
    assert table.paths == [tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "b.jpg"]


def test_images_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    with pytest.raises(LabelrError, match=r"the image folder .*photos does not exist") as caught:
        read_table(tmp_path, images=str(tmp_path / "photos"))
    assert "--images" in caught.value.hint


def test_labels_option_names_the_label_file(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    other = put(tmp_path, "elsewhere/other.txt", "filename,cat\na.jpg,1\n")
    table = read_table(tmp_path, labels=str(other))
    assert table.source == other
    assert table.labels == ("cat",)


def test_label_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    with pytest.raises(LabelrError, match=r"the label file .*other\.csv does not exist") as caught:
        read_table(tmp_path, labels=str(tmp_path / "other.csv"))
    assert "--labels" in caught.value.hint


@pytest.mark.parametrize("name", ["labels.csv", "truth.CSV", "labels.tsv", "annotations/train.csv"])
def test_label_file_is_found(name: str, tmp_path: Path) -> None:
    path = put(tmp_path, name, LABELS)
    assert find_label_file(tmp_path) == path


def test_second_table_that_is_not_of_labels_is_ignored(tmp_path: Path) -> None:
    put(tmp_path, "authors.csv", "name,born\nAda,1815\nAlan,1912\n")
    put(tmp_path, "sizes.csv", "filename,width,height\na.jpg,640,480\nb.jpg,640,480\n")
    put(tmp_path, "broken.csv", b"\xff\xfe\x00")
    put(tmp_path, "empty.csv", "")
    path = put(tmp_path, "labels.csv", LABELS)
    assert find_label_file(tmp_path) == path


def test_label_file_with_a_wrong_cell_is_still_found_beside_another_table(tmp_path: Path) -> None:
    put(tmp_path, "authors.csv", "name,born\nAda,1815\n")
    path = put(tmp_path, "labels.csv", LABELS + "c.jpg,yess\n")
    assert find_label_file(tmp_path) == path


def test_two_label_files_are_both_named(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", LABELS)
    put(tmp_path, "annotations/old.csv", LABELS)
    with pytest.raises(LabelrError, match=r"2 files in .* read as labels: labels\.csv, annotations/old\.csv") as caught:
        find_label_file(tmp_path)
    assert "--labels" in caught.value.hint


def test_several_tables_of_which_none_is_of_labels_are_named(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "name,born\nAda,1815\n")
    put(tmp_path, "b.csv", "x,y\n5,6\n")
    with pytest.raises(LabelrError, match=r"none of the 2 files in .* reads as labels: a\.csv, b\.csv"):
        find_label_file(tmp_path)


def test_images_without_a_label_file_are_an_error_that_says_what_to_add(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", b"")
    error = error_of(tmp_path)
    assert error.message == f"no label file in {tmp_path}"
    assert "labels.csv" in error.hint


def test_folder_without_images_and_labels_is_an_error(tmp_path: Path) -> None:
    assert error_of(tmp_path).message == f"no images and no label file in {tmp_path}"


@pytest.mark.parametrize(("name", "what"), [("missing", "does not exist"), ("labels.csv", "is a file")])
def test_data_that_is_no_folder_is_an_error(name: str, what: str, tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    assert error_of(tmp_path / name).message == f"the data folder {tmp_path / name} {what}"


def test_folders_of_parts_are_looked_into(tmp_path: Path) -> None:
    put(tmp_path, "train/_classes.csv", "filename, dog\na.jpg, 1\n")
    put(tmp_path, "valid/_classes.csv", "filename, dog\nb.jpg, 0\n")
    sources = find_sources(tmp_path, tmp_path, ReadOptions(), FileIndex())
    assert [source.path.parent.name for source in sources] == ["train", "valid"]


def test_files_that_labelr_writes_are_no_label_files(tmp_path: Path) -> None:
    for name in ("errors.csv", "probabilities.csv", "splits.csv"):
        put(tmp_path, name, "filename,dog\na.jpg,1\nb.jpg,0\n")
    path = put(tmp_path, "labels.csv", LABELS)
    assert find_label_file(tmp_path) == path


def test_one_file_for_each_image_is_no_label_file(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path, f"{number}.json", '[{"filename": "a.jpg", "tags": ["x"]}]')
    path = put(tmp_path, "labels.csv", LABELS)
    assert find_label_file(tmp_path) == path


def test_layout_option_chooses_among_files(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", LABELS)
    path = put(tmp_path, "coco.json", '{"images": [], "annotations": [], "categories": []}')
    (source,) = find_sources(tmp_path, tmp_path, ReadOptions(layout="coco"), FileIndex())
    assert source.path == path


def test_layout_of_a_folder_is_taken_although_there_is_a_file(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", LABELS)
    put(tmp_path, "dog/a.jpg", b"a")
    put(tmp_path, "cat/b.jpg", b"bb")
    table = read_table(tmp_path, layout="folders")
    assert_table(table, ["cat/b.jpg", "dog/a.jpg"], ["cat", "dog"], [[1, 0], [0, 1]])


def test_table_in_which_a_column_happens_to_hold_words_does_not_hide_text_files(tmp_path: Path) -> None:
    put(tmp_path, "cameras.csv", "file;camera\na.jpg;Canon\nb.jpg;Nikon\n")
    for name in ("a", "b"):
        put(tmp_path, f"{name}.jpg")
        put(tmp_path, f"{name}.txt", "dog, cat")
    assert read_table(tmp_path).labels == ("cat", "dog")


def test_table_in_which_a_column_happens_to_hold_words_and_folders_are_two_ways(tmp_path: Path) -> None:
    put(tmp_path, "exif.csv", "SourceFile,Make\ndog/a.jpg,Canon\ncat/b.jpg,Nikon\n")
    put(tmp_path, "dog/a.jpg", "a")
    put(tmp_path, "cat/b.jpg", "bb")
    error = error_of(tmp_path)
    assert "exif.csv, or be folder names" in error.message
    assert "`--layout folders`" in error.hint
    assert read_table(tmp_path, layout="folders").labels == ("cat", "dog")


def test_folder_that_the_user_names_may_hold_the_label_file(tmp_path: Path) -> None:
    put(tmp_path, "data/a.jpg")
    put(tmp_path, "data/b.jpg")
    put(tmp_path, "sheets/labels.csv", LABELS)
    assert read_table(tmp_path / "data", labels=[str(tmp_path / "sheets")]).labels == ("dog",)


def test_damaged_spreadsheet_is_told(tmp_path: Path) -> None:
    put(tmp_path, "labels.xlsx", b"PK\x03\x04\x00")
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path)
    assert "labels.xlsx cannot be read" in error.message
    assert "CSV" in error.hint


def test_column_of_words_does_not_count_beside_a_surer_file(tmp_path: Path) -> None:
    put(tmp_path, "cameras.csv", "file,camera\na.jpg,Canon\nb.jpg,Nikon\n")
    path = put(tmp_path, "labels.csv", LABELS)
    assert find_label_file(tmp_path) == path


def test_file_of_a_split_in_which_no_label_applies_is_said_to_be_perhaps_unlabelled(tmp_path: Path) -> None:
    others = [f"{number}.jpg" for number in range(10)]
    for name in ("a.jpg", "b.jpg", *others):
        put(tmp_path, name)
    put(tmp_path, "train.csv", "filename,cat,dog\na.jpg,1,0\nb.jpg,0,1\n")
    put(tmp_path, "test.csv", "".join(["filename,cat,dog\n", *(f"{name},0,0\n" for name in others)]))
    (note,) = (note for note in read_table(tmp_path).findings.notes if "still to be labelled" in note)
    assert note.startswith("test.csv: no label applies to any of its images")
    assert read_table(tmp_path, labels=[str(tmp_path / "train.csv")]).files == ("a.jpg", "b.jpg")
