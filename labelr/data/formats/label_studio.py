"""Label Studio: its JSON, and JSON-MIN and CSV, which have the same fields."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from labelr.data.formats.source import Source
from labelr.data.images import has_image_suffix
from labelr.data.label_table import Annotation, LabelTable
from labelr.errors import LabelrError, preview

FLAT_FIELDS = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"})
"""The fields of JSON-MIN and CSV beside those of the task and of its labels."""


def fits(source: Source) -> int:
    """Whether this is an export of Label Studio: 3 it is, 0 not."""
    objects = source.objects
    if objects and source.suffix == ".json":
        nested = all("data" in one and ("annotations" in one or "completions" in one) for one in objects)
        return 3 if nested or all(set(one) >= FLAT_FIELDS for one in objects) else 0
    return 3 if source.sheet is not None and set(source.sheet.header) >= FLAT_FIELDS else 0


def read(source: Source) -> LabelTable:
    """The records of an export; where annotators differ on a label, the majority counts.

    Of a task without a submitted annotation nothing is known; in one that was submitted empty no label applies.

    Raises:
        LabelrError: If tasks have no image, or it is open which field holds the labels.
    """
    try:
        entries, notes = (_read_nested(source), []) if _is_nested(source) else _read_flat(source)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LabelrError(
            f"{source.path} is no export of Label Studio: {error!r}", "export it again as JSON"
        ) from error
    return LabelTable.of(entries, "an export of Label Studio", notes=notes)


def _is_nested(source: Source) -> bool:
    return source.suffix == ".json" and bool(source.objects) and "data" in source.objects[0]


def _read_nested(source: Source) -> list[Annotation]:
    """What the annotations of JSON say."""
    entries = []
    for task in source.objects:
        name = _image_of(source, task["data"])
        entries.append(Annotation(name, complete=False))
        for annotation in task.get("annotations", task.get("completions")) or []:
            if not annotation.get("was_cancelled") and not annotation.get("skipped"):
                labels = {label for result in annotation["result"] for label in _labels_in(result.get("value"))}
                entries.append(Annotation(name, labels))
    return entries


def _read_flat(source: Source) -> tuple[list[Annotation], list[str]]:
    """What the annotations of JSON-MIN or CSV say, and which fields of text are left out."""
    rows = source.objects or [
        dict(zip(source.table.header, map(_parse_cell, row), strict=False)) for row in source.table.body
    ]
    names = [_image_of(source, {key: row[key] for key in row if key not in FLAT_FIELDS}) for row in rows]
    fields, others = _label_fields(source, rows, names)
    entries = []
    for name, row in zip(names, rows, strict=True):
        labels = {label for field in fields for label in _labels_in(row.get(field))}
        entries.append(Annotation(name, labels, complete=row.get("annotation_id") not in (None, "")))
    note = f"fields of text, left out, as only the export as JSON says whether they are choices: {preview(others, 10)}"
    return entries, [note] if others else []


def _parse_cell(cell: str) -> Any:
    """What a cell of the CSV says, which holds JSON where there is more than one choice."""
    if cell[:1] in ("{", "["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _label_fields(source: Source, rows: list[dict[str, Any]], names: list[str]) -> tuple[list[str], list[str]]:
    """The fields that hold labels, and the others of text.

    Labels are in those with lists of choices or shapes in any row, else in the only one of text.
    """
    others = dict.fromkeys(key for row in rows for key in row if key not in FLAT_FIELDS)
    fields = [key for key in others if any(_holds_lists(row.get(key)) for row in rows)]
    named = list(zip(rows, names, strict=True))
    text = [key for key in others if any(_is_text(row.get(key)) and row[key] != name for row, name in named)]
    if fields:
        return fields, [key for key in text if key not in fields]
    if len(text) > 1:
        raise LabelrError(
            f"{source.path}: the labels may be in any of the fields {preview(text)}",
            "export the project as JSON, which says which of them are choices",
        )
    return text, []


def _holds_lists(value: Any) -> bool:
    """Whether a field is that of a control with several choices or with shapes."""
    return isinstance(value, (dict, list)) and next(_labels_in(value), None) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _image_of(source: Source, data: Mapping[str, Any]) -> str:
    """The image of a task: what is called so, else the first value that ends like one."""
    values = [data.get("image"), *data.values()]
    texts = [value for value in values if isinstance(value, str) and value]
    found = next((text for text in texts if has_image_suffix(text.split("&")[0])), None) or data.get("image")
    if not isinstance(found, str):
        raise LabelrError(f"{source.path}: a task has no image: {preview(list(data))}", "export a project of images")
    return found


def _labels_in(value: Any) -> Iterator[str]:
    """The labels in what a control says: a text, ``{"choices": [...]}``, shapes with ``"...labels"``, a taxonomy."""
    if isinstance(value, str):
        yield from [value.strip()] * bool(value.strip())
    elif isinstance(value, list):
        for one in value:
            yield from _labels_in(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, Collection) and (key in ("choices", "taxonomy") or key.endswith("labels")):
                yield from _labels_in(inner)
