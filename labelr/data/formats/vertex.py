"""Rows without a header: the import files of Vertex AI and AutoML, ``[SPLIT,]path,label,label,...``, and boxes.

JSON Lines of Vertex AI are read as well.
"""

import re
from collections.abc import Iterator, Sequence

from labelr.data.formats.arrange import CLASS_NUMBER, NUMBER, read_vector
from labelr.data.formats.source import Source
from labelr.data.formats.table import PROBE_ROWS
from labelr.data.formats.words import MARKS
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, normalize_name, note_empty_images
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError

UNASSIGNED = "unassigned"
COORDINATE = re.compile(r"[01]?(\.\d*)?|\d(\.\d+)?e-\d+", re.IGNORECASE)
"""A cell of a box: a share of the image's width or height, or empty."""
BOX_CELLS = range(6, 9)
"""The number of cells of a box; the last ones may be missing: ``0.1,0.2,,,0.8,0.9,,``."""
PIXEL = re.compile(r"-?\d+(\.\d*)?")
LABEL_PLACES = (4, 0)
"""Where the label of a box in pixels is among five cells: ``x1,y1,x2,y2,dog`` as in keras-retinanet, or first."""


def fits(source: Source) -> int:
    """Confidence that these are rows without a header, or JSON Lines of Vertex AI: 0, 2, or 3 for boxes in pixels."""
    if source.objects:
        return 2 if all("imageGcsUri" in entry for entry in source.objects) else 0
    if source.table is None:
        return 0
    rows = [_without_split(row)[1] for row in source.table.rows[:PROBE_ROWS]]
    if not all(row and has_image_suffix(row[0]) for row in rows):
        return 0
    rows = [row[1:] for row in rows]
    cells = [cell for row in rows for cell in row]
    if all(cell.lower() in MARKS or _holds_marks(cell) for cell in cells):
        return 0
    if places := _places_of_labels(rows):
        return 3 * (len(places) == 1)
    are_numbers = source.table.delimiter != "," and all(map(str.isdecimal, cells))
    are_lists = all(map(read_vector, cells)) or any(cell.startswith(("[", "{")) for cell in cells)
    return 0 if are_numbers or are_lists or _lacks_header(list(map(_without_corners, rows))) else 2


def _holds_marks(cell: str) -> bool:
    """Whether a cell is a vector of 0 and 1."""
    vector = read_vector(cell)
    return bool(vector) and all(value.lower() in MARKS for value in vector)


def _lacks_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows are those of a table: numbers or marks in a column beside words, numbers such as 0.3, or boxes."""
    columns = list(zip(*rows, strict=True)) if len(set(map(len, rows))) == 1 else []
    measured = [
        column
        for column in columns
        if all(cell and (cell.lower() in MARKS or NUMBER.fullmatch(cell)) for cell in column)
    ]
    are_words = len(measured) < len(columns)
    are_classes = all(CLASS_NUMBER.fullmatch(cell) for column in measured for cell in column)
    are_boxes = len(rows) > 1 and all(_is_box([*cells, "0"], place=4) for cells in rows)
    return bool(measured) and (are_words or not are_classes or are_boxes)


def _places_of_labels(rows: Sequence[Sequence[str]]) -> list[int]:
    """Those of `LABEL_PLACES` where all rows behind the image may have the label of a box; empty if they are no boxes.

    A row of empty cells is an image without objects.
    """
    boxes = [box for cells in rows for box in _boxes_in(cells)]
    return [place for place in LABEL_PLACES if boxes and all(_is_box(box, place) for box in boxes)]


def _boxes_in(cells: Sequence[str]) -> list[Sequence[str]]:
    """What may be the boxes of a row: all its cells, or as in keras-yolo3 each one, such as ``10,20,30,40,0``."""
    if any("," in cell for cell in cells):
        return [cell.split(",") for cell in cells if cell]
    return [cells] * any(cells)


def _is_box(cells: Sequence[str], place: int) -> bool:
    """Whether cells are the corners of a box, and a label in one of `LABEL_PLACES`, which may be a class number."""
    corners = [*cells[:place], *cells[place + 1 :]]
    if len(cells) != 5 or not cells[place] or not all(map(PIXEL.fullmatch, corners)):
        return False
    left, top, right, bottom = map(float, corners)
    return not PIXEL.fullmatch(cells[place]) or (left < right and top < bottom)


def read(source: Source) -> LabelTable:
    """The label table of such rows; several rows of an image are merged, and without a label none is known.

    Of a box only the label counts. An image without a box has no label in a file of boxes in pixels.

    Raises:
        LabelrError: If a row has no image, or no box where others have one, unless such rows are skipped.
    """
    merged: dict[str, tuple[set[str], str]] = {}
    invalid: list[str] = []
    places = [] if source.objects else _places_of_labels(_first_cells(source))
    rows = _read_objects(source) if source.objects else _read_rows(source, places[0] if places else None, invalid)
    for name, labels, split in rows:
        present, _ = merged.setdefault(normalize_name(name), (set(), split))
        present.update(filter(None, labels))
    annotations = [
        Annotation(name, present, split=split, complete=bool(present or places))
        for name, (present, split) in merged.items()
    ]
    layout = f"rows without a header, an image and {'the label of a box' if places else 'its labels'}"
    return LabelTable.of(
        annotations,
        "JSON Lines of Vertex AI" if source.objects else layout,
        notes=note_empty_images(annotations, "an object") if places else (),
        invalid=invalid,
        limits=source.limits,
    )


def _first_cells(source: Source) -> list[list[str]]:
    """The cells behind the image in the first rows."""
    return [_without_split(row)[1][1:] for row in source.require_table().rows[:PROBE_ROWS]]


def _read_rows(source: Source, place: int | None, invalid: list[str]) -> Iterator[tuple[str, list[str], str]]:
    """The image, labels and split of each row; rows that cannot be read are added to `invalid` if they are skipped.

    In rows of boxes in pixels, `place` is that of the label.
    """
    table = source.require_table()
    for number, row in zip(table.numbers, table.rows, strict=True):
        split, (name, *cells) = _without_split(row)
        problem = "" if has_image_suffix(name) else f'expected an image, got "{name}"'
        boxes = [] if place is None else _boxes_in(cells)
        if not problem and place is not None and not all(_is_box(box, place) for box in boxes):
            problem = f'expected the corners of a box and its label, got "{table.delimiter.join(cells)}"'
        if problem:
            invalid.append(f"{source.path}, row {number}: {problem}")
            if not source.options.skip_invalid:
                raise LabelrError(invalid[0], "correct the row, or leave such rows out with `--skip-invalid`")
        elif place is None:
            labels = [label for cell in _without_corners(cells) for label in _split(cell, table.delimiter)]
            yield name, labels, split
        else:
            yield name, [box[place] for box in boxes], split


def _without_corners(cells: list[str]) -> list[str]:
    """The label of a box of Vertex AI; all cells of another row."""
    is_box = len(cells) - 1 in BOX_CELLS and all(map(COORDINATE.fullmatch, cells[1:]))
    return cells[:1] if is_box else cells


def _split(cell: str, delimiter: str) -> list[str]:
    """The labels of a cell, which may be separated by commas without spaces, such as ``3,5``.

    Where commas separate cells, only numbers are.
    """
    is_list = "," in cell and ", " not in cell and (delimiter != "," or bool(read_vector(cell)))
    return cell.split(",") if is_list else [cell]


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
