"""Rows without a header as Vertex AI and AutoML import them, ``[SPLIT,]path,label,label,...``, and JSON Lines."""

import re
from collections.abc import Iterator
from typing import Any

from labelr.data.formats.sheet import PROBE_ROWS
from labelr.data.formats.source import Source
from labelr.data.formats.wide import MARKS
from labelr.data.images import has_image_suffix
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, normalize_name
from labelr.errors import LabelrError

UNASSIGNED = "unassigned"
COORDINATE = re.compile(r"[01]?(\.\d*)?|\d(\.\d+)?e-\d+", re.IGNORECASE)
"""A cell of a box: a share of the image's width or height, or nothing."""
BOX_CELLS = range(6, 9)
"""How many cells a box has, the last of which may be left out: ``0.1,0.2,,,0.8,0.9,,``."""


def fits(source: Source) -> int:
    """Whether these are rows without a header, or JSON Lines of Vertex AI: 2 they are, 0 not."""
    if source.objects:
        return 2 if all("imageGcsUri" in one for one in source.objects) else 0
    sheet = source.sheet
    if sheet is None:
        return 0
    rows = sheet.rows[:PROBE_ROWS]
    labels = [cell for row in rows for cell in _without_part(row)[1][1:]]
    named = all(_without_part(row)[1] and has_image_suffix(_without_part(row)[1][0]) for row in rows)
    return 2 if named and not all(label.lower() in MARKS for label in labels) else 0


def read(source: Source) -> LabelTable:
    """The records of such rows; several of one image give it all their labels, and without any none is known.

    Of a row with a box, its label counts.
    """
    said: dict[str, tuple[set[str], str]] = {}
    for name, labels, part in _objects(source) if source.objects else _rows(source):
        present, _ = said.setdefault(name, (set(), part))
        present.update(labels)
    kind = "JSON Lines of Vertex AI" if source.objects else "rows without a header, an image and its labels"
    return LabelTable.of(
        (Annotation(name, present, split=part, complete=bool(present)) for name, (present, part) in said.items()), kind
    )


def _rows(source: Source) -> Iterator[tuple[str, list[str], str]]:
    for number, row in zip(source.table.numbers, source.table.rows, strict=True):
        part, (name, *labels) = _without_part(row)
        if not has_image_suffix(name):
            raise LabelrError(
                f'{source.path}, row {number}: expected an image, got "{name}"', "correct the row, or delete it"
            )
        yield normalize_name(name), labels[:1] if _is_box(labels[1:]) else labels, part


def _is_box(cells: list[str]) -> bool:
    return len(cells) in BOX_CELLS and all(COORDINATE.fullmatch(cell) for cell in cells)


def _without_part(row: list[str]) -> tuple[str, list[str]]:
    """The part that a row begins with, empty where it is not said, and the other cells."""
    word = row[0].lower()
    if len(row) > 1 and (word in SPLIT_NAMES or word in ("", UNASSIGNED)):
        return SPLIT_NAMES.get(word, ""), row[1:]
    return "", row


def _objects(source: Source) -> Iterator[tuple[str, list[str], str]]:
    for number, one in enumerate(source.objects, start=1):
        try:
            uri, annotations = str(one["imageGcsUri"]), _annotations(one)
            resource = one.get("dataItemResourceLabels") or {}
            part = SPLIT_NAMES.get(str(resource.get("aiplatform.googleapis.com/ml_use", "")).lower(), "")
            yield normalize_name(uri), [str(annotation["displayName"]) for annotation in annotations], part
        except (KeyError, TypeError, AttributeError) as error:
            raise LabelrError(
                f"{source.path}, object {number}: {error} is missing or wrong", "export it again"
            ) from error


def _annotations(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations of an image: of the whole image, one or several, or of boxes in it."""
    single = one.get("classificationAnnotation")
    several = [*(one.get("classificationAnnotations") or []), *(one.get("boundingBoxAnnotations") or [])]
    return [single, *several] if single else several
