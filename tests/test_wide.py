"""Wide tables, and the error messages about invalid ones."""

import os
from pathlib import Path

import pytest
from conftest import assert_table, error_of, make_data, put, read_table

from labelr.config import ReadOptions
from labelr.data.load import read_labels

NAN = float("nan")


# --- what can be read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("separator", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab")])
def test_separator_is_recognised(separator: str, name: str, tmp_path: Path) -> None:
    text = "filename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n".replace(",", separator)
    table = read_table(make_data(tmp_path, text))
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
def test_format_of_the_file_does_not_matter(text: str, tmp_path: Path) -> None:
    assert_table(read_table(make_data(tmp_path, text)), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


def test_empty_cell_is_unknown(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog,cat\na.jpg,,1\nb.jpg,0,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[NAN, 1], [0, NAN]])


@pytest.mark.parametrize("label", ["NA", "null", "nan", "None", "1", "red, green", 'a "b"', "hot\ndog", "été"])
def test_label_may_have_any_name(label: str, tmp_path: Path) -> None:
    quoted = label.replace('"', '""')
    table = read_table(make_data(tmp_path, f'filename,cat,"{quoted}"\na.jpg,0,1\n'))
    assert_table(table, ["a.jpg"], ["cat", label], [[0, 1]])


@pytest.mark.parametrize(
    "name", ["NA.jpg", "0007.jpg", "a,b.jpg", "a\nb.jpg", 'a"b.jpg', "=1.jpg", "1e5", "NA", "été.jpg"]
)
def test_image_may_have_any_name(name: str, tmp_path: Path) -> None:
    quoted = name.replace('"', '""')
    table = read_table(make_data(tmp_path, f'filename,dog\n"{quoted}",1\n', images=[name]))
    assert_table(table, [name], ["dog"], [[1]])


def test_images_in_subfolders_are_named_by_their_path(tmp_path: Path) -> None:
    names = ["cats/1.jpg", "dogs/big/1.jpg"]
    table = read_table(make_data(tmp_path, "filename,dog\ncats/1.jpg,0\n./dogs//big/1.jpg,1\n", images=names))
    assert_table(table, names, ["dog"], [[0], [1]])
    assert table.paths == [tmp_path / "cats/1.jpg", tmp_path / "dogs/big/1.jpg"]


@pytest.mark.parametrize("name", ["filename", "file", "image_path", "Image", "name", "path"])
def test_file_column_is_found_by_its_name(name: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"dog,{name}\n1,a\n", images=["a"]))
    assert_table(table, ["a"], ["dog"], [[1]])


def test_file_column_with_another_name_is_found_by_its_content(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "dog,photograph\n1,a.jpg\n0,b.JPG\n", images=["a.jpg", "b.JPG"]))
    assert_table(table, ["a.jpg", "b.JPG"], ["dog"], [[1], [0]])


