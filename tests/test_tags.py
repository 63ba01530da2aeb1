"""Tables of tags, and how cells are split into tags."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, make_data, put, read_table

from labelr.config import ReadOptions
from labelr.data.formats.tags import split_tags
from labelr.data.load import read_labels
from labelr.errors import LabelrError

NAN = float("nan")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["dog|cat", "dog"], [["dog", "cat"], ["dog"]]),
        (["dog; cat", "big dog"], [["dog", "cat"], ["big dog"]]),
        (["dog, cat", ""], [["dog", "cat"], []]),
        (["dog\ncat", "dog"], [["dog", "cat"], ["dog"]]),
        (["dog", "cat"], [["dog"], ["cat"]]),
        (['["dog", "a, b"]', "[]"], [["a, b", "dog"], []]),
        (["['dog', 'it\\'s']", ""], [["dog", "it's"], []]),
        (["('dog',)", "{'cat', 'dog'}"], [["dog"], ["cat", "dog"]]),
        (["['cat' 'dog']", "['dog']"], [["cat", "dog"], ["dog"]]),
        (["a b", "a", "b c", "a c"], [["a", "b"], ["a"], ["b", "c"], ["a", "c"]]),
        (["16 0", "7 1 2"], [["16", "0"], ["7", "1", "2"]]),
        (["long_hair solo", "1girl"], [["long_hair", "solo"], ["1girl"]]),
    ],
)  # fmt: skip
def test_cells_are_split_into_tags(cells: list[str], expected: list[list[str]]) -> None:
    assert split_tags(cells, None, "here")[0] == expected


def test_spaces_that_may_belong_to_labels_are_ambiguous() -> None:
    cells = ["golden retriever", "tabby cat", "golden hamster"]
    with pytest.raises(LabelrError, match='"golden retriever" may be one label, or several') as caught:
        split_tags(cells, None, "here")
    assert "--tag-separator" in caught.value.hint
    assert split_tags(cells, "|", "here")[0] == [["golden retriever"], ["tabby cat"], ["golden hamster"]]
    assert split_tags(cells, " ", "here")[0] == [["golden", "retriever"], ["tabby", "cat"], ["golden", "hamster"]]


@pytest.mark.parametrize("cells", [["a|b;c", "d"], ["dog, cat", "dog; cow"]])
def test_two_separators_are_ambiguous(cells: list[str]) -> None:
    with pytest.raises(LabelrError, match="and any of them may separate tags") as caught:
        split_tags(cells, None, "here")
    assert '`--tag-separator "' in caught.value.hint


def test_list_among_other_cells_is_not_parsed() -> None:
    assert split_tags(["[1]", "dog, cat"], None, "here")[0] == [["[1]"], ["dog", "cat"]]


def test_separator_may_have_several_characters() -> None:
    assert split_tags(["a :: b", "b"], "::", "here")[0] == [["a", "b"], ["b"]]


def test_image_without_tags_has_no_label_by_default(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,tags,note\na.jpg,dog,blurred\nb.jpg,,dark\n")
    reading = read_labels([data], ReadOptions())
    assert_table(reading, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert reading.findings.notes == (
        "columns that hold no labels, ignored: note",
        "images without a tag, to which no label applies: 1",
    )
    assert read_labels([data], ReadOptions(blank="unknown")).findings.unlabelled == ("b.jpg",)


def test_column_with_another_name_is_found_by_its_text(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "photo,what is seen,width\na.jpg,dog|cat,7\nb.jpg,cat,9\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])
    assert 'column "what is seen", separated by `|`' in table.layout


@pytest.mark.parametrize(
    ("header", "cells", "how"),
    [
        ("species", ["red fox", "dog"], "one an image"),
        ("species", ["red fox|dog", "dog"], "separated by `|`"),
        ("tags", ["fox", "dog"], "one an image"),
        ("tags", ["fox;", "dog"], "one an image"),
    ],
)
def test_separator_is_said_only_where_a_cell_has_several_tags(
    header: str, cells: list[str], how: str, tmp_path: Path
) -> None:
    table = read_table(make_data(tmp_path, f"filename,{header}\na.jpg,{cells[0]}\nb.jpg,{cells[1]}\n"))
    assert table.layout == f'tags in the column "{header}", {how}, comma-separated'


def test_groups_and_splits_are_read(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,tags,split,scene\na.jpg,dog,train,1\nb.jpg,cat,test,2\n")
    table = read_table(data, group="scene")
    assert table.named_splits == ("train", "test")
    assert table.groups == ("1", "2")


def test_table_with_tags_and_marks_fits_two_layouts(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,tags,dog\na.jpg,cat,1\nb.jpg,cow,0\n")
    error = error_of(data)
    assert "fits 2 layouts; its first lines:\n    filename,tags,dog\n    a.jpg,cat,1\n" in error.message
    assert "`wide` (one row an image, one column a label) or `tags`" in error.hint
    assert read_table(data, layout="wide").labels == ("dog",)
    assert read_table(data, layout="tags").labels == ("cat", "cow")


def test_column_named_label_of_zeros_and_ones_is_ambiguous(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,label\na.jpg,0\nb.jpg,1\n")
    assert "fits 2 layouts" in error_of(data).message
    assert_table(read_table(data, layout="tags"), ["a.jpg", "b.jpg"], ["0", "1"], [[1, 0], [0, 1]])
    assert_table(read_table(data, layout="wide"), ["a.jpg", "b.jpg"], ["label"], [[0], [1]])


def test_column_of_tags_is_selected_by_excluding_the_others(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename;Ort;Motiv\na.jpg;Bonn;dog\nb.jpg;Berlin;cat\n")
    error = error_of(data)
    assert "labels may be in any of the columns Ort, Motiv" in error.message
    assert "`--label-column" in error.hint
    assert read_table(data, exclude=["Ort"]).labels == ("cat", "dog")


def test_image_listed_twice_is_named(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,tags\na.jpg,dog|cat\na.jpg,cow\nb.jpg,dog\n")
    assert "a.jpg (rows 2 and 3 differ in tags)" in error_of(data, layout="tags").message
    assert_table(read_table(data, layout="long"), ["a.jpg", "b.jpg"], ["cow", "dog", "dog|cat"], [[1, 0, 1], [0, 1, 0]])


def test_object_of_an_unreadable_image_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    opened = '{"path": "a.jpg", "size": [8, 8], "labels": ["dog"], "error": null}'
    failed = '{"path": "b.jpg", "size": null, "labels": null, "error": "empty file (0 bytes)"}'
    put(tmp_path, "labels.jsonl", f"{opened}\n{failed}\n")
    reading = read_labels([tmp_path], ReadOptions())
    assert (reading.files, reading.labels, reading.findings.unlisted) == (("a.jpg",), ("dog",), ("b.jpg",))


@pytest.mark.parametrize("cell", ["[[0.1, 0.2, 0.3, 0.4, 0.9, 1]]", "[10, 20.5, 30, 40]", "[(1, 2, 3, 4)]"])
def test_boxes_are_no_labels(cell: str, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, f'image_path,detections\na.jpg,"{cell}"\nb.jpg,"{cell}"\n'))
    assert f'column "detections": {cell} is a list of numbers, such as boxes, and names no labels' in error.message


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("{'dog': 1, 'cat': -1}", {"dog"}), ("{'dog': 'yes', 'cat': 'no'}", {"dog"}), ("{'dog': True}", {"dog"}),
        ("[{'label': 'dog', 'score': 0.9}, {'label': 'cat', 'score': 0.02}]", {"dog"}),
        ("[{'label': 'dog', 'score': '0.9'}, {'label': 'cat', 'score': '0.02'}]", {"dog"}),
        ("[{'tagId': 'q', 'tagName': 'dog', 'probability': 0.9}, {'tagId': 'r', 'tagName': 'cat', 'probability': 0.1}]",
         {"dog"}),
        ("[{'Name': 'dog', 'Confidence': 0.98}, {'Name': 'cat', 'Confidence': 0.1, 'Parents': []}]", {"dog"}),
        ("[{'mid': '/m/1', 'description': 'dog', 'score': 0.9}, {'mid': '/m/2', 'description': 'cat', 'score': 0}]",
         {"dog"}),
        ("[{'id': 'ai_1', 'name': 'dog', 'value': 0.98}, {'id': 'ai_2', 'name': 'cat', 'value': 0.1}]", {"dog"}),
        ("[{'title': 'dog'}, {'class_name': 'cat'}, {'displayName': 'cow', 'score': null}]", {"cat", "cow", "dog"}),
        ("[{'label': 1, 'score': 0.9}, {'class_id': 2, 'score': 1}, {'label': 3, 'score': 0}]", {"1", "2"}),
        ("{'name': 'dog', 'value': 'big'}", {"dog"}), ("{'value': 'dog'}", {"dog"}),
        ("{'title': 1, 'text': 0}", {"title"}), ("{'title': 0.9, 'name': 0.1}", {"title"}),
        ("{'dog': 0.9, 'cat': 0.1}", {"dog"}), ("{'dog': 1, 'cat': 0.5, 'cow': 0}", {"cat", "dog"}),
        ("{'label': 'dog'}, {'label': 'cat', 'crowd': null}", {"cat", "dog"}),
        ("{'label': 'dog'}; {'label': 'cat'}", {"cat", "dog"}),
    ],
)  # fmt: skip
def test_objects_in_a_cell_are_read_by_their_marks_and_scores(cell: str, tags: set[str], tmp_path: Path) -> None:
    cell = cell.replace("'", '""') if "null" in cell else cell
    table = read_table(make_data(tmp_path, f'filename,tags\na.jpg,"{cell}"\nb.jpg,"[]"\n'))
    assert {label for label, mark in zip(table.labels, table.targets[0], strict=True) if mark == 1} == tags


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[{'tagId': 'q', 'region': 3}]", "an object with the keys tagId, region names no label"),
        ("{'dog': 'maybe', 'cat': 'no'}", "an object with the keys dog, cat names no label"),
        ("[{'Name': 'dog', 'Confidence': 98.2}]", "expected a score from 0 to 1, got 98.2"),
        ("{'x': 0.1, 'y': 0.2, 'w': 0.5, 'h': 0.6}", "an object with the keys x, y, w, and 1 more names no label"),
        ("[{'region': 1, 'score': 1}]", "an object with the keys region, score names no label"),
        ("{'dog': 98, 'cat': 2}", "expected a score from 0 to 1, got 98"),
        ("[{'label': 'dog', 'score': 'high'}]", "expected a score from 0 to 1, got 'high'"),
        ("[{'label': 'dog', 'bbox': [1, 2", "[{'label': 'dog', 'bbox': [1, 2 cannot be parsed as JSON"),
        ("['dog', 'ca", "['dog', 'ca cannot be parsed as JSON"),
    ],
)
@pytest.mark.parametrize("name", ["tags", "found"])
def test_object_that_names_no_label_is_an_error(name: str, cell: str, message: str, tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, f'filename,{name}\na.jpg,"{cell}"\nb.jpg,"[]"\n'))
    assert error.message.endswith(f'labels.csv, column "{name}": {message}')


def test_words_between_separators_among_lists_are_split(tmp_path: Path) -> None:
    text = "filename,tags\na.jpg,\"['dog', 'cat']\"\nb.jpg,\"['dog']\"\nc.jpg,\"cat, dog\"\n"
    table = read_table(make_data(tmp_path, text, images=["a.jpg", "b.jpg", "c.jpg"]))
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["cat", "dog"], [[1, 1], [0, 1], [1, 1]])


def test_words_in_a_column_without_a_name_are_not_lost(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "filename,labels,\na.jpg,dog,cat\nb.jpg,cat,\n"))
    assert "row 1, column 3: a column of words without a name" in error.message


def test_images_without_a_tag_are_counted_and_not_judgements(tmp_path: Path) -> None:
    text = "filename,tags,who\na.jpg,dog,A\na.jpg,,B\nb.jpg,,A\nb.jpg,,B\n"
    notes = read_table(make_data(tmp_path, text), annotator="who").findings.notes
    assert "images without a tag, to which no label applies: 1" in notes
