"""COCO: a JSON of images, categories and annotations."""

import json
from pathlib import Path

from conftest import assert_table, put, read_table


def test_image_has_the_objects_of_all_its_entries(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}]
    annotations = [{"image_id": image, "category_id": category} for image, category in ((1, 1), (2, 2), (3, 2))]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    put(tmp_path, "coco.json", json.dumps(document))
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 1], [0, 1]])
