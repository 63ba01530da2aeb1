"""JSON: its objects, one for each image, in the shapes in which people write images and their labels."""

from collections.abc import Callable, Mapping
from typing import Any

from labelr.data.formats.words import column_key
from labelr.data.label_table import SPLIT_NAMES, repeated_names
from labelr.errors import LabelrError, preview

FLAGS = frozenset({"labels", "label", "tags", "classes", "categories", "targets", "attributes"})
"""Keys, as `column_key` has them, of an object with a mark for each label."""
DETAILS = frozenset({
    "author", "comment", "created", "date", "description", "info", "license", "licenses", "name", "notes", "schema",
    "title", "url", "version",
})  # fmt: skip
"""Keys of what is said of the whole file, beside its images."""

OTHER_FORMATS = frozenset({"annotations", "detection_categories", "predictions"})
"""Keys of COCO, and of what MegaDetector and SpeciesNet found, whose labels have names elsewhere."""
LISTS = frozenset(
    {"data", "filenames", "files", "images", "items", "paths", "photos", "pictures", "test", "train", "val"}
)
"""Keys of lists of images that are no labels."""

IsImage = Callable[[str], bool]
Object = dict[str, Any]


def find_objects(document: Any, is_image: IsImage) -> list[Object]:
    """The objects of a list or of JSON Lines, or those that a mapping means; empty for any other document.

    A mapping may have images as keys, or labels as keys and lists of images as values, or hold such a mapping or a list
    (of objects, or of images alone) for each split, or for one of its keys, or be a DataFrame as pandas writes it.

    Args:
        document: The parsed JSON.
        is_image: Whether a text is the name of an image.

    Raises:
        LabelrError: If some keys of a mapping are no images, unlike the others, or a DataFrame has a column twice.
    """
    if isinstance(document, list):
        return _of_list(document, is_image)
    if not isinstance(document, dict) or OTHER_FORMATS & document.keys():
        return []
    images = {key: value for key, value in document.items() if is_image(key)}
    if 2 * len(images) > len(document):
        _check_keys([key for key in document if key not in images])
        return [_of_image(name, value) for name, value in images.items()]
    nested: Object = {key: value for key, value in document.items() if value and isinstance(value, (dict, list))}
    if nested and all(key.lower() in SPLIT_NAMES for key in nested):
        return [{**fields, "split": key} for key, value in nested.items() for fields in _of_split(value, is_image)]
    are_labels = bool(nested) and not LISTS & set(map(column_key, nested))
    if are_labels and all(_are_images(value, is_image) for value in nested.values()):
        return _of_labels(nested)
    return _of_frame(document, is_image) or _of_key(nested, is_image)


def _of_key(nested: Object, is_image: IsImage) -> list[Object]:
    """The objects that the value of one of some keys means; empty if none or several do."""
    holding = [found for value in nested.values() if _have_image(found := find_objects(value, is_image), is_image)]
    return holding[0] if len(holding) == 1 else []


def _of_list(values: list[Any], is_image: IsImage) -> list[Object]:
    if not all(isinstance(value, dict) for value in values):
        return []
    pairs = [next(iter(value.items())) for value in values if len(value) == 1]
    if len(pairs) == len(values) and all(is_image(name) for name, _ in pairs):
        return [_of_image(name, value) for name, value in pairs]
    return list(map(_with_columns, values))


def _of_split(value: Any, is_image: IsImage) -> list[Object]:
    """The objects of a split, of which nothing but the names of images may be listed."""
    return [{"filename": name} for name in value] if _are_images(value, is_image) else find_objects(value, is_image)


def _of_frame(document: Object, is_image: IsImage) -> list[Object]:
    """The rows of a DataFrame of which the index or a column names images; empty for any other mapping."""
    rows = _rows_of_frame(document)
    names = rows[0][1] if rows else {}
    if any(all(isinstance(fields[name], str) and is_image(fields[name]) for _, fields in rows) for name in names):
        return [_with_columns(fields) for _, fields in rows]
    is_index = all(isinstance(key, str) and is_image(key) for key, _ in rows)
    return [_of_image(key, fields) for key, fields in rows] if is_index else []


def _rows_of_frame(document: Object) -> list[tuple[Any, Object]]:
    """The rows of a DataFrame, each with its index, by columns or in the orientation ``split``; else empty."""
    names, rows, index = document.get("columns"), document.get("data"), document.get("index")
    if isinstance(names, list) and isinstance(rows, list):
        if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return []
        if repeated := repeated_names(map(str, names)):
            raise LabelrError(f"it has columns twice: {preview(repeated)}", "rename or merge the columns")
        keys = index if isinstance(index, list) and len(index) == len(rows) else [None] * len(rows)
        return [(key, dict(zip(map(str, names), row, strict=True))) for key, row in zip(keys, rows, strict=True)]
    columns = list(document.values())
    if not columns or not all(isinstance(cells, dict) and cells.keys() == columns[0].keys() for cells in columns):
        return []
    return [(key, {name: document[name][key] for name in document}) for key in columns[0]]


def _of_image(name: str, value: Any) -> Object:
    return _with_columns({"filename": name, **(value if isinstance(value, dict) else {"labels": value})})


def _of_labels(images: Mapping[str, list[str]]) -> list[Object]:
    """The objects of lists of images by their labels."""
    labels: dict[str, list[str]] = {}
    for label, names in images.items():
        for name in names:
            labels.setdefault(name, []).append(label)
    return [{"filename": name, "labels": own} for name, own in labels.items()]


def _with_columns(fields: Object) -> Object:
    """The fields with those of an object such as ``"labels": {"dog": 1, "cat": 0}`` beside them."""
    for key, value in fields.items():
        if column_key(key) in FLAGS and isinstance(value, dict) and value and all(map(_is_flag, value.values())):
            return {**{name: fields[name] for name in fields if name != key}, **value}
    return fields


def _is_flag(value: Any) -> bool:
    return value is None or (isinstance(value, (bool, int, float)) and value in (0, 1))


def _are_images(value: Any, is_image: IsImage) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and is_image(name) for name in value)


def _have_image(objects: list[Object], is_image: IsImage) -> bool:
    """Whether the first of some objects names an image."""
    return any(isinstance(value, str) and is_image(value) for fields in objects[:1] for value in fields.values())


def _check_keys(others: list[str]) -> None:
    unknown = [key for key in others if column_key(key).strip("$") not in DETAILS]
    if unknown:
        raise LabelrError(
            f"its other keys are names of images, but {unknown[0]!r} is not", "correct the key, or delete the entry"
        )
