"""JSON of images and their labels, in the shapes in which people write it."""

import json
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
