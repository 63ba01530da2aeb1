"""What the columns of a table hold, and what is done with rows that cannot be read."""

import json
from pathlib import Path

import pytest
from conftest import assert_table, error_of, make_data, put, read_table

from labelr.data.splits import read_splits

NAN = float("nan")
SPECIES = "File,RelativePath,Species,Flag0\n1.jpg,north,fox,false\n1.jpg,south,deer,false\n2.jpg,south,,true\n"
STYLES = "id,kind,season,sold\na.jpg,shirt,Fall,yes\nb.jpg,shoe,,no\nc.jpg,shirt,Summer,no\n"


def test_folder_and_file_name_in_two_columns_are_joined_and_said(tmp_path: Path) -> None:
    files = ["north/1.jpg", "south/1.jpg", "south/2.jpg"]
    table = read_table(make_data(tmp_path, SPECIES, images=files))
    assert_table(table, files, ["deer", "fox"], [[0, 1], [1, 0], [0, 0]])
    assert 'file names are joined from the columns "RelativePath" and "File"' in table.findings.notes


def test_image_columns_that_the_user_names_are_joined_in_their_order(tmp_path: Path) -> None:
    text = "camera,picture,dog\nc1,7,1\nc2,7,0\n"
    data = make_data(tmp_path, text, images=["c1/7.jpg", "c2/7.jpg"])
    table = read_table(data, image_column=["camera", "picture"])
    assert_table(table, ["c1/7.jpg", "c2/7.jpg"], ["dog"], [[1], [0]])


@pytest.mark.parametrize("names", ["before,after", "photo,image"])
def test_other_column_of_file_names_is_said(names: str, tmp_path: Path) -> None:
    text = f"{names},dog\n1.jpg,a.jpg,1\n2.jpg,b.jpg,0\n"
    data = make_data(tmp_path, text, images=["a.jpg", "b.jpg", "1.jpg", "2.jpg"])
    taken = read_table(data)
    file, other = ("before", "after") if names == "before,after" else ("image", "photo")
    note = f'file names are those of the column "{file}", not of {other} (use `--image-column {other}`)'
    assert note in taken.findings.notes
    assert read_table(data, image_column=[other]).files != taken.files


@pytest.mark.parametrize("text", ["filename,mask,dog\na.jpg,m.png,1\n", "image,file,dog\na.jpg,a.jpg,1\n"])
def test_column_of_file_names_that_is_certain_needs_no_note(text: str, tmp_path: Path) -> None:
    notes = read_table(make_data(tmp_path, text, images=["a.jpg"])).findings.notes
    assert not any("file names" in note for note in notes)


def test_same_file_name_in_several_folders_is_asked_about(tmp_path: Path) -> None:
    text = "camera,file,dog\nc1,7.jpg,1\nc2,8.jpg,0\n"
    error = error_of(make_data(tmp_path, text, images=["c1/7.jpg", "c2/7.jpg", "c2/8.jpg"]))
    assert "7.jpg may mean any of 2 images" in error.message
    assert "`--image-column" in error.hint


@pytest.mark.parametrize("option", ["image_column", "label_column", "annotator", "group"])
def test_column_that_is_not_there_is_an_error_with_the_nearest(option: str, tmp_path: Path) -> None:
    value = "Specis" if option in ("annotator", "group") else ["Specis"]
    error = error_of(make_data(tmp_path, SPECIES), **{option: value})
    assert "has no column 'Specis'" in error.message
    assert "Species" in error.hint


