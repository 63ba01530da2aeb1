"""COCO: a JSON of images, categories and annotations."""

from collections.abc import Iterator

from labelr.data.formats.source import Source
from labelr.data.formats.spreadsheet import cell_text
from labelr.data.formats.table import exact_name
from labelr.data.label_table import Annotation, LabelTable, note_empty_images
from labelr.errors import LabelrError, pluralize

LISTS = ("images", "annotations", "categories")


def fits(source: Source) -> int:
    """Confidence that this is a COCO JSON of instances or keypoints: 0 or 3."""
    document = source.document
    return 3 if isinstance(document, dict) and all(isinstance(document.get(name), list) for name in LISTS) else 0


def read(source: Source) -> LabelTable:
    """The label table of a COCO JSON: a label applies if the image has an annotation of it.

    Declared categories without annotations are kept, unless they are the supercategory of others. To images without
    annotations no label applies.

    Raises:
        LabelrError: If an entry lacks a required field, or an annotation refers to an image or a category that is not
            in the file, unless such annotations are skipped. Ids are compared as text.
    """
    if not fits(source):
        raise LabelrError(f"{source.path} is not a JSON of COCO", "name another layout with `--layout`")
    invalid: list[str] = []
    names = _named_by_id(source, "images", "file_name", invalid)
    categories = {key: name.strip() for key, name in _named_by_id(source, "categories", "name", invalid).items()}
    present: dict[str, set[str]] = {name: set() for name in names.values()}  # several entries, if projects were merged
    pairs = _pairs(source, "annotations", "image_id", "category_id", invalid)
    for number, (image, category) in enumerate(pairs, start=1):
        if image in names and category in categories:
            present[names[image]].add(categories[category])
        else:
            unknown = f"image {image}" if image not in names else f"category {category}"
            invalid.append(f"{source.path}: annotation {number} refers to {unknown}, which is not in the file")
    if invalid and not source.options.skip_invalid:
        more = f" ({pluralize(len(invalid) - 1, 'more such entry', 'more such entries')})" if len(invalid) > 1 else ""
        raise LabelrError(invalid[0] + more, "export it again, or leave such entries out with `--skip-invalid`")
    parents = {
        str(entry.get("supercategory"))
        for entry in source.document["categories"]
        if isinstance(entry, dict) and entry.get("supercategory") != entry.get("name")
    }
    used = set().union(*present.values())
    vocabulary = [label for label in categories.values() if label in used or label not in parents]
    annotations = [Annotation(name, labels) for name, labels in present.items()]
    notes = note_empty_images(annotations, "an object")
    layout = "COCO, the objects in an image"
    return LabelTable.of(annotations, layout, vocabulary=vocabulary, notes=notes, invalid=invalid, limits=source.limits)


def _named_by_id(source: Source, kind: str, field: str, invalid: list[str]) -> dict[str, str]:
    """A field of each entry of a list by its id; an id that two entries have, of other names, is invalid."""
    names: dict[str, str] = {}
    for key, name in _pairs(source, kind, "id", field, invalid):
        if names.setdefault(key, name) != name:
            invalid.append(f"{source.path}: `{kind}` has the id {key} twice, for {names[key]} and {name}")
    return names


def _pairs(source: Source, kind: str, first: str, second: str, invalid: list[str]) -> Iterator[tuple[str, str]]:
    """Two fields of each entry of a list as text; entries without them are added to `invalid`."""
    for number, entry in enumerate(source.document[kind], start=1):
        pair = (entry.get(first), entry.get(second)) if isinstance(entry, dict) else (None, None)
        if all(isinstance(value, (str, int, float)) for value in pair):
            yield cell_text(pair[0]), exact_name(cell_text(pair[1]))  # pandas writes ids as 1.0
        else:
            invalid.append(f"{source.path}: entry {number} of `{kind}` has no usable {first} or {second}")
