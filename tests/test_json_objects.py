"""JSON of images and their labels, in the shapes in which people write it."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import assert_table, error_of, put, read_table

from labelr.data.formats.json_objects import find_objects

NAN = float("nan")
IMAGES = ("a.jpg", "b.jpg", "c.jpg")
WANTED: list[list[float]] = [[0, 1], [1, 1], [1, 0]]
"""Of cat and dog."""


def make(folder: Path, content: object, name: str = "labels.json") -> Path:
    put(folder, name, content if isinstance(content, str) else json.dumps(content))
    for image in IMAGES:
        put(folder, image)
    return folder


@pytest.mark.parametrize(
    "document",
    [
        {"a.jpg": ["dog"], "b.jpg": ["dog", "cat"], "c.jpg": ["cat"]},
        {"a": ["dog"], "b": ["dog", "cat"], "c": ["cat"]},
        {"version": 1, "info": {"by": "me"}, "a.jpg": ["dog"], "b.jpg": ["dog", "cat"], "c.jpg": ["cat"]},
        {"dog": ["a.jpg", "b.jpg"], "cat": ["b.jpg", "c.jpg"]},
        {"dog": ["a", "b"], "cat": ["b", "c"]},
        {"labels": {"a.jpg": ["dog"], "b.jpg": ["dog", "cat"], "c.jpg": ["cat"]}},
        {"classes": ["dog", "cat"], "data": {"a.jpg": ["dog"], "b.jpg": ["dog", "cat"], "c.jpg": ["cat"]}},
        {
            "images": [
                {"file_name": "a.jpg", "labels": ["dog"]}, {"file_name": "b.jpg", "labels": ["cat", "dog"]},
                {"file_name": "c.jpg", "labels": ["cat"]},
            ]
        },
    ],
)  # fmt: skip
def test_document_of_tags_is_read(document: Any, tmp_path: Path) -> None:
    assert_table(read_table(make(tmp_path, document)), IMAGES, ["cat", "dog"], WANTED)


@pytest.mark.parametrize(
    "document",
    [
        {"train": {"a.jpg": ["dog"], "b.jpg": ["dog", "cat"]}, "val": {"c.jpg": ["cat"]}},
        {
            "train": [{"image": "a.jpg", "labels": ["dog"]}, {"image": "b.jpg", "labels": ["dog", "cat"]}],
            "val": [{"image": "c.jpg", "labels": ["cat"]}],
        },
    ],
)
def test_split_of_a_document_is_that_of_its_images(document: Any, tmp_path: Path) -> None:
    table = read_table(make(tmp_path, document))
    assert_table(table, IMAGES, ["cat", "dog"], WANTED)
    assert table.named_splits == ("train", "train", "val")


@pytest.mark.parametrize(
    "text",
    [
        '{"file": "%s", "labels": {"cat": %s, "dog": %s}}\n',
        '{"file": "%s", "labels": {"cat": %s, "dog": %s}},\n',
        '{"%s": {"cat": %s, "dog": %s}}\n',
    ],
)
def test_lines_with_a_mark_for_each_label_are_read(text: str, tmp_path: Path) -> None:
    lines = [text % (image, int(cat), int(dog)) for image, (cat, dog) in zip(IMAGES, WANTED, strict=True)]
    assert_table(read_table(make(tmp_path, "".join(lines), "labels.jsonl")), IMAGES, ["cat", "dog"], WANTED)


@pytest.mark.parametrize("indent", [None, 2])
def test_array_in_json_lines_is_read(indent: int | None, tmp_path: Path) -> None:
    rows = [{"file": image, "cat": int(cat), "dog": int(dog)} for image, (cat, dog) in zip(IMAGES, WANTED, strict=True)]
    data = make(tmp_path, json.dumps(rows, indent=indent), "labels.jsonl")
    assert_table(read_table(data), IMAGES, ["cat", "dog"], WANTED)


@pytest.mark.parametrize("names", [IMAGES, ("0.jpg", "1.jpg", "2.jpg"), ("0", "1", "2")])
@pytest.mark.parametrize(
    ("orient", "is_index"),
    [("columns", False), ("columns", True), ("split", False), ("split", True), ("records", False), ("table", True)],
)
def test_json_of_a_data_frame_is_read(orient: Any, is_index: bool, names: tuple[str, ...], tmp_path: Path) -> None:
    frame = pd.DataFrame({"filename": names, "cat": [0, 1, 1], "dog": [1.0, 1.0, None]})
    (frame.set_index("filename") if is_index else frame).to_json(tmp_path / "labels.json", orient=orient)
    files = [f"{name.removesuffix('.jpg')}.jpg" for name in names]
    for file in files:
        put(tmp_path, file)
    assert_table(read_table(tmp_path), files, ["cat", "dog"], [[0, 1], [1, 1], [1, NAN]])


def test_key_that_is_no_image_among_images_is_named(tmp_path: Path) -> None:
    error = error_of(make(tmp_path, {"a.jpg": ["dog"], "b.jpg": ["cat"], "cjpg": ["cat"]}))
    assert "'cjpg' is not" in error.message
    assert "correct the key" in error.hint


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"train": ["a.jpg"], "test": ["b.jpg"]}, "has no label columns"),
        ({"shapes": [{"label": "dog"}]}, "has no layout that labelr knows"),
    ],
)
def test_document_without_labels_of_images_is_not_guessed_at(document: Any, message: str, tmp_path: Path) -> None:
    assert message in error_of(make(tmp_path, document)).message


def test_column_that_a_data_frame_has_twice_is_an_error(tmp_path: Path) -> None:
    error = error_of(make(tmp_path, {"columns": ["filename", "dog", "dog"], "data": [["a.jpg", 1, 0]]}))
    assert "labels.json: it has columns twice: dog" in error.message


def test_label_that_a_document_has_twice_is_an_error(tmp_path: Path) -> None:
    error = error_of(make(tmp_path, '{"dog": ["a.jpg"], "cat": ["b.jpg"], "dog": ["c.jpg"]}'))
    assert "1 key twice: dog" in error.message


@pytest.mark.parametrize(
    "document",
    [
        {"name": "x", "files": ["a.jpg", "b.jpg"]},
        {"detection_categories": {"1": "animal"}, "images": [{"file": "a.jpg", "detections": [{"category": "1"}]}]},
        {"predictions": [{"filepath": "a.jpg", "prediction": "uuid;mammalia;carnivora"}]},
        {"1": {"file": "a.jpg", "area": [1, 2]}, "2": {"file": "b.jpg", "area": [3, 4]}},
        {"columns": ["filename", "dog"], "data": [["a.jpg", 1], ["b.jpg"]]},
    ],
    ids=["list of files", "MegaDetector", "SpeciesNet", "objects by number", "ragged rows"],
)
def test_other_documents_about_images_are_no_labels(document: object) -> None:
    assert find_objects(document, lambda name: name.endswith(".jpg")) == []


# --- class numbers ----------------------------------------------------------------------------------------------------

NAMES = ["cat", "dog"]


@pytest.mark.parametrize(
    "document",
    [
        {"classes": NAMES, "labels": {"a": [1], "b": [0, 1], "c": [0]}},
        {"classes": NAMES, "labels": {"a": [{"label": 1}], "b": [{"label": 0}, {"label": 1}], "c": [{"label": 0.0}]}},
        {"classes": NAMES, "a.jpg": 1, "b.jpg": [0, 1], "c.jpg": 0},
        {"id2label": {"0": "cat", "1": "dog"}, "data": {"a": 1, "b": [0, 1], "c": 0}},
        {"class_map": {"dog": 7, "cat": 3}, "data": {"a": 7, "b": [3, 7], "c": 3}},
        {
            "metainfo": {"dataset_type": "multi-label", "classes": NAMES},
            "data_list": [
                {"img_path": "a.jpg", "gt_label": [1]}, {"img_path": "b.jpg", "gt_label": [0, 1]},
                {"img_path": "c.jpg", "gt_label": [0]},
            ],
        },
        {
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "images": [
                {"file": "a.jpg", "label": 2}, {"file": "b.jpg", "label": [1, 2]}, {"file": "c.jpg", "label": 1},
            ],
        },
    ],
    ids=["FiftyOne", "objects of FiftyOne", "beside images", "id2label", "class_map", "MMPretrain", "categories"],
)  # fmt: skip
def test_class_numbers_have_the_names_in_the_file(document: object, tmp_path: Path) -> None:
    assert_table(read_table(make(tmp_path, document)), IMAGES, NAMES, WANTED)


@pytest.mark.parametrize("suffix", [".manifest", ".jsonl"])
@pytest.mark.parametrize(
    ("values", "metadata"),
    [
        ([[1], [0, 1], [0]], [{"class-map": {"0": "cat", "1": "dog"}}] * 3),
        ([[1], [0, 1], [0]], [{"class-map": {"1": "dog"}}, {"class-map": {"0": "cat", "1": "dog"}},
                              {"class-map": {"0": "cat"}}]),
        ([{"annotations": [{"class_id": number, "left": 1} for number in own]} for own in ([1, 1], [0, 1], [0])],
         [{"class-map": {"0": "cat", "1": "dog"}}] * 3),
    ],
    ids=["all names", "own names", "boxes"],
)  # fmt: skip
def test_class_numbers_of_a_manifest_have_its_names(
    values: list[Any], metadata: list[dict[str, Any]], suffix: str, tmp_path: Path
) -> None:
    lines = [
        json.dumps({"source-ref": f"s3://bucket/{image}", "pets": value, "pets-metadata": {**own, "type": "x"}})
        for image, value, own in zip(IMAGES, values, metadata, strict=True)
    ]
    table = read_table(make(tmp_path, "\n".join(lines), f"output{suffix}"))
    assert_table(table, IMAGES, NAMES, WANTED)


def test_single_class_of_a_line_of_a_manifest_has_its_name(tmp_path: Path) -> None:
    lines = [
        json.dumps({"source-ref": image, "pets": number, "pets-metadata": {"class-name": name, "confidence": 0.9}})
        for image, number, name in zip(IMAGES, (1, 1, 0), ("dog", "dog", "cat"), strict=True)
    ]
    table = read_table(make(tmp_path, "\n".join(lines), "output.manifest"))
    assert_table(table, IMAGES, NAMES, [[0, 1], [0, 1], [1, 0]])


def test_list_of_a_mark_for_each_name_is_no_list_of_numbers(tmp_path: Path) -> None:
    images = [
        {"file": "a.jpg", "labels": [0, 1]},
        {"file": "b.jpg", "labels": [1, 1]},
        {"file": "c.jpg", "labels": [1, 0]},
    ]
    assert_table(read_table(make(tmp_path, {"classes": NAMES, "images": images})), IMAGES, NAMES, WANTED)


def test_class_number_without_a_name_is_an_error(tmp_path: Path) -> None:
    error = error_of(make(tmp_path, {"classes": NAMES, "labels": {"a": 1, "b": 2, "c": 0}}))
    assert error.message.startswith(f"{tmp_path / 'labels.json'}: the class number 2 has no name among cat, dog")


def test_class_numbers_in_deep_lists_are_an_error(tmp_path: Path) -> None:
    text, limit = '{"classes": ["cat", "dog"], "labels": {"a": %s}}', sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # packages that other tests use may have raised it
    try:
        error = error_of(make(tmp_path, text % f"{'[' * 900}1{']' * 900}"))
    finally:
        sys.setrecursionlimit(limit)
    assert "labels.json is nested too deeply" in error.message


def test_broken_line_of_a_manifest_is_named_or_left_out(tmp_path: Path) -> None:
    data = make(tmp_path, '{"file": "a.jpg", "label": "cat"}\n{"file": \n', "output.manifest")
    assert "output.manifest cannot be parsed: line 2" in error_of(data).message
    assert_table(read_table(data, skip_invalid=True), ["a.jpg"], ["cat"], [[1]])


def test_column_of_a_data_frame_holds_no_names_of_class_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"filename": IMAGES, "categories": ["p", "q", "p"], "label": [1, 0, 1]})
    frame.to_json(tmp_path / "labels.json")
    table = read_table(make(tmp_path, (tmp_path / "labels.json").read_text()), layout="wide")
    assert_table(table, IMAGES, ["label"], [[1], [0], [1]])


def test_names_of_class_numbers_may_have_commas_and_spaces(tmp_path: Path) -> None:
    names = ["big cat, tabby", "dog"]
    table = read_table(make(tmp_path, {"classes": names, "labels": {"a": 1, "b": [0, 1], "c": 0}}))
    assert_table(table, IMAGES, names, WANTED)


def test_tag_of_an_object_may_have_commas_and_spaces(tmp_path: Path) -> None:
    document = [{"file": image, "label": {"name": "big cat, tabby"}} for image in IMAGES]
    assert_table(read_table(make(tmp_path, document)), IMAGES, ["big cat, tabby"], [[1], [1], [1]])


# --- objects as labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        [{"id": 3, "name": "dog"}, [{"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}], {"id": 4, "name": "cat"}],
        [{"label": "dog", "score": 0.9}, ["dog", "cat"], [{"label": "dog", "score": 0.1}, {"label": "cat"}]],
        [{"choices": ["dog"]}, {"choices": ["cat", "dog"]}, {"choices": ["cat"]}],
    ],
)
def test_object_that_names_a_label_is_that_label(labels: list[Any], tmp_path: Path) -> None:
    document = [{"file": image, "species": own} for image, own in zip(IMAGES, labels, strict=True)]
    assert_table(read_table(make(tmp_path, document)), IMAGES, ["cat", "dog"], WANTED)


def test_label_column_that_the_user_names_may_hold_objects(tmp_path: Path) -> None:
    document = [{"file": image, "seen": {"name": "dog"}, "by": {"name": "Ada"}} for image in IMAGES]
    table = read_table(make(tmp_path, document), label_column=["seen"])
    assert_table(table, IMAGES, ["dog"], [[1], [1], [1]])


def test_image_whose_label_is_null_has_none(tmp_path: Path) -> None:
    labels = [{"label": "dog"}, {"label": None}, None]
    document = [{"file": image, "label": own} for image, own in zip(IMAGES, labels, strict=True)]
    table = read_table(make(tmp_path, document))
    assert_table(table, IMAGES, ["dog"], [[1], [0], [0]])
    assert "images without a tag, to which no label applies: 2" in table.findings.notes


@pytest.mark.parametrize("label", [{"main": "cat", "by": "me"}, [{"name": "dog"}, {"main": "cat", "by": "me"}]])
@pytest.mark.parametrize("options", [{}, {"layout": "tags"}, {"label_column": ["label"]}])
def test_object_that_names_no_label_is_an_error_with_its_keys(
    label: object, options: dict[str, Any], tmp_path: Path
) -> None:
    document = [{"file": "a.jpg", "label": {"name": "dog"}}, {"file": "b.jpg", "label": label}]
    error = error_of(make(tmp_path, document), **options)
    assert 'labels.json, object 2: "label" is an object that names no label, with the keys main, by' in error.message
    assert "`--exclude label`" in error.hint


def test_score_above_one_is_an_error_that_names_the_object(tmp_path: Path) -> None:
    scored = [
        {"file": name, "labels": [{"name": "dog", "confidence": score}]}
        for name, score in (("a.jpg", 1), ("b.jpg", 98.2))
    ]
    error = error_of(make(tmp_path, scored))
    assert "labels.json, object 2: expected a score from 0 to 1, got 98.2" in error.message
    assert error.hint.startswith("divide percentages by 100")


def test_object_that_is_no_label_may_be_excluded(tmp_path: Path) -> None:
    document = [{"file": image, "dog": 1, "attributes": {"weather": "sunny"}} for image in IMAGES]
    table = read_table(make(tmp_path, document), exclude=["attributes"])
    assert_table(table, IMAGES, ["dog"], [[1], [1], [1]])