def test_label_column_of_marks_is_the_only_label(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n")
    assert_table(read_table(data, label_column=["cat"]), ["a.jpg", "b.jpg"], ["cat"], [[0], [1]])


def test_label_column_of_numbers_holds_classes(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,year,dog\na.jpg,2011,1\nb.jpg,2012,0\n")
    assert_table(read_table(data, label_column=["year"]), ["a.jpg", "b.jpg"], ["2011", "2012"], [[1, 0], [0, 1]])


def test_several_label_columns_make_labels_with_their_names(tmp_path: Path) -> None:
    data = make_data(tmp_path, STYLES, images=["a.jpg", "b.jpg", "c.jpg"])
    table = read_table(data, label_column=["kind", "season", "sold"])
    assert table.labels == ("kind=shirt", "kind=shoe", "season=Fall", "season=Summer", "sold")
    expected: list[list[float]] = [[1, 0, 1, 0, 1], [0, 1, NAN, NAN, 0], [1, 0, 0, 1, 0]]
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], table.labels, expected)
    assert read_table(data, label_column=["kind", "season"], blank="no").targets[1].tolist() == [0, 1, 0, 0]


def test_error_proposes_the_column_whose_words_recur(tmp_path: Path) -> None:
    rows = "".join(
        f"{name}.jpg,{name} the {row}th,{'fox' if row % 2 else 'deer'}\n" for row, name in enumerate("abcdef")
    )
    error = error_of(
        make_data(tmp_path, f"filename,remarkable,animal\n{rows}", images=[f"{name}.jpg" for name in "abcdef"])
    )
    assert "labels may be in any of the columns remarkable, animal" in error.message
    assert "`--label-column animal`" in error.hint
    assert '"animal=deer"' in error.hint


def test_ignored_column_of_words_is_offered_as_labels(tmp_path: Path) -> None:
    text = "filename,dog,place\n" + "".join(f"{name}.jpg,1,{'in' if name < 'c' else 'out'}\n" for name in "abcd")
    table = read_table(make_data(tmp_path, text, images=[f"{name}.jpg" for name in "abcd"]))
    (note,) = (note for note in table.findings.notes if "ignored: place" in note)
    assert "`--label-column place`" in note


def test_splits_in_a_column_with_another_name_are_said(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog,Type\na.jpg,1,train\nb.jpg,0,validation\n")
    file = tmp_path / "labels.csv"
    note = f"columns that hold no labels, ignored: Type (`--splits {file}` takes the split from Type)"
    assert note in read_table(data).findings.notes
    assert [row.split for row in read_splits(file)] == ["train", "val"]


def test_common_name_is_preferred_to_taxonomy(tmp_path: Path) -> None:
    text = "filename,class,species,common_name\na.jpg,Mammalia,vulpes,Red Fox\nb.jpg,Aves,glandarius,Jay\n"
    assert read_table(make_data(tmp_path, text)).labels == ("Jay", "Red Fox")


# --- words, headers, vectors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("VERO", "FALSO"), ("VERDADEIRO", "FALSO"), ("WAAR", "ONWAAR"), ("PRAWDA", "FAŁSZ"), ("ИСТИНА", "ЛОЖЬ"),
        ("SANT", "FALSKT"), ("TOSI", "EPÄTOSI"), ("IGAZ", "HAMIS"), ("DOĞRU", "YANLIŞ"), ("SAND", "FALSK"),
        ("PRAVDA", "NEPRAVDA"), ("SANN", "USANN"), ("да", "нет"), ("tak", "nie"), ("是", "否"),
    ],
)  # fmt: skip
def test_words_of_spreadsheets_for_true_and_false(yes: str, no: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"filename;dog;cat\na.jpg;{yes};{no}\nb.jpg;{no};{yes}\n")
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("present", "absent"), ("Presente", "Ausente"), ("vorhanden", "nicht vorhanden"), ("positive", "negative"),
        ("pos", "neg"), ("on", "off"), ("V", "F"), ("checked", "unchecked"),
    ],
)  # fmt: skip
def test_states_in_several_columns_are_yes_and_no(yes: str, no: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"filename;dog;cat\na.jpg;{yes};{no}\nb.jpg;{no};{yes}\n")
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


