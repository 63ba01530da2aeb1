"""COCO, a JSON of images, categories and annotations."""

from collections.abc import Iterator
from typing import Any

from labelr.data.formats.source import Source
from labelr.data.label_table import Annotation, LabelTable
from labelr.errors import LabelrError


def fits(source: Source) -> int:
    """Whether this is a JSON of COCO's instances or keypoints: 3 it is, 0 not."""
    document = source.document
    if not isinstance(document, dict) or not {"images", "annotations", "categories"} <= set(document):
        return 0
    return 3 if all(isinstance(document[name], list) for name in ("images", "annotations", "categories")) else 0


def read(source: Source) -> LabelTable:
    """The records of a COCO JSON: a label applies where the image has an object of it.

    Categories that the file declares and no image has are kept, but for those that only stand above others; in images
    without objects no label applies.

    Raises:
        LabelrError: If an entry lacks what it must have, or names an image or a category that the file does not have.
    """
    document = source.document
    if not fits(source):
        raise LabelrError(f"{source.path} is no JSON of COCO", "name another layout with `--layout`")
    names = dict(_pairs(source, "images", "id", "file_name"))
    categories = {key: str(name).strip() for key, name in _pairs(source, "categories", "id", "name")}
    present: dict[Any, set[str]] = {image: set() for image in names}
    for number, (image, category) in enumerate(_pairs(source, "annotations", "image_id", "category_id"), start=1):
        if image not in names or category not in categories:
            lost = f"image {image}" if image not in names else f"category {category}"
            raise LabelrError(f"{source.path}: annotation {number} is of {lost}, which there is not", "export it again")
        present[image].add(categories[category])
    above = {str(one.get("supercategory")) for one in document["categories"] if one.get("supercategory") != one["name"]}
    used = set().union(*present.values())
    vocabulary = [label for label in categories.values() if label in used or label not in above]
    bare = sum(not labels for labels in present.values())
    notes = [f"images without an object, to which no label applies: {bare:,}"] if bare else []
    entries = (Annotation(str(names[image]), labels) for image, labels in present.items())
    return LabelTable.of(entries, "COCO, the objects in an image", vocabulary=vocabulary, notes=notes)


def _pairs(source: Source, kind: str, first: str, second: str) -> Iterator[tuple[Any, Any]]:
    """Two fields of each entry of a list."""
    entries = source.document.get(kind)
    for number, entry in enumerate(entries if isinstance(entries, list) else (), start=1):
        try:
            pair = entry[first], entry[second]
            hash(pair)
        except (KeyError, TypeError):
            raise LabelrError(
                f"{source.path}: entry {number} of `{kind}` has no usable {first} or {second}", "export it again"
            ) from None
        yield pair