@pytest.mark.parametrize(
    "name",
    ["Datei", "Dateiname", "Bild", "Bildname", "Foto", "Foto-Nr.", "Fichier", "archivo", "fichero", "imagen",
     "immagine", "bestand", "Bestandsnaam"],
)  # fmt: skip
@pytest.mark.parametrize("last", ["Summe", "n.v.", "e"])
def test_cell_that_is_no_file_name_does_not_hide_the_file_column(name: str, last: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"{name};Reh;Fuchs\na.jpg;1;0\nb.jpg;0;1\n{last};1;1\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["Reh", "Fuchs"], [[1, 0], [0, 1]])
    assert table.findings.missing == (last,)


def test_file_column_is_found_though_a_cell_names_no_image(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(4)]
    rows = "".join(f"{number},{name},1\n" for number, name in enumerate(names))
    table = read_table(make_data(tmp_path, f"id,shot,dog\n{rows},n.v.,0\n", names), skip_missing=True)
    assert table.files == tuple(names)


def test_column_that_names_few_images_does_not_hold_the_file_names(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(5)]
    rows = "".join(f"{name.removesuffix('.jpg')},{name if name == '0.jpg' else ''},1\n" for name in names)
    table = read_table(make_data(tmp_path, f"id,thumbnail,dog\n{rows}", names))
    assert table.files == tuple(names)


def test_title_above_file_names_is_no_header(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(9)]
    rows = "".join(f"{name};0;1\n" for name in names)
    error = error_of(make_data(tmp_path, f"Projekt A;2023;Wald\nFoto;Hund;Katze\n{rows}", names))
    assert "has no column of file names: Projekt A, 2023, Wald" in error.message
    assert "delete the rows above row 2 if that is the header" in error.hint


def test_column_of_marks_is_not_the_file_column(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "id,photo,dog\na,1,1\nb,0,0\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["photo", "dog"], [[1, 1], [0, 0]])


def test_column_of_urls_with_queries_is_found(tmp_path: Path) -> None:
    rows = "".join(
        f"shirt,https://cdn.shop/s/1/{name}.jpg?v=1612,{tag}\n" for name, tag in (("a", "red"), ("b", "blue"))
    )
    table = read_table(make_data(tmp_path, f"Title,Image Src,Tags\n{rows}"))
    assert_table(table, ["a.jpg", "b.jpg"], ["blue", "red"], [[0, 1], [1, 0]])


# --- tables that cannot be understood --------------------------------------------------------------------------------


def test_invalid_cell_is_named_by_file_row_column_and_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{number}.jpg,1,0\n" for number in range(2, 18))
    make_data(tmp_path, f"filename,cat,dog\n{rows}18.jpg,1,yess\n", images=[])
    monkeypatch.chdir(tmp_path)
    error = error_of(Path())
    assert error.message == 'labels.csv, row 18, column "dog": expected 0, 1 or nothing, got "yess"'
    assert "--skip-invalid" in error.hint


@pytest.mark.parametrize("cell", ["2", "0.5", "yess", "none", "2,0", "00", "-"])
def test_cell_other_than_0_and_1_is_invalid(cell: str, tmp_path: Path) -> None:
    assert f'got "{cell}"' in error_of(make_data(tmp_path, f'filename,dog\na.jpg,1\nb.jpg,"{cell}"\n')).message


@pytest.mark.parametrize("cell", ["unklar", "ja?", "maybe"])
def test_uncertain_cell_is_unknown_as_the_hint_says(cell: str, tmp_path: Path) -> None:
    text = "Datei;Hund\na.jpg;ja\nb.jpg;nein\nc.jpg;{}\n"
    data = make_data(tmp_path / "data", text.format(cell), ["a.jpg", "b.jpg", "c.jpg"])
    hint = error_of(data).hint
    assert "`?` stands for unknown" in hint
    assert "make such cells unknown in a corrected copy with `labelr check DATA --fix FILE`" in hint
    make_data(data, text.format("?"))
    assert read_table(data).findings.unlabelled == ("c.jpg",)


def test_row_numbers_count_blank_rows(tmp_path: Path) -> None:
    text = "filename,dog\n\n\na.jpg,1\n,\n\nb.jpg,yess\n"
    assert ", row 7, column" in error_of(make_data(tmp_path, text)).message


def test_row_numbers_count_a_quoted_name_of_two_lines_once(tmp_path: Path) -> None:
    text = 'filename,dog\n"a\nb.jpg",1\nb.jpg,yess\n'
    assert ", row 3, column" in error_of(make_data(tmp_path, text)).message


def test_further_invalid_cells_are_counted(tmp_path: Path) -> None:
    text = "filename,dog,cat\na.jpg,p,1\nb.jpg,1,q\nc.jpg,r,0\nd.jpg,1,0\n"
    message = error_of(make_data(tmp_path, text)).message
    assert message.endswith('labels.csv, row 2, column "dog": expected 0, 1 or nothing, got "p" (2 more cells like it)')


def test_skip_invalid_skips_rows_with_invalid_cells(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,1,p\nb.jpg,0,\nc.jpg,1,1\n", images=["a.jpg", "b.jpg", "c.jpg"])
    assert_table(read_table(data, skip_invalid=True), ["b.jpg", "c.jpg"], ["dog", "cat"], [[0, NAN], [1, 1]])


def test_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert "has no rows below its header" in error_of(make_data(tmp_path, "filename,dog\n")).message


@pytest.mark.parametrize("text", ["", "\n", " \n\n"], ids=["nothing", "newline", "spaces"])
def test_empty_label_file_is_an_error(text: str, tmp_path: Path) -> None:
    assert str(tmp_path / "labels.csv") in error_of(make_data(tmp_path, text)).message


def test_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,1,0\nc.jpg,0,0\n"))
    assert error.message.endswith("row 3: expected 2 cells as in the header, got 3 (1 more row that cannot be read)")
    assert "`--skip-invalid`" in error.hint


def test_empty_cells_at_the_end_of_a_row_do_not_count(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0,,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


def test_row_with_too_few_cells_is_named(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog,cat\na.jpg,1,1\nb.jpg,1\n"))
    assert error.message.endswith("labels.csv, row 3: expected 3 cells as in the header, got 2")


def test_unclosed_quote_is_an_error_that_names_its_row(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, 'filename,dog\na.jpg,1\n"b.jpg,0\nc.jpg,1\n'))
    assert error.message.endswith("labels.csv, row 3: a quoted cell is not closed")
    assert "close the quote" in error.hint


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_unclosed_quote_does_not_turn_rows_into_labels(separator: str, tmp_path: Path) -> None:
    text = 'filename,tags\na.jpg,"cat\nb.jpg,dog\nc.jpg,cat\n'.replace(",", separator)
    error = error_of(make_data(tmp_path, text, images=["a.jpg", "b.jpg", "c.jpg"]))
    assert "labels.csv, row 2: a quoted cell is not closed" in error.message


def test_separators_inside_quotes_do_not_count(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, 'filename,"red; green; blue"\na.jpg,1\nb.jpg,0\n'))
    assert table.labels == ("red; green; blue",)


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    assert read_table(make_data(tmp_path, "\n\nfilename,dog\na.jpg,1\nb.jpg,0\n")).labels == ("dog",)


def test_table_of_invalid_rows_only_is_an_error_even_with_skip_invalid(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,p,1\nb.jpg,0,q\n")
    assert 'got "p" (1 more cell like it)' in error_of(data, skip_invalid=True).message


def test_repeated_labels_are_named(tmp_path: Path) -> None:
    message = error_of(make_data(tmp_path, "filename,dog,cat,dog,cat,bird\na.jpg,1,0,1,0,1\n")).message
    assert message.endswith("has 2 labels twice in its header: cat, dog")


@pytest.mark.parametrize(
    ("header", "column"),
    [("filename,dog,", 3), (",filename,dog", 1), ("filename, ,dog", 2)],
    ids=["end", "start", "space"],
)
def test_column_without_a_name_is_named_by_its_number(header: str, column: int, tmp_path: Path) -> None:
    text = f"{header}\n" + ("0,a.jpg,1\n" if column == 1 else "a.jpg,0,1\n")
    assert f"row 1, column {column}: a label without a name" in error_of(make_data(tmp_path, text)).message


def test_columns_of_numbers_are_labels_if_selected(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,score,size\na.jpg,1,0\nb.jpg,0,1\n")
    assert "or select a column as a label with `--only score`" in error_of(data).hint
    assert "other numbers" not in error_of(data).message
    assert read_table(data, only=["score", "size"]).targets.tolist() == [[1, 0], [0, 1]]


def test_table_of_file_names_alone_has_no_labels(tmp_path: Path) -> None:
    assert "has no label columns" in error_of(make_data(tmp_path, "filename\na.jpg\n")).message


def test_table_without_file_names_lists_its_columns(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "number,dog,cat\n1,1,0\n2,0,1\n"))
    assert "has no column of file names: number, dog, cat; its first lines:\n    number,dog,cat\n" in error.message
    assert "`--image-column NAME`" in error.hint


def test_row_without_a_file_name_is_named(tmp_path: Path) -> None:
    assert "labels.csv, row 3: no file name" in error_of(make_data(tmp_path, "filename,dog\na.jpg,1\n,0\n")).message


def test_images_listed_twice_are_named_with_their_rows(tmp_path: Path) -> None:
    text = "filename,dog\na.jpg,1\nb.jpg,0\n./a.jpg,0\n\nb.jpg,1\n"
    message = error_of(make_data(tmp_path, text)).message
    assert message.endswith(
        "lists 2 images more than once, in rows that differ: "
        "a.jpg (rows 2 and 4 differ in dog), b.jpg (rows 3 and 6 differ in dog)"
    )


# --- what marks and columns mean -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("1", "0"),
        ("true", "false"),
        ("TRUE", "FALSE"),
        ("Yes", "No"),
        ("y", "n"),
        ("WAHR", "FALSCH"),
        ("ja", "nein"),
        ("J", "N"),
    ],
)
def test_marks_may_be_words(yes: str, no: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"filename,dog,cat\na.jpg,{yes},\nb.jpg,{no},{yes}\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, NAN], [0, 1]])


@pytest.mark.parametrize("mark", ["1", "x", "yes", "✓"])
def test_blank_is_no_if_all_marks_are_yes_and_a_note_says_so(mark: str, tmp_path: Path) -> None:
    reading = read_labels([make_data(tmp_path, f"filename,dog,cat\na.jpg,{mark},\nb.jpg,,{mark}\n")], ReadOptions())
    assert_table(reading, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])
    assert any("an empty cell counts as no" in note for note in reading.findings.notes)


def test_blank_option_sets_the_meaning_of_blank(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,1,\nb.jpg,,1\n")
    assert_table(read_table(data, blank="unknown"), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, NAN], [NAN, 1]])
    data = make_data(tmp_path / "other", "filename,dog,cat\na.jpg,1,\nb.jpg,0,1\n")
    assert_table(read_table(data, blank="no"), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


def test_mark_may_have_a_decimal_comma(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename;dog\na.jpg;1,0\nb.jpg;0,0\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


def test_missing_header_is_an_error(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "a.jpg,1,0\nb.jpg,0,1\n"))
    assert "labels.csv has no header: its first row names an image, a.jpg" in error.message
    assert "`filename`" in error.hint


def test_cell_may_be_huge(tmp_path: Path) -> None:
    text = f"filename,dog,note\na.jpg,1,{'x' * 200_000}\nb.jpg,0,y\n"
    assert_table(read_table(make_data(tmp_path, text), exclude=["note"]), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


@pytest.mark.parametrize("missing", ["NA", "nan", "NULL", "?"])
def test_words_for_missing_are_unknown(missing: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"filename,dog,cat\na.jpg,1,{missing}\nb.jpg,0,1\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, NAN], [0, 1]])


MINUS = "filename,dog,cat\na.jpg,1,-1\nb.jpg,-1,1\n"


def test_minus_one_without_zero_is_ambiguous(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, MINUS + "c.jpg,1,\n"))
    assert "holds -1 but no 0" in error.message
    assert "`--minus-one no`" in error.hint


def test_minus_one_is_no_where_no_cell_is_zero_or_empty(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, MINUS))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])
    assert "-1 counts as no" in table.findings.notes