@pytest.mark.parametrize(("yes", "no"), [("present", "absent"), ("positive", "negative"), ("on", "off")])
def test_states_beside_a_column_of_marks_are_yes_and_no(yes: str, no: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"filename,dog,cat\na.jpg,{yes},0\nb.jpg,{no},1\n")
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    "text",
    [
        "filename,test\na.jpg,positive\nb.jpg,negative\n",
        "filename,label,date\na.jpg,positive,1.5.\nb.jpg,negative,2.5.\n",
        "filename,label,dog\na.jpg,positive,unclear\nb.jpg,negative,positive\n",
    ],
)
def test_states_in_one_column_are_labels(text: str, tmp_path: Path) -> None:
    assert read_table(make_data(tmp_path, text)).labels == ("negative", "positive")


@pytest.mark.parametrize("cell", ["checked", "x"])
def test_checkboxes_of_airtable_are_marks(cell: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"filename,dog,cat\na.jpg,checked,{cell}\nb.jpg,,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 1], [0, 0]])


def test_one_checkbox_beside_tags_is_no_label(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,tags,done\na.jpg,dog,checked\nb.jpg,cat,\n"))
    assert table.labels == ("cat", "dog")


def test_one_word_of_a_pair_is_a_label_like_any_other(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,ground\na.jpg,sand\nb.jpg,rock\n"))
    assert table.labels == ("rock", "sand")


CELEBA = "3\nSmiling  Young\n{}  1 -1\n{} -1  1\n{} -1 -1\n"


def test_aligned_list_with_a_count_and_a_header_is_read(tmp_path: Path) -> None:
    images = ["000001.jpg", "000002.jpg", "000003.jpg"]
    for image in images:
        put(tmp_path, image)
    put(tmp_path, "list_attr.txt", CELEBA.format(*images))
    table = read_table(tmp_path)
    assert_table(table, images, ["Smiling", "Young"], [[1, 0], [0, 1], [0, 0]])
    assert "rows above the header, left out: 3" in table.findings.notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "./x/a.jpg 1 0\n./x/b.jpg 0 1\n./x/c.jpg 0 0\n"),
        ("list.tsv", "x\\a.jpg\t1,0\nx\\b.jpg\t0,1\nx\\c.jpg\t0,0\n"),
        ("list.lst", "0\t1\t0\ta.jpg\n1\t0\t1\tb.jpg\n2\t0\t0\tc.jpg\n"),
        ("list.csv", "filename,label\na.jpg,\"[1, 0]\"\nb.jpg,\"[0, 1]\"\nc.jpg,\"[0, 0]\"\n"),
        ("list.json", '{"a.jpg": [1, 0], "b.jpg": [0, 1], "c.jpg": [0, 0]}'),
    ],
    ids=["nus-wide", "paddle", "mxnet", "vectors", "json"],
)  # fmt: skip
def test_labels_without_names_are_numbered_and_said(name: str, text: str, tmp_path: Path) -> None:
    put(tmp_path, name, text)
    for image in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, image)
    table = read_table(tmp_path)
    assert [label.rpartition("_")[2] for label in table.labels] == ["1", "2"]
    assert table.targets.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert any("label_1" in note or "labels_1" in note for note in table.findings.notes)


def test_json_that_maps_names_to_labels_is_read(tmp_path: Path) -> None:
    put(tmp_path, "labels.json", '{"a.jpg": ["dog", "cat"], "b.jpg": []}')
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [0, 0]])


# --- rows ------------------------------------------------------------------------------------------------------------


def test_identical_rows_count_once_and_are_said(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\na.jpg,1\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert "rows with the same cells as an earlier row, counted once: 1" in table.findings.notes


JUDGED = "filename,dog,cat,rater\na.jpg,1,0,Ann\na.jpg,1,1,Bob\na.jpg,0,,Cy\nb.jpg,0,1,Ann\nb.jpg,1,1,Bob\n"


def test_rows_of_an_image_that_differ_are_an_error_that_names_them(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, JUDGED))
    assert "a.jpg (rows 2 and 3 and 4 differ in dog, cat, rater)" in error.message
    assert "`--annotator rater`" in error.hint


