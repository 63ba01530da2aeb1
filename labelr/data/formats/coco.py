"""COCO, a JSON of images, categories and annotations."""

from typing import Any

from labelr.data.formats.records import Entry, Records
from labelr.data.formats.source import Source
from labelr.errors import LabelrError


def fits(source: Source) -> int:
    """Whether this is a JSON of COCO's instances or keypoints: 3 it is, 0 not."""
    document = source.document
    if not isinstance(document, dict) or not {"images", "annotations", "categories"} <= set(document):
        return 0
    return 3 if all(isinstance(document[name], list) for name in ("images", "annotations", "categories")) else 0


def read(source: Source) -> Records:
    """The records of a COCO JSON: a label applies where the image has an object of it.

    Categories that the file declares and no image has are kept, but for those that only stand above others; in images
    without objects no label applies.

    Raises:
        LabelrError: If an entry lacks what it must have, or names an image or a category that the file does not have.
    """
    document = source.document
    if not isinstance(document, dict):
        raise LabelrError(f"{source.path} is no JSON of COCO", "name another layout with `--layout`")
    try:
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        categories = {one["id"]: str(one["name"]).strip() for one in document["categories"]}
        present: dict[Any, set[str]] = {image: set() for image in names}
        for annotation in document["annotations"]:
            present[annotation["image_id"]].add(categories[annotation["category_id"]])
        above = {one.get("supercategory") for one in document["categories"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise LabelrError(f"{source.path}: {error} is missing or wrong in an entry", "export it again") from error
    used = set().union(*present.values())
    vocabulary = [label for label in categories.values() if label in used or label not in above]
    bare = sum(not labels for labels in present.values())
    notes = [f"images without an object, to which no label applies: {bare:,}"] if bare else []
    entries = (Entry(names[image], labels) for image, labels in present.items())
    return Records.of(entries, "COCO, the objects in an image", vocabulary=vocabulary, notes=notes)
