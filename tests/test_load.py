"""From data folders to a table: images that are missing, several label files, several folders."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import assert_table, cpu_limit, error_of, make_data, put, read_table
from PIL import Image

from labelr.config import ReadOptions
from labelr.data.dataset import write_labels
from labelr.data.label_table import look_alikes
from labelr.data.load import load_dataset, read, read_labels
from labelr.errors import LabelrError

NAN = float("nan")
LABELS = "filename,dog\na.jpg,1\nb.jpg,0\n"
MISSING = "filename,dog\na.jpg,1\n" + "".join(f"sub/{number}.jpg,0\n" for number in range(5))


def test_labels_are_read_as_a_table_that_can_be_written_and_read_again(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename;split;dog;=cat\na.jpg;train;yes;\nb.jpg;test;no;yes\n")
    table = read(data)
    assert table.columns.tolist() == ["split", "dog", "=cat"]
    assert table["dog"].tolist() == [1, 0]
    assert table["=cat"].fillna(-1).tolist() == [-1, 1]
    table.to_csv(data / "labels.csv")
    pd.testing.assert_frame_equal(read(data), table)


def test_group_is_a_column_of_the_table(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,patient,dog\na.jpg,p1,1\nb.jpg,p2,0\n")
    table = read(data, group="patient", only="dog")
    assert table.columns.tolist() == ["group", "dog"]
    assert table["group"].tolist() == ["p1", "p2"]


def test_missing_image_is_an_error_of_reading_unless_it_is_skipped(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\nc.jpg,0\n")
    with pytest.raises(LabelrError, match=r"1 of 3 images in labels.csv is not in"):
        read(data)
    assert read(data, skip_missing=True).index.tolist() == ["a.jpg", "b.jpg"]


def test_reading_does_not_open_images(tmp_path: Path) -> None:
    assert len(read(make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\n"))) == 2  # the images are empty files


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, MISSING))
    assert error.message == (
        f"5 of 6 images in labels.csv are not in {tmp_path}: sub/0.jpg, sub/1.jpg, sub/2.jpg, and 2 more"
    )
    assert "--skip-missing" in error.hint


def test_skip_missing_leaves_their_rows_out(tmp_path: Path) -> None:
    assert_table(read_table(make_data(tmp_path, MISSING), skip_missing=True), ["a.jpg"], ["dog"], [[1]])


@pytest.mark.parametrize("skip_missing", [False, True])
def test_all_images_missing_points_at_the_folder(skip_missing: bool, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, LABELS, images=[]), skip_missing=skip_missing)
    assert error.message.startswith("2 of 2 images in labels.csv are not in ")
    assert "--images" in error.hint


def test_name_longer_than_any_file_system_takes_is_a_missing_image(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, f"filename,dog\na.jpg,1\n{'x' * 5000}.jpg,1\n"))
    assert "1 of 2 images in labels.csv is not in" in error.message


def test_missing_images_are_named_with_what_there_is_instead_those_first(tmp_path: Path) -> None:
    rows = [f"sub/{number}.jpg" for number in range(3, 6)] + ["cats/1.jpg", "dogs/9.jpg"]
    text = "filename,dog\ncats/2.jpg,1\n" + "".join(f"{row},0\n" for row in rows)
    error = error_of(make_data(tmp_path, text, images=["cats/2.jpg", "cats/1.jpeg", "cats/1.png", "b/9.jpg"]))
    assert error.message == (
        f"5 of 6 images in labels.csv are not in {tmp_path}: cats/1.jpg (there is cats/1.jpeg and cats/1.png), "
        "dogs/9.jpg (there is b/9.jpg), sub/3.jpg, and 2 more"
    )


def test_images_found_under_another_ending_are_a_note(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, LABELS, images=["a.jpeg", "b.jpg"]))
    assert_table(table, ["a.jpeg", "b.jpg"], ["dog"], [[1], [0]])
    assert "images found although the endings of their names differ: 1, such as a.jpg (a.jpeg)" in table.findings.notes


# --- what is left out ------------------------------------------------------------------------------------------------


def test_pictures_and_folders_that_are_left_out_are_notes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="labelr")
    data = make_data(tmp_path, LABELS, images=["a.jpg", "b.jpg", "c.cr2", "@eaDir/a.jpg/d.jpg", "old/e.jpg"])
    for name in "ab":
        Image.new("RGB", (32, 32)).save(data / f"{name}.jpg")
    dataset = load_dataset([data], ReadOptions(ignore=("old",)))
    notes = (
        "pictures in formats that labelr does not read, left out: 1 .cr2",
        "hidden and system folders, not searched: 1 (@eaDir)",
        "left out by `--ignore`: 1 folder",
    )
    assert dataset.findings.notes == notes
    assert dataset.findings.unlisted == ()
    assert all(f"  {note}" in caplog.messages for note in notes)


@pytest.mark.parametrize("pattern", ["old", "old/", "old/*", "*/b.jpg"])
def test_listed_images_that_are_ignored_are_neither_used_nor_missing(pattern: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nold/b.jpg,0\n", images=["a.jpg", "old/b.jpg"])
    table = read_table(data, ignore=(pattern,))
    assert_table(table, ["a.jpg"], ["dog"], [[1]])
    assert table.findings.missing == ()
    assert "listed images left out by `--ignore`: 1" in table.findings.notes


def test_patterns_that_leave_every_listed_image_out_are_named(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, LABELS), ignore=("*",))
    assert error.message == f"`--ignore` leaves out every image that {tmp_path / 'labels.csv'} lists"


@pytest.mark.parametrize(
    ("place", "note"),
    [
        ("#recycle/", "hidden and system folders, not searched: 1 (#recycle)"),
        (".photos/", "hidden and system folders, not searched: 1 (.photos)"),
        (".", "images whose names start with a dot, left out: 2"),
    ],
)
def test_missing_images_point_at_what_was_passed_over(place: str, note: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, LABELS, images=[f"{place}a.jpg", f"{place}b.jpg"])
    assert error_of(data).message == f"2 of 2 images in labels.csv are not in {tmp_path}: a.jpg, b.jpg; {note}"


def test_listed_raw_files_are_not_read_and_their_reason_is_told_once(tmp_path: Path) -> None:
    names = [f"{number}.NEF" for number in range(5)]
    rows = "".join(f"{name},1\n" for name in names)
    data = make_data(tmp_path, f"filename,dog\n{rows}a.jpg,0\n", images=["a.jpg"])
    Image.new("RGB", (32, 32)).save(data / "a.jpg")
    for name in names:
        Image.new("RGB", (16, 16)).save(data / name, "TIFF")
    assert error_of(data).message == (
        "5 of 6 images cannot be opened: 0.NEF, 1.NEF, 2.NEF, and 2 more "
        "(labelr does not read .nef files: export as JPEG, PNG or TIFF)"
    )


def test_folder_that_cannot_be_listed_is_a_warning_and_stops_nothing(
    tmp_path: Path, forbid: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(tmp_path, LABELS, images=["private/c.jpg", "annotations/d.jpg"])
    for name in "ab":
        Image.new("RGB", (32, 32)).save(data / f"{name}.jpg")
    forbid(data / "private")
    forbid(data / "annotations")
    dataset = load_dataset([data], ReadOptions())
    assert dataset.findings.unreadable_folders == (
        ("annotations", "permission denied"), ("private", "permission denied"),
    )  # fmt: skip
    assert dataset.files == ("a.jpg", "b.jpg")
    warning = "2 folders cannot be listed: annotations, private (permission denied)"
    assert any(message.startswith(warning) for message in caplog.messages)


def test_images_missing_in_a_folder_that_cannot_be_listed_point_at_it(
    tmp_path: Path, forbid: Callable[[Path], None]
) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nx/b.jpg,0\n", images=["a.jpg", "x/b.jpg"])
    forbid(data / "x")
    assert error_of(data).message.endswith("x/b.jpg; 1 folder cannot be listed: x (permission denied)")


def test_data_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    forbid(make_data(tmp_path / "data", LABELS))
    assert error_of(tmp_path / "data").message.startswith(f"cannot list the folder {tmp_path / 'data'}")


def test_folder_of_raw_pictures_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.nef")
    assert error_of(tmp_path).message == (
        f"no images and no label file in {tmp_path}; pictures in formats that labelr does not read, left out: 1 .nef"
    )


def test_label_file_with_a_name_longer_than_any_file_system_takes_does_not_exist(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\n")
    with pytest.raises(LabelrError, match="does not exist"):
        read_table(data, labels="x" * 5000)


# --- several label files and folders ---------------------------------------------------------------------------------


def test_label_files_of_parts_are_taken_together(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "filename,tags\na.jpg,dog|cat\nb.jpg,dog\n")
    put(tmp_path, "val.csv", "filename,tags\nc.jpg,dog|cow\n")
    for name in "abc":
        put(tmp_path, f"{name}.jpg")
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["cat", "cow", "dog"], [[1, 0, 1], [0, 0, 1], [0, 1, 1]])
    assert table.named_splits == ("train", "train", "val")
    assert table.source == tmp_path


def test_label_that_a_wide_file_does_not_have_is_unknown_for_its_images(tmp_path: Path) -> None:
    put(tmp_path, "train/labels.csv", "filename,dog,cat\na.jpg,1,0\n")
    put(tmp_path, "test/labels.csv", "filename,dog\na.jpg,0\n")
    put(tmp_path, "train/a.jpg")
    put(tmp_path, "test/a.jpg")
    table = read_table(tmp_path)
    assert_table(table, ["test/a.jpg", "train/a.jpg"], ["dog", "cat"], [[0, NAN], [1, 0]])
    assert table.named_splits == ("test", "train")


@pytest.mark.parametrize("others", ["001.jpg,0\n002.jpg,1\n", "002.jpg,1\n"], ids=["named_twice", "named_once"])
def test_missing_image_of_a_part_is_not_taken_for_one_of_another(others: str, tmp_path: Path) -> None:
    put(tmp_path, "train/_classes.csv", "filename,dog\n001.jpg,1\n002.jpg,0\n")
    put(tmp_path, "valid/_classes.csv", f"filename,dog\n{others}")
    for name in ("train/002.jpg", "valid/001.jpg", "valid/002.jpg"):
        put(tmp_path, name)
    reading = read_labels([tmp_path], ReadOptions())
    assert reading.findings.missing == ("001.jpg",)
    assert dict(zip(reading.files, reading.targets[:, 0].tolist(), strict=True)) == {
        "train/002.jpg": 0, "valid/002.jpg": 1, **({"valid/001.jpg": 0} if "001" in others else {}),
    }  # fmt: skip


def test_missing_image_of_a_single_part_is_not_taken_for_one_of_another(tmp_path: Path) -> None:
    put(tmp_path, "train/labels.csv", "filename,dog\n001.jpg,1\n002.jpg,0\n")
    for name in ("train/002.jpg", "valid/001.jpg"):
        put(tmp_path, name)
    reading = read_labels([tmp_path], ReadOptions())
    assert (reading.findings.missing, reading.findings.unlisted) == (("001.jpg",), ("valid/001.jpg",))


def test_label_files_of_parts_find_their_images_in_folders_of_these_parts(tmp_path: Path) -> None:
    for part, labels in (("train", "dog|cat"), ("val", "cat")):
        put(tmp_path, f"annotations/{part}.csv", f"filename,tags\n1.jpg,{labels}\n2.jpg,dog\n")
        for name in ("1", "2"):
            put(tmp_path, f"images/{part}/{name}.jpg")
    table = read_table(tmp_path)
    files = ["train/1.jpg", "train/2.jpg", "val/1.jpg", "val/2.jpg"]
    assert_table(table, files, ["cat", "dog"], [[1, 1], [0, 1], [1, 0], [0, 1]])
    assert table.named_splits == ("train", "train", "val", "val")


def test_label_files_of_parts_may_share_a_folder_that_is_named_after_one(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "filename,dog\na.jpg,1\n")
    put(tmp_path, "val.csv", "filename,dog\nb.jpg,0\n")
    put(tmp_path, "train_images/a.jpg")
    put(tmp_path, "train_images/b.jpg")
    assert_table(read_table(tmp_path), ["train_images/a.jpg", "train_images/b.jpg"], ["dog"], [[1], [0]])


def test_label_files_that_the_user_names_are_taken_together(tmp_path: Path) -> None:
    first = put(tmp_path, "one.csv", "filename,dog\na.jpg,1\n")
    second = put(tmp_path, "two.csv", "filename,dog\nb.jpg,0\n")
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    table = read_table(tmp_path, labels=[str(first), str(second)])
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert table.named_splits is None


def test_several_folders_are_one_data_set(tmp_path: Path) -> None:
    one = make_data(tmp_path / "one", "filename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n")
    two = make_data(tmp_path / "two", "filename,cow,dog\na.jpg,1,0\nb.jpg,0,1\n")
    reading = read_labels([one, two], ReadOptions())
    assert_table(
        reading,
        ["one/a.jpg", "one/b.jpg", "two/a.jpg", "two/b.jpg"],
        ["dog", "cat", "cow"],
        [[1, 0, NAN], [0, 1, NAN], [0, NAN, 1], [1, NAN, 0]],
    )
    assert reading.root == tmp_path
    assert all(path.is_file() for path in reading.paths)
    assert f"labels that {two / 'labels.csv'} does not name, unknown for its images: cat" in reading.findings.notes


def test_label_files_are_those_of_the_folders_in_their_order(tmp_path: Path) -> None:
    one = put(tmp_path, "one.csv", "filename,dog\na.jpg,1\nb.jpg,0\n")
    two = put(tmp_path, "two.csv", "filename,dog\na.jpg,0\nb.jpg,1\n")
    folders = [put(tmp_path, f"{name}/{file}.jpg").parent for name in "xy" for file in "ab"][::2]
    table = read_labels(folders, ReadOptions(labels=(str(one), str(two))))
    assert_table(table, ["x/a.jpg", "x/b.jpg", "y/a.jpg", "y/b.jpg"], ["dog"], [[1], [0], [0], [1]])
    with pytest.raises(LabelrError, match="2 data folders, but 1 label file"):
        read_labels(folders, ReadOptions(labels=(str(one),)))


def test_folder_given_twice_is_an_error(tmp_path: Path) -> None:
    one = make_data(tmp_path / "one", LABELS)
    make_data(tmp_path / "two", LABELS)
    with pytest.raises(LabelrError, match=r"the folder .*one is given twice"):
        read_labels([one, tmp_path / "two" / ".." / "one"], ReadOptions())


def test_two_names_of_one_image_are_an_error(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na,1\na.jpg,0\nb.jpg,0\n")
    error = error_of(data)
    assert "lists 1 image more than once: a.jpg (as a and a.jpg)" in error.message
    assert "`--skip-invalid`" in error.hint


def test_image_with_two_names_can_be_left_out(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na,1\na.jpg,0\nb.jpg,0\n")
    table = read_table(data, skip_invalid=True)
    assert_table(table, ["b.jpg"], ["dog"], [[0]])
    assert table.findings.invalid == (f"{data / 'labels.csv'}: a.jpg (as a and a.jpg) is listed more than once",)
    assert table.findings.unlisted == ()


def test_image_with_two_names_is_not_left_out_if_no_other_one_is_there(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na,1\na.jpg,0\n", images=["a.jpg"])
    assert "lists 1 image more than once" in error_of(data, skip_invalid=True).message


def test_image_that_two_folders_list_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    put(tmp_path, "inner/other.csv", "filename,dog\n../a.jpg,1\n")
    put(tmp_path, "inner/c.jpg")
    folders = [tmp_path, tmp_path / "inner"]
    with pytest.raises(LabelrError, match=r"lists 1 image more than once: a.jpg") as caught:
        read_labels(folders, ReadOptions(labels=(f"{tmp_path}/labels.csv", f"{tmp_path}/inner/other.csv")))
    assert caught.value.hint == "name folders that have no images in common"


def test_images_that_are_not_named_and_of_which_nothing_is_known_are_listed(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\nc.jpg,\n", images=["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    reading = read_labels([data], ReadOptions())
    assert reading.files == ("a.jpg", "b.jpg")
    assert reading.findings.unlabelled == ("c.jpg",)
    assert reading.findings.unlisted == ("d.jpg",)


def test_file_that_knows_nothing_is_an_error(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,\nb.jpg,\n")
    assert "no image has a known label" in error_of(data).message


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (["photos/labels.csv"], {}),
        (["photos/images", "tables/labels.csv"], {}),
        (["tables/labels.csv"], {"images": "photos/images"}),
        (["photos/first.csv", "photos/last.csv"], {}),
    ],
)
def test_data_may_be_label_files(
    data: list[str], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        put(tmp_path, f"photos/images/{name}", b"")
    dog, other = "filename,dog\na.png,1\n", "filename,dog\nb.png,0\n"
    both = f"{dog}b.png,0\n"
    for name, text in (("photos/labels", both), ("tables/labels", both), ("photos/first", dog), ("photos/last", other)):
        put(tmp_path, f"{name}.csv", text)
    assert read(data, **options)["dog"].to_dict() == {"a.png": 1, "b.png": 0}


def test_label_files_of_folders_follow_their_order(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 0)):
        put(tmp_path, f"{name}/{name}.png", b"")
        put(tmp_path, f"{name}.csv", f"filename,dog\n{name}.png,{value}\n")
    table = read([tmp_path / "one", tmp_path / "one.csv", tmp_path / "two", tmp_path / "two.csv"])
    assert dict(zip(map(os.path.basename, table.index), table["dog"], strict=True)) == {"one.png": 1, "two.png": 0}


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (["one", "one.csv"], {"labels": "one.csv"}, "label files are given twice: as data, one.csv, and with"),
        (["one.csv", "one"], {}, "the label file one.csv comes before the folder one"),
        (["one", "two/labels.csv"], {}, "two/labels.csv is beside other images than those of one"),
        (["one", "one.csv", "one.csv", "two"], {}, "2 folders need 2 label files, one behind each"),
        (["one", "gone.csv"], {}, "the label file gone.csv does not exist"),
        (["one", "one/one.png"], {}, "one/one.png is an image"),
        (["one.tar.gz"], {}, r"one\.tar\.gz is an archive"),
        (["one"], {"labels": "one.tar.gz"}, r"one\.tar\.gz is an archive"),
    ],
)
def test_label_files_that_may_be_of_other_images_are_refused(
    data: list[str], options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        put(tmp_path, f"{name}/{name}.png", b"")
    for name in ("one.csv", "two/labels.csv"):
        put(tmp_path, name, "filename,dog\none.png,1\n")
    shutil.make_archive("one", "gztar", tmp_path, "one")
    with pytest.raises(LabelrError, match=message) as caught:
        read(data, **options)
    assert caught.value.hint


def test_rows_that_cannot_be_understood_are_the_reason_why_no_image_is_left(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\na.jpg,0\nb.jpg,1\nb.jpg,0\n")
    with pytest.raises(LabelrError, match=r"labels.csv: no row can be understood: .*a.jpg"):
        read(data, skip_invalid=True)


def test_names_that_differ_from_those_of_images_are_to_be_written_like_them(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog\na b.jpg,1\nc d.jpg,0\n", images=["a_b.jpg", "c_d.jpg"]))
    assert "a b.jpg (there is a_b.jpg)" in error.message
    assert error.hint == "write the names in the label file as those of the image files"


def test_labels_that_look_the_same_are_one_group() -> None:
    labels = ["B\u00e4r", "Ba\u0308r", "Wild\u00adschwein", "Wildschwein", "dog", "Dog ", "cat"]
    assert look_alikes(labels) == [labels[:2], labels[2:4], labels[4:6]]


def test_label_for_which_no_cell_says_no_is_noted_where_empty_cells_are_unknown(tmp_path: Path) -> None:
    text = "filename,dog,cat,seen\na.jpg,x,,yes\nb.jpg,,x,no\n"
    data = make_data(tmp_path, text)
    assert read_labels([data], ReadOptions()).findings.notes == (
        "labels for which no cell says no: dog, cat; an empty cell counts as unknown (use `--blank no` if it means no)",
    )
    assert read_labels([data], ReadOptions(blank="unknown")).findings.notes == ()


@pytest.mark.parametrize("header", ["Photo,dog", "Attachments,dog", "Photo files,dog"])
def test_name_of_an_attachment_is_that_before_its_address(header: str, tmp_path: Path) -> None:
    rows = "".join(f"{name}.jpg (https://v5.airtable.example/v3/u/21/{name}),{name == 'a':d}\n" for name in "ab")
    assert read(make_data(tmp_path, f"{header}\n{rows}"))["dog"].to_dict() == {"a.jpg": 1, "b.jpg": 0}


def test_only_and_exclude_choose_labels(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,tags\na.jpg,dog|cat\nb.jpg,cow\n")
    assert_table(read_table(data, only=["cow", "dog"]), ["a.jpg", "b.jpg"], ["cow", "dog"], [[0, 1], [1, 0]])
    assert read_table(data, exclude=["cow"]).labels == ("cat", "dog")
    error = error_of(data, only=["dgo"])
    assert "has no label 'dgo'" in error.message
    assert "`dog`" in error.hint
    assert "has no label 'cwo'" in error_of(data, exclude=["cwo"]).message
    assert error_of(data, only=["sheep"]).hint == "choose among its labels: cat, cow, dog"
    assert "no label is left" in error_of(data, only=["dog"], exclude=["dog"]).message


def test_group_of_a_layout_without_columns_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "dog/a.jpg", b"a")
    put(tmp_path, "cat/b.jpg", b"bb")
    assert "--group" in error_of(tmp_path, group="scene").hint


def test_assumption_of_one_file_is_not_said_of_all(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "filename,dog,cat\na.jpg,x,\nb.jpg,,x\n")
    put(tmp_path, "val.csv", "filename,dog,cat\nc.jpg,x,n\nd.jpg,n,\n")
    for name in "abcd":
        put(tmp_path, f"{name}.jpg")
    reading = read_labels([tmp_path], ReadOptions())
    assert_table(reading, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], ["dog", "cat"], [[1, 0], [0, 1], [1, 0], [0, NAN]])
    assert len(reading.findings.notes) == 1
    assert reading.findings.notes[0].startswith("train.csv: no cell says no")


def test_images_of_which_a_wanted_label_is_unknown_are_left_out(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,1,\nb.jpg,0,1\n")
    reading = read_labels([data], ReadOptions(only=("cat",)))
    assert reading.files == ("b.jpg",)
    assert reading.findings.unlabelled == ("a.jpg",)


# --- the way around --------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    data = make_data(tmp_path, 'filename,split,"a, b",group,NA\na.jpg,val,1,,0\nb.jpg,train,0,1,\n')
    table = read_table(data)
    copy = make_data(tmp_path / "copy", "")
    write_labels(copy / "labels.csv", table)
    again = read_table(copy)
    assert again.files == table.files
    assert again.labels == table.labels == ("a, b", "group", "NA")
    assert again.named_splits == table.named_splits == ("val", "train")
    np.testing.assert_array_equal(again.targets, table.targets)


@pytest.mark.slow
def test_hundred_thousand_rows_of_fifty_labels_are_read_in_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(np.array(["0", "1", ""]), (100_000, 50))
    names = [f"{number:06d}.jpg" for number in range(len(cells))]
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / name).touch()
    lines = [f"{name},{','.join(row)}" for name, row in zip(names, cells, strict=True)]
    header = ",".join(["filename", *(f"label {number}" for number in range(50))])
    put(tmp_path, "labels.csv", "\n".join([header, *lines]))
    start = time.process_time()
    table = read_table(tmp_path)
    assert time.process_time() - start < cpu_limit(10)
    assert table.targets.shape == (100_000, 50)
    np.testing.assert_array_equal(table.targets == 1, cells == "1")
    np.testing.assert_array_equal(np.isnan(table.targets), cells == "")


def test_each_folder_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "valid/cat/3.jpg", "valid/cat/3.txt"):
        put(tmp_path, name, name)
    walked: list[str] = []
    scandir = os.scandir

    def count(folder: Path) -> Any:
        walked.append(str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", count)
    read_labels([tmp_path], ReadOptions(layout="folders"))
    inside = [folder for folder in walked if folder.startswith(str(tmp_path))]
    assert sorted(set(inside)) == sorted(inside)
    assert len(inside) == 6


def test_absolute_and_relative_path_of_an_image_are_one_image(tmp_path: Path) -> None:
    alone = make_data(tmp_path / "alone", f"filename,dog\n{tmp_path}/alone/a.jpg,1\n{tmp_path}/alone/b.jpg,0\n")
    assert read_table(alone).findings.unlisted == ()
    both = make_data(tmp_path / "both", f"filename,dog\na.jpg,1\n{tmp_path}/both/a.jpg,0\n")
    assert f"lists 1 image more than once: a.jpg (as a.jpg and {both}/a.jpg)" in error_of(both).message