@pytest.mark.parametrize(("meaning", "value"), [("no", 0.0), ("unknown", NAN)])
def test_minus_one_option_sets_its_meaning(meaning: str, value: float, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, MINUS), minus_one=meaning)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, value], [value, 1]])


def test_minus_one_beside_zero_is_unknown(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog,cat\na.jpg,1,-1\nb.jpg,0,1\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, NAN], [0, 1]])


def test_columns_without_labels_are_ignored_and_named(tmp_path: Path) -> None:
    text = ",filename,width,url,dog,notes,score\n0,a.jpg,640,http://x/a.jpg,1,,0\n1,b.jpg,480,http://x/b.jpg,0,,1\n"
    reading = read_labels([make_data(tmp_path, text)], ReadOptions())
    assert_table(reading, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert reading.findings.notes == ("columns that hold no labels, ignored: width, url, notes, score",)


def test_only_selects_any_column_and_exclude_drops_any(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,score,size\na.jpg,1,0,7\nb.jpg,0,1,9\n")
    assert read_table(data, only=["score"]).labels == ("score",)
    assert read_table(data, only=["score", "dog"]).labels == ("score", "dog")
    data = make_data(tmp_path / "other", "filename,dog,cat\na.jpg,1,1\nb.jpg,0,2\n")
    assert "`--exclude cat`" in error_of(data).hint
    assert read_table(data, exclude=["cat"]).labels == ("dog",)


def test_label_without_known_cells_is_kept(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog,cat\na.jpg,1,\nb.jpg,0,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, NAN], [0, NAN]])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
def test_text_in_another_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,café\na.jpg,1\nb.jpg,0\n".encode(encoding)))
    assert_table(table, ["a.jpg", "b.jpg"], ["café"], [[1], [0]])