def test_rows_of_several_annotators_are_joined_by_vote(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, JUDGED), annotator="rater")
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, NAN], [NAN, 1]])
    assert "rows of images that several judged, joined by vote: 5" in table.findings.notes


def test_tags_of_several_annotators_are_joined_by_vote(tmp_path: Path) -> None:
    text = "filename,tags,who\na.jpg,dog|cat,A\na.jpg,dog,B\na.jpg,cow,C\nb.jpg,cat,A\nb.jpg,cat,B\n"
    table = read_table(make_data(tmp_path, text), annotator="who")
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "cow", "dog"], [[0, 0, 1], [1, 0, 0]])


def test_a_row_for_each_label_and_annotator_is_one_judgement_of_each(tmp_path: Path) -> None:
    text = "filename,label,who\na.jpg,dog,A\na.jpg,cat,A\na.jpg,dog,B\nb.jpg,cat,A\nb.jpg,cat,B\nb.jpg,dog,B\n"
    table = read_table(make_data(tmp_path, text), annotator="who")
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[NAN, 1], [1, NAN]])


def test_ragged_rows_can_be_left_out(tmp_path: Path) -> None:
    text = "filename,dog\na.jpg,1\nb.jpg,1,0\nc.jpg,0\n"
    table = read_table(make_data(tmp_path, text, images=["a.jpg", "b.jpg", "c.jpg"]), skip_invalid=True)
    assert_table(table, ["a.jpg", "c.jpg"], ["dog"], [[1], [0]])
    assert table.findings.invalid == (f"{tmp_path / 'labels.csv'}, row 3: expected 2 cells as in the header, got 3",)
    assert table.findings.unlisted == ()


def test_images_whose_rows_differ_can_be_left_out(tmp_path: Path) -> None:
    text = "filename,dog\na.jpg,1\na.jpg,0\nb.jpg,0\n"
    table = read_table(make_data(tmp_path, text), skip_invalid=True)
    assert_table(table, ["b.jpg"], ["dog"], [[0]])
    assert len(table.findings.invalid) == 2


def test_line_of_json_that_cannot_be_parsed_can_be_left_out(tmp_path: Path) -> None:
    put(
        tmp_path,
        "labels.jsonl",
        '{"file_name": "a.jpg", "tags": ["dog"]}\n{"file_na\n{"file_name": "b.jpg", "tags": []}\n',
    )
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    error = error_of(tmp_path)
    assert "line 2" in error.message
    assert "`--skip-invalid`" in error.hint
    table = read_table(tmp_path, skip_invalid=True)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert "line 2" in table.findings.invalid[0]


