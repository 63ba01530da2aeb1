"""JSON: its objects, one for each image, in the shapes in which people write images and their labels, as a table."""

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelr.data.formats.table import Table, strip_cell
from labelr.data.formats.tags import SEPARATORS, tags_of_object
from labelr.data.formats.words import LABEL_COLUMNS, column_key
from labelr.data.label_table import SPLIT_NAMES, repeated_names
from labelr.data.limits import DEFAULT_LIMITS, Limits
from labelr.errors import LabelrError, preview

FLAGS = frozenset({"labels", "label", "tags", "classes", "categories", "targets", "attributes"})
"""Keys, as `column_key` has them, of an object with a mark for each label."""
DETAILS = frozenset({
    "author", "comment", "created", "date", "description", "info", "license", "licenses", "name", "notes", "schema",
    "title", "url", "version",
})  # fmt: skip
"""Keys of what is said of the whole file, beside its images."""

CLASS_NAMES = frozenset({
    "categories", "classes", "classmap", "classnames", "id2label", "idx2label", "labelmap", "labelnames",
})  # fmt: skip
"""Keys, as `column_key` has them, of the names of all labels, beside images whose labels are numbers."""
CLASS_NUMBERS = FLAGS | {
    "category", "categoryid", "categoryids", "class", "classid", "classids", "gtlabel", "gtlabels", "labelid",
    "labelids", "target",
}  # fmt: skip
"""Keys, as `column_key` has them, of these numbers."""
HEADERS = frozenset({"datasetinfo", "info", "meta", "metadata", "metainfo"})
"""Keys, as `column_key` has them, of what is said of the whole file, which may be these names."""
METADATA = "-metadata"
"""How the key ends that describes another one in the manifests of SageMaker."""
LABEL_KEYS = ("categories", "category", "labels", "label", "choices")
"""Keys of an object that hold what it says of an image."""
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
    unknown = [key for key in others if column_key(key).strip("$") not in DETAILS | CLASS_NAMES]
    if unknown:
        raise LabelrError(
            f"its other keys are names of images, but {unknown[0]!r} is not", "correct the key, or delete the entry"
        )


# --- class numbers ---------------------------------------------------------------------------------------------------


def name_classes(objects: list[Object], document: Any) -> list[Object]:
    """The objects with names in place of class numbers, where the file has both.

    The names are in the document beside the images, or in what it says of itself, such as in ``metainfo`` of
    MMPretrain; in a manifest of SageMaker, they are in each line, such as in ``pets-metadata`` for ``pets``. A list
    with 0 or 1 for each name means the names with 1.

    Raises:
        LabelrError: If a number has no name.
    """
    names = _names_beside(document)
    if not names:
        return list(map(_with_own_names, objects))
    keys = {key for fields in objects for key in fields if column_key(key) in CLASS_NUMBERS}
    vectors = {key for key in keys if _are_vectors([fields.get(key) for fields in objects], len(names))}
    return [
        {
            key: _of_vector(value, names) if key in vectors else _named_label(value, names) if key in keys else value
            for key, value in fields.items()
        }
        for fields in objects
    ]


def _names_beside(document: Any) -> dict[int, str]:
    """The names of class numbers in a document; empty for a DataFrame, whose keys are columns, and for a list."""
    if not isinstance(document, dict) or _rows_of_frame(document):
        return {}
    headers = [value for key, value in document.items() if column_key(key) in HEADERS]
    return next((names for part in (document, *headers) if (names := _class_names(part))), {})


def _class_names(part: Any) -> dict[int, str]:
    """The names of class numbers that a mapping holds; empty for anything else."""
    found = [value for key, value in part.items() if column_key(key) in CLASS_NAMES] if isinstance(part, dict) else []
    for value in found:
        pairs: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
        if isinstance(value, list):
            are_objects = all(isinstance(item, dict) for item in value)
            pairs = [(item.get("id"), item.get("name")) for item in value] if are_objects else list(enumerate(value))
        if all(isinstance(number, int) for _, number in pairs):  # such as {"cat": 0}
            pairs = [(number, name) for name, number in pairs]
        if pairs and all(str(number).isdecimal() and isinstance(name, str) for number, name in pairs):
            return dict(sorted((int(number), name) for number, name in pairs))
    return {}


def _with_own_names(fields: Object) -> Object:
    """A line of a manifest of SageMaker with names in place of its class numbers; other objects unchanged."""
    described = [key.removesuffix(METADATA) for key in fields if key.endswith(METADATA)]
    named: Object = {}
    for key in filter(fields.__contains__, described):
        metadata, value = fields[f"{key}{METADATA}"], fields[key]
        if isinstance(metadata, dict) and isinstance(metadata.get("class-name"), str):
            named[key] = [metadata["class-name"]]
        elif names := _class_names(metadata):
            boxes = value.get("annotations") if isinstance(value, dict) else None
            numbers = [box.get("class_id") for box in boxes] if isinstance(boxes, list) else value
            named[key] = _named_label(numbers, names)
    return {**fields, **named} if named else fields