def test_image_whose_name_is_not_utf_8_is_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    table = read_table(make_data(tmp_path, b"filename,dog\ncaf\xe9.jpg,1\nb.jpg,0\n", [name, "b.jpg"]))
    assert_table(table, [name, "b.jpg"], ["dog"], [[1], [0]])


def test_separator_line_of_excel_is_used(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, 'sep=;\r\nfilename;"a, b";c\r\na.jpg;1;0\r\nb.jpg;0;1\r\n'))
    assert_table(table, ["a.jpg", "b.jpg"], ["a, b", "c"], [[1, 0], [0, 1]])


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("true", "false"), ('"yes"', '"no"')])
def test_label_of_objects_may_be_named_error(yes: str, no: str, tmp_path: Path) -> None:
    rows = [("a.jpg", yes, no), ("b.jpg", no, yes)]
    objects = [f'{{"file_name": "{name}", "error": {error}, "ok": {ok}}}' for name, error, ok in rows]
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path, name)
    put(tmp_path, "labels.jsonl", "\n".join(objects))
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["error", "ok"], [[1, 0], [0, 1]])


def test_objects_without_keys_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "labels.jsonl", "{}\n{}\n")
    assert "has no column of file names, nor any other" in error_of(tmp_path).message


def test_columns_of_other_numbers_are_named_where_there_are_no_label_columns(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog,cat\na.jpg,0.1,3\nb.jpg,0.9,2\n"))
    assert "has no label columns: dog, cat hold other numbers than 0 and 1" in error.message


@pytest.mark.parametrize("titles", ["Project A\n", "Project A\nby M. Huber\n", "# a\n# b\n# c\n"])
def test_lines_of_a_title_are_left_out(titles: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"{titles}filename;dog;cat\na.jpg;1;0\nb.jpg;0;1\n")
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    "rows",
    [
        ",Animals,,Plants,\nfilename,cat,dog,tree,rose\n",
        ",Animals,Animals,Plants,Plants\nfilename,cat,dog,tree,rose\n",
        "filename,Animals,,Plants,\n,cat,dog,tree,rose\n",
        "filename,Animals,,Plants,\nfilename,cat,dog,tree,rose\n",
        "Survey\n,Animals,,Plants,\nfilename,cat,dog,tree,rose\n",
        "which,Animals,,,Plants\n,cat,dog,tree,rose\n",
        ",Animals,,Plants,\n,cat,dog,tree,rose\n",
        ",Animals,,Plants,\n,,,Plants,\nfilename,cat,dog,tree,rose\n",
    ],
)
def test_names_of_groups_of_columns_above_the_header_are_left_out_and_said(rows: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"{rows}a.jpg,1,0,1,0\nb.jpg,0,1,,1\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog", "tree", "rose"], [[1, 0, 1, 0], [0, 1, NAN, 1]])
    assert "names of groups of columns above the header, left out: Animals, Plants" in table.findings.notes