COCO = {
    "images": [{"id": "1", "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"id": 1, "name": "dog"}],
    "annotations": [{"image_id": 1, "category_id": "1"}, {"image_id": 9, "category_id": 1}],
}


def test_orphan_annotation_can_be_left_out_and_ids_are_compared_as_text(tmp_path: Path) -> None:
    put(tmp_path, "labels.json", json.dumps(COCO))
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    assert "annotation 2 refers to image 9" in error_of(tmp_path).message
    table = read_table(tmp_path, skip_invalid=True)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert len(table.findings.invalid) == 1


def test_broken_xml_of_voc_can_be_left_out(tmp_path: Path) -> None:
    for name, label in (("a", "dog"), ("b", "cat & dog"), ("c", "cat")):
        put(tmp_path, f"{name}.jpg")
        put(
            tmp_path,
            f"{name}.xml",
            f"<annotation><filename>{name}.jpg</filename><object><name>{label}</name></object></annotation>",
        )
    error = error_of(tmp_path)
    assert "b.xml cannot be parsed" in error.message
    assert "`--skip-invalid`" in error.hint
    table = read_table(tmp_path, skip_invalid=True)
    assert_table(table, ["a.jpg", "c.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])
    assert table.findings.unlisted == ()


# --- tables of other programs -----------------------------------------------------------------------------------------


def test_empty_cell_at_the_end_of_each_row_does_not_move_the_labels(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog,cat\na.jpg,0,1,\nb.jpg,1,0,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[0, 1], [1, 0]])


def test_further_cell_in_each_row_is_an_error(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,dog\na.jpg,0,ok\nb.jpg,1,ok\n"))
    assert "row 2: expected 2 cells as in the header, got 3" in error.message


def test_row_numbers_of_r_are_no_file_names(tmp_path: Path) -> None:
    data = make_data(tmp_path, '"file","dog"\n"1","a.jpg",1\n"2","b.jpg",0\n')
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1.000000", "0.000000"), ("1.00", "0.00"), ("1.000e+00", "0.000e+00"), ("1,00", "0,00"), ("1,000", "0,000")],
)
def test_marks_may_be_written_as_decimal_numbers(yes: str, no: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"filename;dog\na.jpg;{yes}\nb.jpg;{no}\n")
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.lst", "7\t0.000000\ta.jpg\n3\t2.000000\tb.jpg\n5\t1.000000\tc.jpg\n"),
        ("train.txt", "a.jpg\t0\nb.jpg\t2\nc.jpg\t1\n"),
        ("train.txt", "a.jpg 0\nb.jpg 2\nc.jpg 1\n"),
    ],
)
def test_class_numbers_in_a_list_become_numbered_labels(name: str, text: str, tmp_path: Path) -> None:
    put(tmp_path, name, text)
    for image in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, image)
    table = read_table(tmp_path)
    expected: list[list[float]] = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["class_0", "class_1", "class_2"], expected)


@pytest.mark.parametrize(
    "text",
    [
        "my photo 1.jpg 1 0\nmy photo 2.jpg 0 1\nb.jpg 0 0\n", "my photo 1.jpg 1,0\nmy photo 2.jpg 0,1\nb.jpg 0,0\n",
        "1 0 my_1.jpg\n0 1 my_2.jpg\n0 0 b.jpg\n",
    ],
    ids=["spaces in names", "commas behind the name", "labels first"],
)  # fmt: skip
def test_lists_with_spaces_in_variations(text: str, tmp_path: Path) -> None:
    put(tmp_path, "list.txt", text)
    for line in text.splitlines():
        put(tmp_path, line.rpartition(".jpg")[0].lstrip("01 ") + ".jpg")
    assert read_table(tmp_path).targets.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_rows_of_tags_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,tags\na.jpg,dog|cat\nb.jpg,cat\na.jpg,cow\n")
    assert "a.jpg (rows 2 and 4 differ in tags)" in error_of(data).message
    assert read_table(data, skip_invalid=True).labels == ("cat",)


@pytest.mark.parametrize(
    "cells",
    [
        ["['dog', 'cat']", "dog"], ["[{'label': 'dog'}, {'label': 'cat'}]", "[{'label': 'dog'}]"],
        ["{'dog': 1, 'cat': True, 'cow': 0}", "{'dog': 1}"], ["frozenset({'dog', 'cat'})", "frozenset({'dog'})"],
    ],
)  # fmt: skip
def test_lists_among_other_cells_and_of_objects_are_tags(cells: list[str], tmp_path: Path) -> None:
    data = make_data(tmp_path, f'filename,tags\na.jpg,"{cells[0]}"\nb.jpg,"{cells[1]}"\n')
    assert_table(read_table(data), ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [0, 1]])


def test_id_that_two_images_of_coco_have_is_an_error(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1.0, "file_name": "b.jpg"}]
    put(tmp_path, "labels.json", json.dumps({**COCO, "images": images, "annotations": []}))
    assert "`images` has the id 1 twice, for a.jpg and b.jpg" in error_of(tmp_path).message


