"""The import files of Vertex AI and AutoML: rows ``[SPLIT,]path,label,label,...`` without a header, or JSON Lines."""

import re
from collections.abc import Iterator

from labelr.data.formats.arrange import read_vector
from labelr.data.formats.source import Source
from labelr.data.formats.table import PROBE_ROWS
from labelr.data.formats.words import MARKS
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, normalize_name
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError

UNASSIGNED = "unassigned"
COORDINATE = re.compile(r"[01]?(\.\d*)?|\d(\.\d+)?e-\d+", re.IGNORECASE)
"""A cell of a box: a share of the image's width or height, or empty."""
BOX_CELLS = range(6, 9)
"""The number of cells of a box; the last ones may be missing: ``0.1,0.2,,,0.8,0.9,,``."""


def fits(source: Source) -> int:
    """Confidence that these are rows without a header, or JSON Lines of Vertex AI: 0 or 2."""
    if source.objects:
        return 2 if all("imageGcsUri" in entry for entry in source.objects) else 0
    if source.table is None:
        return 0
    rows = [_without_split(row)[1] for row in source.table.rows[:PROBE_ROWS]]
    named = all(row and has_image_suffix(row[0]) for row in rows)
    labels = [cell for row in rows for cell in row[1:]]
    are_numbers = source.table.delimiter != "," and all(map(str.isdecimal, labels))
    are_marks = all(label.lower() in MARKS or read_vector(label) for label in labels)
    return 2 if named and not are_marks and not are_numbers else 0


def read(source: Source) -> LabelTable:
    """The label table of such rows; several rows of an image are merged, and without a label none is known.

    In a row with a box only the label of the box counts.
    """
    merged: dict[str, tuple[set[str], str]] = {}
    invalid: list[str] = []
    for name, labels, split in _read_objects(source) if source.objects else _read_rows(source, invalid):
        present, _ = merged.setdefault(normalize_name(name), (set(), split))
        present.update(labels)
    annotations = (
        Annotation(name, present, split=split, complete=bool(present)) for name, (present, split) in merged.items()
    )
    rows = "rows without a header, an image and its labels"
    return LabelTable.of(
        annotations, "JSON Lines of Vertex AI" if source.objects else rows, invalid=invalid, limits=source.limits
    )


def _read_rows(source: Source, invalid: list[str]) -> Iterator[tuple[str, list[str], str]]:
    """The image, labels and split of each row; rows without an image are added to `invalid` if they are skipped."""
    table = source.require_table()
    for number, row in zip(table.numbers, table.rows, strict=True):
        split, (name, *labels) = _without_split(row)
        if not has_image_suffix(name):
            invalid.append(f'{source.path}, row {number}: expected an image, got "{name}"')
            if not source.options.skip_invalid:
                raise LabelrError(invalid[0], "correct the row, or leave such rows out with `--skip-invalid`")
            continue
        is_box = len(labels) - 1 in BOX_CELLS and all(map(COORDINATE.fullmatch, labels[1:]))
        yield name, labels[:1] if is_box else labels, split


def _without_split(row: list[str]) -> tuple[str, list[str]]:
    """The split at the start of a row, empty if there is none, and the other cells."""
    word = row[0].lower()
    if len(row) > 1 and (word in SPLIT_NAMES or word in ("", UNASSIGNED)):
        return SPLIT_NAMES.get(word, ""), row[1:]
    return "", row


def _read_objects(source: Source) -> Iterator[tuple[str, list[str], str]]:
    """The image, labels and split of each object: labels of the whole image, one or several, and of boxes in it."""
    for number, entry in enumerate(source.objects, start=1):
        try:
            name, single = str(entry["imageGcsUri"]), entry.get("classificationAnnotation")
            annotations = [
                *([single] if single else []),
                *(entry.get("classificationAnnotations") or []),
                *(entry.get("boundingBoxAnnotations") or []),
            ]
            resource = entry.get("dataItemResourceLabels") or {}
            split = SPLIT_NAMES.get(str(resource.get("aiplatform.googleapis.com/ml_use", "")).lower(), "")
            labels = [str(annotation["displayName"]) for annotation in annotations]
        except (KeyError, TypeError, AttributeError) as error:
            raise LabelrError(
                f"{source.path}, object {number}: {error} is missing or wrong", "export it again"
            ) from error
        yield name, labels, split