@pytest.mark.parametrize("second", [",Katze,Hund,Notiz", "Datei,Katze,Hund,", ",0,1,"])
def test_row_that_may_explain_the_header_is_no_header(second: str, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, f"filename,cat,dog,\n{second}\na.jpg,1,0,\nb.jpg,0,1,\n"))
    assert "row 2" in error.message


def test_row_below_groups_of_columns_keeps_its_number(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, ",Animals,\nfilename,cat,dog\na.jpg,1,0\nb.jpg,0,maybe\n"))
    assert 'row 4, column "dog"' in error.message


@pytest.mark.parametrize("header", ['"filename,dog,""cat, big"""', 'filename,dog,"cat, big"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_may_be_in_quotes_as_a_whole(header: str, end: str, tmp_path: Path) -> None:
    text = end.join([header, '"a.jpg,1,0"', '"b.jpg,,""1"""', '"""c,d.jpg"",0,1"', ""])
    table = read_table(make_data(tmp_path, text, ["a.jpg", "b.jpg", "c,d.jpg"]))
    assert_table(table, ["a.jpg", "b.jpg", "c,d.jpg"], ["dog", "cat, big"], [[1, 0], [NAN, 1], [0, 1]])
    assert table.layout == "one column a label, comma-separated, each line in quotes"


@pytest.mark.parametrize(
    "name",
    [
        "is_train", "istrain", "is_test", "is_val", "is_training", "is_training_image", "kfold", "fold", "split",
        "dataset", "Set",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("True", "False")])
def test_column_of_splits_is_no_label_unless_it_is_named(name: str, yes: str, no: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"filename,dog,{name}\na.jpg,1,{no}\nb.jpg,0,{yes}\n")
    table = read_table(data)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert table.findings.notes == (f"columns that hold no labels, ignored: {name}",)
    for option in ("only", "label_column"):
        assert_table(read_table(data, **{option: [name]}), ["a.jpg", "b.jpg"], [name], [[0], [1]])


def test_marks_of_splits_beside_tags_are_no_labels(tmp_path: Path) -> None:
    once = make_data(tmp_path / "once", "filename,tags,is_train\na.jpg,dog,1\nb.jpg,cat,0\n")
    assert read_table(once).labels == ("cat", "dog")
    several = make_data(tmp_path / "several", "filename,label,is_train\na.jpg,dog,1\na.jpg,cat,1\nb.jpg,cat,0\n")
    assert read_table(several).labels == ("cat", "dog")


def make_marks(folder: Path, header: str, rows: list[str]) -> Path:
    names = [f"{number}.jpg" for number in range(len(rows))]
    lines = "".join(f"{name},{row}\n" for name, row in zip(names, rows, strict=True))
    return make_data(folder, f"filename,{header}\n{lines}", names)


DERIVED = "; leave out what is no label of its own with `--exclude NAME`"


def test_label_that_applies_wherever_another_does_is_said(tmp_path: Path) -> None:
    data = make_marks(tmp_path, "dog,cat,any", ["1,0,1", "0,1,1", "1,1,1", "0,0,0", ",1,0"] * 3)
    table = read_table(data)
    assert table.labels == ("dog", "cat", "any")
    assert f"labels that apply wherever any other one does: any{DERIVED}" in table.findings.notes


def test_labels_that_are_the_opposite_of_each_other_are_said(tmp_path: Path) -> None:
    data = make_marks(tmp_path, "dog,sick,cat,healthy", ["1,0,0,1", "0,1,1,0", "1,1,0,0", "0,0,0,1"] * 3)
    table = read_table(data)
    assert table.labels == ("dog", "sick", "cat", "healthy")
    assert table.findings.notes == (f"labels that are the opposite of each other: sick and healthy{DERIVED}",)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("dog,cat", ["1,0", "0,1"] * 6),
        ("dog,cat,any", ["1,0,1", "0,1,1", "1,1,1", "0,0,0"]),
        ("dog,cat,cow", ["1,0,0", "0,1,0", "0,0,1"] * 4),
        ("dog,cat,cow", ["1,1,1", "1,0,1", "0,1,1"] * 4),
    ],
    ids=["two labels", "few rows", "one label each", "a label everywhere"],
)
def test_labels_that_may_be_by_chance_what_others_say_need_no_note(
    header: str, rows: list[str], tmp_path: Path
) -> None:
    assert read_table(make_marks(tmp_path, header, rows)).findings.notes == ()