def test_name_that_a_json_maps_twice_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "labels.json", '{"a.jpg": ["dog"], "b.jpg": [], "a.jpg": ["cat"]}')
    put(tmp_path, "a.jpg")
    assert "1 key twice: a.jpg" in error_of(tmp_path).message


def test_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path, "list.txt", "a.jpg x\nb.jpg 1 2 3\nc.jpg\n")
    put(tmp_path, "a.jpg")
    assert "list.txt" in error_of(tmp_path).message


# --- columns that look like labels ------------------------------------------------------------------------------------


def labels_of(tmp_path: Path, text: str, **options: object) -> tuple[str, ...]:
    return read_table(make_data(tmp_path, text), **options).labels


def test_empty_columns_of_administration_are_not_labels(tmp_path: Path) -> None:
    header = "File,RelativePath,DateTime,DeleteFlag,Fox,Moon,Deer,Analyst,Comment0,Temperature"
    text = f"{header}\na.jpg,,2024-05-01,false,true,,false,,,\nb.jpg,,2024-05-02,false,false,,true,,,\n"
    assert labels_of(tmp_path, text) == ("Fox", "Moon", "Deer")  # one between labels is more likely one of them


def test_empty_column_beside_columns_of_crosses_is_a_label_that_no_image_has(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,place,dog,cat\na.jpg,Bonn,x,\nb.jpg,Bern,,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 0]])


@pytest.mark.parametrize("name", ["gender", "Patient Gender", "Patient Sex", "sex", "country"])
def test_columns_of_persons_and_countries_are_not_labels(name: str, tmp_path: Path) -> None:
    assert labels_of(tmp_path, f"filename,{name},dog\na.jpg,F,0\nb.jpg,F,1\n") == ("dog",)


@pytest.mark.parametrize(
    ("mark", "word"), [("F", "M"), ("N", "E"), ("NO", "SE"), ("n", "unsure"), ("Y", "Z"), ("t", "b"), ("j", "k")]
)
def test_letter_beside_other_words_is_a_word(mark: str, word: str, tmp_path: Path) -> None:
    text = f"filename,kind,dog\na.jpg,{mark},0\nb.jpg,{mark},1\nc.jpg,{word},1\n"
    data = make_data(tmp_path, text, images=["a.jpg", "b.jpg", "c.jpg"])
    assert read_table(data).labels == ("dog",)
    assert set(read_table(data, label_column=["kind"]).labels) == {mark, word}


@pytest.mark.parametrize("yes", ["S", "O"])
def test_n_beside_a_letter_that_may_be_yes_is_no_word(yes: str, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, f"filename,dog\na.jpg,{yes}\nb.jpg,N\n"))
    assert f'expected 0, 1 or nothing, got "{yes}"' in error.message


@pytest.mark.parametrize(("yes", "no"), [("t", "f"), ("y", "n"), ("yes", "no"), ("1", "n")])
def test_letters_for_yes_and_no_are_marks_although_a_cell_is_wrong(yes: str, no: str, tmp_path: Path) -> None:
    text = f"filename,dog\na.jpg,{yes}\nb.jpg,{no}\nc.jpg,maybe\n"
    assert 'column "dog": expected 0, 1 or nothing, got "maybe"' in error_of(make_data(tmp_path, text)).message


@pytest.mark.parametrize("yes", ["x", "yes", "true", "1"])
def test_column_of_clear_marks_is_no_column_of_words(yes: str, tmp_path: Path) -> None:
    text = f"filename,dog\na.jpg,{yes}\nb.jpg,{yes}\nc.jpg,maybe\n"
    assert 'got "maybe"' in error_of(make_data(tmp_path, text)).message


