"""Label files as people have them, and what is said of those that cannot be understood."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from labelr.config import ReadOptions
from labelr.data.formats import find_label_file, read_dataset
from labelr.data.labels import LabelTable
from labelr.errors import LabelrError

NAN = float("nan")


def make_data(folder: Path, text: str | bytes, images: Iterable[str] = ("a.jpg", "b.jpg")) -> Path:
    """A data folder with a ``labels.csv`` of this content, and a file for each image."""
    put(folder, "labels.csv", text)
    for image in images:
        put(folder, image, b"")
    return folder


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(data: Path, *, skip_missing: bool = False, skip_invalid: bool = False) -> LabelTable:
    return read_dataset(data, ReadOptions(skip_missing=skip_missing, skip_invalid=skip_invalid))


def error_of(data: Path, *, skip_missing: bool = False, skip_invalid: bool = False) -> LabelrError:
    with pytest.raises(LabelrError) as caught:
        read(data, skip_missing=skip_missing, skip_invalid=skip_invalid)
    return caught.value


def assert_table(table: LabelTable, files: Iterable[str], labels: Iterable[str], targets: list[list[float]]) -> None:
    assert table.files == tuple(files)
    assert table.labels == tuple(labels)
    assert table.targets.dtype == np.float32
    np.testing.assert_array_equal(table.targets, np.array(targets, dtype=np.float32))


# --- what can be read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("separator", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab")])
def test_separator_is_recognised(separator: str, name: str, tmp_path: Path) -> None:
    text = "filename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n".replace(",", separator)
    table = read(make_data(tmp_path, text))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])
    assert table.layout == f"one column a label, {name}-separated"


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffilename,dog\na.jpg,1\nb.jpg,0\n",
        "filename,dog\r\na.jpg,1\r\nb.jpg,0\r\n",
        "filename,dog\ra.jpg,1\rb.jpg,0\r",
        "filename,dog\na.jpg,1\nb.jpg,0",
        " filename , dog\n a.jpg , 1\nb.jpg, 0 \n",
        '"filename","dog"\n"a.jpg","1"\n"b.jpg","0"\n',
        "filename,dog\na.jpg,1.0\nb.jpg,0.0\n",
        "filename,dog\na.jpg,1\nb.jpg,0\n\n\n",
        "filename,dog\n\n,\na.jpg,1\n  \nb.jpg,0\n",
        "dog,filename\n1,a.jpg\n0,b.jpg\n",
        "FileName,dog\na.jpg,1\nb.jpg,0\n",
    ],
    ids=[
        "bom", "crlf", "cr", "no_last_newline", "spaces", "quotes", "decimals", "blank_end", "blank_rows",
        "file_column_last", "capitals",
    ],
)  # fmt: skip
def test_way_of_writing_makes_no_difference(text: str, tmp_path: Path) -> None:
    assert_table(read(make_data(tmp_path, text)), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


def test_empty_cell_is_unknown(tmp_path: Path) -> None:
    table = read(make_data(tmp_path, "filename,dog,cat\na.jpg,,1\nb.jpg,0,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[NAN, 1], [0, NAN]])


@pytest.mark.parametrize("label", ["NA", "null", "nan", "None", "1", "red, green", 'a "b"', "hot\ndog", "été"])
def test_label_may_be_called_anything(label: str, tmp_path: Path) -> None:
    quoted = label.replace('"', '""')
    table = read(make_data(tmp_path, f'filename,cat,"{quoted}"\na.jpg,0,1\n'))
    assert_table(table, ["a.jpg"], ["cat", label], [[0, 1]])


@pytest.mark.parametrize(
    "name", ["NA.jpg", "0007.jpg", "a,b.jpg", "a\nb.jpg", 'a"b.jpg', "=1.jpg", "1e5", "NA", "été.jpg"]
)
def test_image_may_be_called_anything(name: str, tmp_path: Path) -> None:
    quoted = name.replace('"', '""')
    table = read(make_data(tmp_path, f'filename,dog\n"{quoted}",1\n', images=[name]))
    assert_table(table, [name], ["dog"], [[1]])


def test_images_in_subfolders_are_named_by_their_path(tmp_path: Path) -> None:
    names = ["cats/1.jpg", "dogs/big/1.jpg"]
    table = read(make_data(tmp_path, "filename,dog\ncats/1.jpg,0\n./dogs//big/1.jpg,1\n", images=names))
    assert_table(table, names, ["dog"], [[0], [1]])
    assert table.paths == [tmp_path / "cats/1.jpg", tmp_path / "dogs/big/1.jpg"]


@pytest.mark.parametrize("name", ["filename", "file", "image_path", "Image", "name", "path"])
def test_file_column_is_known_by_its_name(name: str, tmp_path: Path) -> None:
    table = read(make_data(tmp_path, f"dog,{name}\n1,a\n", images=["a"]))
    assert_table(table, ["a"], ["dog"], [[1]])


def test_file_column_with_another_name_is_known_by_its_content(tmp_path: Path) -> None:
    table = read(make_data(tmp_path, "dog,photograph\n1,a.jpg\n0,b.JPG\n", images=["a.jpg", "b.JPG"]))
    assert_table(table, ["a.jpg", "b.JPG"], ["dog"], [[1], [0]])


# --- where the label file and the images are -------------------------------------------------------------------------

LABELS = "filename,dog\na.jpg,1\nb.jpg,0\n"


def test_images_folder_is_preferred_to_the_data_folder(tmp_path: Path) -> None:
    table = read(make_data(tmp_path, LABELS, images=["a.jpg", "b.jpg", "images/a.jpg", "images/b.jpg"]))
    assert table.root == tmp_path / "images"


def test_images_option_names_their_folder(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS, images=["images/a.jpg", "photos/a.jpg", "photos/b.jpg"])
    table = read_dataset(tmp_path, ReadOptions(images=str(tmp_path / "photos")))
    assert table.paths == [tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "b.jpg"]


def test_images_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    with pytest.raises(LabelrError, match=r"the image folder .*photos does not exist") as caught:
        read_dataset(tmp_path, ReadOptions(images=str(tmp_path / "photos")))
    assert "--images" in caught.value.hint


def test_labels_option_names_the_label_file(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    other = put(tmp_path, "elsewhere/other.txt", "filename,cat\na.jpg,1\n")
    table = read_dataset(tmp_path, ReadOptions(labels=str(other)))
    assert table.source == other
    assert table.labels == ("cat",)


def test_label_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, LABELS)
    with pytest.raises(LabelrError, match=r"the label file .*other\.csv does not exist") as caught:
        read_dataset(tmp_path, ReadOptions(labels=str(tmp_path / "other.csv")))
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
    with pytest.raises(LabelrError, match=r"none of the tables in .* reads as labels: a\.csv, b\.csv"):
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


# --- tables that cannot be understood --------------------------------------------------------------------------------


def test_wrong_cell_is_named_by_file_row_column_and_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{number}.jpg,1,0\n" for number in range(2, 18))
    make_data(tmp_path, f"filename,cat,dog\n{rows}18.jpg,1,yess\n", images=[])
    monkeypatch.chdir(tmp_path)
    error = error_of(Path())
    assert error.message == 'labels.csv, row 18, column "dog": expected 0, 1 or nothing, got "yess"'
    assert "--skip-invalid" in error.hint


@pytest.mark.parametrize("cell", ["2", "-1", "0.5", "yes", "NA", "nan", "TRUE", "1,0", "00", "-"])
def test_cell_other_than_0_and_1_is_wrong(cell: str, tmp_path: Path) -> None:
    assert f'got "{cell}"' in error_of(make_data(tmp_path, f'filename,dog\na.jpg,1\nb.jpg,"{cell}"\n')).message


def test_row_numbers_count_blank_rows(tmp_path: Path) -> None:
    text = "filename,dog\n\n\na.jpg,1\n,\n\nb.jpg,yess\n"
    assert ", row 7, column" in error_of(make_data(tmp_path, text)).message


def test_row_numbers_count_a_quoted_name_of_two_lines_once(tmp_path: Path) -> None:
    text = 'filename,dog\n"a\nb.jpg",1\nb.jpg,yess\n'
    assert ", row 3, column" in error_of(make_data(tmp_path, text)).message


def test_further_wrong_cells_are_counted(tmp_path: Path) -> None:
    text = "filename,dog,cat\na.jpg,x,1\nb.jpg,y,z\n"
    message = error_of(make_data(tmp_path, text)).message
    assert message.endswith('labels.csv, row 2, column "dog": expected 0, 1 or nothing, got "x" (2 more cells like it)')


def test_skip_invalid_leaves_rows_with_wrong_cells_out(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,1,x\nb.jpg,0,\n")
    assert_table(read(data, skip_invalid=True), ["b.jpg"], ["dog", "cat"], [[0, NAN]])


def test_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert "has no rows below its header" in error_of(make_data(tmp_path, "filename,dog\n")).message


@pytest.mark.parametrize("text", ["", "\n", " \n\n"], ids=["nothing", "newline", "spaces"])
def test_empty_label_file_is_an_error(text: str, tmp_path: Path) -> None:
    assert str(tmp_path / "labels.csv") in error_of(make_data(tmp_path, text)).message


@pytest.mark.parametrize("text", ["filename,dog\na.jpg,1\nb.jpg,1,0\n", "filename,dog\na.jpg,1\nb.jpg,1,\n"])
def test_row_with_too_many_cells_is_named(text: str, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, text))
    assert error.message.endswith("labels.csv, row 3: expected 2 cells as in the header, got 3")
    assert error.hint == "correct the row"


def test_row_with_too_few_cells_is_named(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog,cat\na.jpg,1,1\nb.jpg,1\n"))
    assert error.message.endswith("labels.csv, row 3: expected 3 cells as in the header, got 2")


def test_quote_that_is_never_closed_is_an_error_that_names_its_row(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, 'filename,dog\na.jpg,1\n"b.jpg,0\nc.jpg,1\n'))
    assert error.message.endswith("labels.csv, row 3: expected 2 cells as in the header, got 1")


def test_separators_inside_quotes_do_not_count(tmp_path: Path) -> None:
    table = read(make_data(tmp_path, 'filename,"red; green; blue"\na.jpg,1\nb.jpg,0\n'))
    assert table.labels == ("red; green; blue",)


def test_blank_lines_before_the_header_are_passed_over(tmp_path: Path) -> None:
    assert read(make_data(tmp_path, "\n\nfilename,dog\na.jpg,1\nb.jpg,0\n")).labels == ("dog",)


def test_rows_that_are_all_wrong_are_an_error_even_when_wrong_rows_are_left_out(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog\na.jpg,x\nb.jpg,y\n"), skip_invalid=True)
    assert 'got "x" (1 more cells like it)' in error.message


def test_name_longer_than_any_file_system_takes_is_a_missing_image(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, f"filename,dog\na.jpg,1\n{'x' * 5000}.jpg,1\n"))
    assert "1 of 2 images in labels.csv are not in" in error.message


def test_label_file_with_a_name_longer_than_any_file_system_takes_does_not_exist(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\n")
    with pytest.raises(LabelrError, match="does not exist"):
        read_dataset(data, ReadOptions(labels="x" * 5000))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_in_another_encoding_is_an_error(encoding: str, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,café\na.jpg,1\n".encode(encoding)))
    assert "labels.csv is not text in UTF-8" in error.message
    assert error.hint == "save the table as CSV in UTF-8"


def test_labels_that_stand_twice_are_named(tmp_path: Path) -> None:
    message = error_of(make_data(tmp_path, "filename,dog,cat,dog,cat,bird\na.jpg,1,0,1,0,1\n")).message
    assert message.endswith("2 labels stand twice in the header: cat, dog")


@pytest.mark.parametrize(
    ("header", "column"),
    [("filename,dog,", 3), (",filename,dog", 1), ("filename, ,dog", 2)],
    ids=["end", "start", "space"],
)
def test_column_without_a_name_is_named_by_its_number(header: str, column: int, tmp_path: Path) -> None:
    text = f"{header}\n" + ("0,a.jpg,1\n" if column == 1 else "a.jpg,0,1\n")
    assert f"row 1, column {column}: a label without a name" in error_of(make_data(tmp_path, text)).message


def test_file_names_alone_are_no_labels(tmp_path: Path) -> None:
    assert "has no label columns" in error_of(make_data(tmp_path, "filename\na.jpg\n")).message


def test_table_without_file_names_lists_its_columns(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "number,dog,cat\n1,1,0\n2,0,1\n"))
    assert error.message.endswith("has no column of file names: number, dog, cat")
    assert "filename" in error.hint


def test_row_without_a_file_name_is_named(tmp_path: Path) -> None:
    assert "labels.csv, row 3: no file name" in error_of(make_data(tmp_path, "filename,dog\na.jpg,1\n,0\n")).message


def test_images_listed_twice_are_named_with_their_rows(tmp_path: Path) -> None:
    text = "filename,dog\na.jpg,1\nb.jpg,0\n./a.jpg,0\n\nb.jpg,1\n"
    message = error_of(make_data(tmp_path, text)).message
    assert message.endswith("lists 2 images more than once: a.jpg (rows 2 and 4), b.jpg (rows 3 and 6)")


# --- images that are not there ---------------------------------------------------------------------------------------

MISSING = "filename,dog\na.jpg,1\n" + "".join(f"sub/{number}.jpg,0\n" for number in range(5))


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, MISSING))
    assert error.message == (
        f"5 of 6 images in labels.csv are not in {tmp_path}: sub/0.jpg, sub/1.jpg, sub/2.jpg, and 2 more"
    )
    assert "--skip-missing" in error.hint


def test_skip_missing_leaves_their_rows_out(tmp_path: Path) -> None:
    assert_table(read(make_data(tmp_path, MISSING), skip_missing=True), ["a.jpg"], ["dog"], [[1]])


@pytest.mark.parametrize("skip_missing", [False, True])
def test_all_images_missing_points_at_the_folder(skip_missing: bool, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, LABELS, images=[]), skip_missing=skip_missing)
    assert error.message.startswith("2 of 2 images in labels.csv are not in ")
    assert "--images" in error.hint