@pytest.mark.parametrize("column", ["level", "diagnosis class"])
def test_class_numbers_in_the_only_column_lead_to_the_options_that_read_them(column: str, tmp_path: Path) -> None:
    data = make_marks(tmp_path, column, [*"00100", "2", "4", "", "NA"])
    quoted = f"'{column}'" if " " in column else column
    assert f"use `--label-column {quoted} --layout tags`" in error_of(data).hint
    assert read_table(data, label_column=[column], layout="tags").labels[:4] == ("0", "1", "2", "4")


def test_cells_that_repeat_the_name_of_their_column_are_marks(tmp_path: Path) -> None:
    rows = "file,Dog,Cat,Notes\na.jpg,Dog,,Notes\nb.jpg,dog,Cat,\nc.jpg,,,late\n"
    table = read_table(make_data(tmp_path, rows, ["a.jpg", "b.jpg", "c.jpg"]))
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["Dog", "Cat"], [[1, 0], [1, 1], [0, 0]])
    note = "cells that repeat the name of their column, which count as yes: in 2 columns"
    assert note in table.findings.notes


def test_table_of_which_all_labels_are_excluded_says_so(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n")
    error = error_of(data, layout="wide", exclude=["dog", "cat"])
    assert error.message == f"no label of {data / 'labels.csv'} is left"
    assert "--exclude" in error.hint
    assert "is left" in error_of(data, exclude=["dog", "cat"]).message