def test_column_of_words_that_is_no_label_is_proposed_as_a_label_column(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,Patient Sex\na.jpg,F\nb.jpg,M\n"))
    assert "`--label-column 'Patient Sex'`" in error.hint


@pytest.mark.parametrize(
    "text",
    [
        "fileName,scientificName,count,lifeStage\na.jpg,Fox,1,adult\nb.jpg,Deer,1,adult\n",
        "File,DeleteFlag,Species,Empty,Person\na.jpg,false,Fox,false,false\nb.jpg,false,Deer,true,false\n",
        "filename,is_blank,common_name,animal_recognizable,highlighted\na.jpg,0,Fox,true,false\nb.jpg,0,Deer,1,0\n",
        "filename,Species Common Name,Sighting Quantity\na.jpg,Fox,1\nb.jpg,Deer,1\n",
        "filename,prediction,n_animal\na.jpg,Fox,1\nb.jpg,Deer,0\n",
    ],
)
def test_column_of_species_wins_over_columns_of_flags(text: str, tmp_path: Path) -> None:
    assert labels_of(tmp_path, text) == ("Deer", "Fox")


def test_flags_beside_a_column_of_species_are_labels_if_they_and_the_layout_are_named(tmp_path: Path) -> None:
    text = "File,Species,Empty,Person\na.jpg,Fox,false,false\nb.jpg,Deer,true,false\n"
    data = make_data(tmp_path, text)
    assert "`--layout`" in error_of(data, only=["Empty"]).hint
    assert read_table(data, only=["Empty"], layout="wide").labels == ("Empty",)


def test_flags_beside_species_in_several_rows_of_an_image_are_no_confidences(tmp_path: Path) -> None:
    text = "File,Species,Empty,Person\na.jpg,Fox,false,false\na.jpg,Deer,false,false\nb.jpg,Deer,false,true\n"
    table = read_table(make_data(tmp_path, text))
    assert_table(table, ["a.jpg", "b.jpg"], ["Deer", "Fox"], [[1, 1], [1, 0]])


def test_column_of_file_names_is_no_label_column(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "File,Species\na.jpg,fox\nb.jpg,deer\n"), label_column=["File"])
    assert 'the column "File" holds the file names' in error.message