def _named_label(value: Any, names: Mapping[int, str]) -> Any:
    """As `_named`; the name of a single number in a list, since commas and spaces in it separate no tags."""
    named = _named(value, names)
    return [named] if isinstance(named, str) and not isinstance(value, str) else named


def _named(value: Any, names: Mapping[int, str]) -> Any:
    """A value with names in place of class numbers: of a number, of a list, or of the label of an object."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, dict):
        return {
            key: _named(inner, names) if column_key(key) in CLASS_NUMBERS else inner for key, inner in value.items()
        }
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if value not in names:
        raise LabelrError(
            f"the class number {value} has no name among {preview(list(names.values()))}", "name it, or correct it"
        )
    return names[int(value)]


def _are_vectors(values: list[Any], size: int) -> bool:
    """Whether values are lists with 0 or 1 for each of some names, rather than of class numbers, which are sorted."""
    lists = [value for value in values if value]
    fits = all(
        isinstance(value, list) and len(value) == size and all(item in (0, 1) for item in value) for value in lists
    )
    return fits and any(value != sorted(set(value)) for value in lists)


def _of_vector(value: Any, names: Mapping[int, str]) -> Any:
    """The names that a list marks with 1."""
    return [name for name, mark in zip(names.values(), value, strict=True) if mark] if value else value


# --- as a table ------------------------------------------------------------------------------------------------------


def table_of_objects(
    path: Path, objects: Sequence[Object], limits: Limits = DEFAULT_LIMITS, label_columns: Collection[str] = ()
) -> Table:
    """JSON objects as a table with a column for each key and a row for each object, such as ``metadata.jsonl``.

    Lists become JSON, booleans ``true`` and ``false``, null an empty cell, and an object its categories or labels, or,
    in a column of labels, by its name or as the user names it, the tags that it means; see `check_labels` for others.
    An object with an error and without labels, as `labelr tag` writes for an unreadable image, is left out.
    """
    kept = {number: fields for number, fields in enumerate(objects, start=1) if not _is_failure(fields)}
    names = list(dict.fromkeys(name for fields in kept.values() for name in fields))
    limits.check_columns(path, len(names), "different keys")
    limits.check_cells(path, len(names) * len(kept))
    labels = {name for name in names if name in label_columns or column_key(name) in LABEL_COLUMNS}
    rows = [[name.strip() for name in names]]
    for number, fields in kept.items():
        try:
            values = [_label_of(fields.get(name)) if name in labels else fields.get(name) for name in names]
        except LabelrError as error:
            raise LabelrError(f"{path}, object {number}: {error.message}", error.hint) from error
        rows.append(list(map(_cell, values)))
    return Table(path, rows, [0, *kept])


def _is_failure(fields: Mapping[str, Any]) -> bool:
    return isinstance(fields.get("error"), str) and "labels" in fields and fields["labels"] is None


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in LABEL_KEYS if key in value), None)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return strip_cell(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _label_of(value: Any) -> Any:
    """A value with tags in place of objects that name some; None if one names none, and empty for null."""
    if isinstance(value, Mapping):
        held = [value[key] for key in LABEL_KEYS if key in value][:1]
        if held and not isinstance(held[0], str):
            return _label_of(held[0])
        tags = tags_of_object(value)
        if tags is None:
            return held[0] if held else None
        return tags[0] if len(tags) == 1 and SEPARATORS.keys().isdisjoint(tags[0]) else tags
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = list(map(_label_of, value))
        return (
            None if None in items else [tag for item in items for tag in (item if isinstance(item, list) else [item])]
        )
    return "" if value is None else value


def check_labels(
    path: Path, objects: Sequence[Object], label_columns: Collection[str], exclude: Collection[str]
) -> None:
    """Raises LabelrError if a label is an object that names none: its image would seem to have no label.

    Labels are in the columns that the user names, else in the one with the most certain name that is not excluded.
    """
    keys = {column_key(name): name for fields in objects for name in fields if name not in exclude}
    for column in label_columns or [keys[key] for key in LABEL_COLUMNS if key in keys][:1]:
        for number, fields in enumerate(objects, start=1):
            if _label_of(value := fields.get(column)) is None:
                items = value if isinstance(value, list) else [value]
                unread = next(item for item in items if _label_of(item) is None and isinstance(item, Mapping))
                raise LabelrError(
                    f'{path}, object {number}: "{column}" is an object that names no label, with the keys '
                    f"{preview(list(unread))}",
                    f'call the key of the label "name", or leave the column out with `--exclude {shlex.quote(column)}`',
                )