@pytest.mark.parametrize("option", ["label_column", "image_column", "annotator"])
def test_column_of_a_file_without_columns_is_refused(option: str, tmp_path: Path) -> None:
    put(tmp_path, "labels.json", json.dumps({**COCO, "annotations": []}))
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path, **{option: "dog" if option == "annotator" else ["dog"]})
    assert "has no columns" in error.message
    assert f"`--{option.replace('_', '-')}`" in error.hint


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("cells", [("fox", "wolf"), ("ja", "nein"), ("1", "0"), ("1", "")])
def test_space_behind_every_file_name_does_not_divide_the_cells(
    cells: tuple[str, str], delimiter: str, tmp_path: Path
) -> None:
    rows = [["filename", "dog", "cat"], *([f"{name}.jpg ", *cells] for name in "abcd")]
    rows += [[f"{name}.jpg ", *reversed(cells)] for name in "efgh"]
    names = [f"{name}.jpg" for name in "abcdefgh"]
    data = make_data(tmp_path, "\n".join(map(delimiter.join, rows)) + "\n", names)
    if cells[0] == "fox":
        assert read_table(data, label_column=["dog"]).labels == ("fox", "wolf")
    else:
        assert_table(read_table(data), names, ["dog", "cat"], [[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)


SEVERSTAL = "ImageId,ClassId,EncodedPixels\na.jpg,3,100 1 200 3\na.jpg,1,300 4\nb.jpg,3,400 2 500 1\n"


def test_class_ids_beside_masks_are_labels(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, SEVERSTAL))
    assert_table(table, ["a.jpg", "b.jpg"], ["1", "3"], [[1, 1], [0, 1]])
    assert table.findings.notes == ("columns that hold no labels, ignored: EncodedPixels",)


@pytest.mark.parametrize("name", ["class_id", "labelId", "ClassID"])
def test_class_ids_are_labels_where_nothing_else_is(name: str, tmp_path: Path) -> None:
    text = f"filename,{name}\na.jpg,1\nb.jpg,4\nc.jpg,0\n"
    data = make_data(tmp_path, text, images=["a.jpg", "b.jpg", "c.jpg"])
    assert_table(read_table(data), ["a.jpg", "b.jpg", "c.jpg"], ["0", "1", "4"], [[0, 1, 0], [0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("filename,label,class_id\na.jpg,dog,1\nb.jpg,cat,4\n", ("cat", "dog")),
        ("filename,animal,class_id\na.jpg,dog,1\nb.jpg,cat,4\n", ("cat", "dog")),
        ("filename,dog,class_id\na.jpg,1,1\nb.jpg,0,4\n", ("dog",)),
    ],
)
def test_class_ids_beside_labels_are_none(text: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    assert labels_of(tmp_path, text) == labels


@pytest.mark.parametrize("name", ["EncodedPixels", "label", "mask"])
@pytest.mark.parametrize(
    "cells", [("100 1 200 3", "7 2 9 1"), ("2501 40", ""), ("557374 2 1015 8", ""), ("1 5 9 2", "nan")]
)
def test_runs_of_pixels_are_no_tags_unless_their_column_is_named(
    name: str, cells: tuple[str, str], tmp_path: Path
) -> None:
    data = make_data(tmp_path, f"ImageId,{name}\na.jpg,{cells[0]}\nb.jpg,{cells[1]}\n")
    assert "has no label columns" in error_of(data).message
    assert cells[0].split()[0] in read_table(data, label_column=[name], tag_separator=" ").labels


@pytest.mark.parametrize(
    "cells", [("1 2 5 7", "3 4"), ("5 2", "9 1"), ("16 0 7 1", "2 4"), ("5 2 9 1", "3 4 6"), ("1003 1200", "7 9")]
)
def test_lists_of_class_numbers_are_no_runs_of_pixels(cells: tuple[str, str], tmp_path: Path) -> None:
    data = make_data(tmp_path, f"ImageId,found\na.jpg,{cells[0]}\nb.jpg,{cells[1]}\n")
    assert set(read_table(data).labels) == {*" ".join(cells).split()}


@pytest.mark.parametrize("name", ["text", "prompt", "caption", "alt", "Kommentar"])
def test_free_text_is_no_label_unless_it_is_named(name: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"file_name,{name}\na.jpg,dog\nb.jpg,cat\n")
    assert f"take the words of a column with `--label-column {name}`" in error_of(data).hint
    assert read_table(data, label_column=[name]).labels == ("cat", "dog")


@pytest.mark.parametrize("name", ["Bemerkungen", "Kommentar", "Notizen", "remarques", "commentaire", "Observaciones"])
def test_empty_column_of_remarks_is_no_label(name: str, tmp_path: Path) -> None:
    assert labels_of(tmp_path, f"filename;dog;{name}\na.jpg;x;\nb.jpg;;\n") == ("dog",)


def test_column_of_other_name_that_holds_images_without_their_endings_is_named_in_the_hint(tmp_path: Path) -> None:
    for name in ("1.2.826", "1.2.827"):
        put(tmp_path, f"{name}.jpg")
    put(tmp_path, "train.csv", "StudyInstanceUID,PatientID,ETT,NGT\n1.2.826,p1,1,0\n1.2.827,p2,0,1\n")
    assert "`--image-column StudyInstanceUID`, whose cells are images" in error_of(tmp_path).hint
    table = read_table(tmp_path, image_column=["StudyInstanceUID"])
    assert_table(table, ["1.2.826.jpg", "1.2.827.jpg"], ["ETT", "NGT"], [[1, 0], [0, 1]])
    put(tmp_path, "train.csv", "StudyInstanceUID,ETT,NGT\n1.2.826,1,0\n1.2.999,0,1\n")
    assert "`--image-column NAME`" in error_of(tmp_path).hint
