"""The table of layouts, and which of them a label file has."""

import re
from collections.abc import Callable
from typing import NamedTuple

from labelr.data.formats import (
    coco,
    cvat,
    folders,
    label_studio,
    long,
    sidecar,
    tagged,
    tags,
    vertex,
    voc,
    wide,
    yolo,
)
from labelr.data.formats.sheet import find_file_column
from labelr.data.formats.source import Source
from labelr.data.label_table import LabelTable
from labelr.errors import LabelrError

HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""A surrogate without its partner, but for those that stand for a byte of a name that is not UTF-8."""


class Layout(NamedTuple):
    """A way to write labels.

    Attributes:
        what: What it looks like, in a few words.
        fits: How surely a source has it: 0 not, 1 perhaps, 2 by its shape, 3 by what no other has.
        read: Reads such a source.
    """

    what: str
    fits: Callable[[Source], int]
    read: Callable[[Source], LabelTable]


LAYOUTS = {
    "wide": Layout("one row an image, one column a label", wide.fits, wide.read),
    "tags": Layout("one row an image, all its labels in one cell", tags.fits, tags.read),
    "long": Layout("one row an image and label", long.fits, long.read),
    "open-images": Layout("image labels or boxes of Open Images", long.fits_open_images, long.read_open_images),
    "vertex": Layout("no header, an image and its labels; JSON Lines of Vertex AI", vertex.fits, vertex.read),
    "label-studio": Layout("JSON, JSON-MIN or CSV of Label Studio", label_studio.fits, label_studio.read),
    "cvat": Layout("CVAT for images", cvat.fits, cvat.read),
    "coco": Layout("COCO", coco.fits, coco.read),
    "voc": Layout("a folder of Pascal VOC", voc.fits, voc.read),
    "yolo": Layout("a data.yaml or folder of YOLO", yolo.fits, yolo.read),
    "tagged": Layout("a folder that `labelr tag` wrote", tagged.fits, tagged.read),
    "sidecar": Layout("a text file beside each image", sidecar.fits, sidecar.read),
    "folders": Layout("folders named after labels", folders.fits, folders.read),
}
"""All layouts by the names that ``--layout`` has for them."""


def recognise(source: Source) -> tuple[int, list[str]]:
    """How surely a source has a layout, and those that fit it so, among those that the user allows.

    A source that cannot be parsed fits none.
    """
    wanted = source.options.layout
    if source.problem:
        return 0, []
    fitness = {}
    for name in LAYOUTS if wanted == "auto" else [wanted]:
        try:
            fitness[name] = LAYOUTS[name].fits(source)
        except LabelrError:
            fitness[name] = 0
    best = max(fitness.values())
    return best, [name for name, one in fitness.items() if one == best > 0]


def read_source(source: Source) -> LabelTable:
    """The records of a label file, or a folder of them.

    Raises:
        LabelrError: If no layout or more than one fits, or the source is not what its layout demands.
    """
    if source.problem:
        raise source.problem
    wanted = source.options.layout
    names = recognise(source)[1] if wanted == "auto" else [wanted]
    if len(names) == 1:
        return _checked(LAYOUTS[names[0]].read(source), source)
    lines = source.first_lines()
    begins = f"; it begins:\n{lines}" if lines else ""
    if names:
        choices = " or ".join(f"`{name}` ({LAYOUTS[name].what})" for name in names)
        raise LabelrError(
            f"{source.path} may be read in {len(names)} ways{begins}", f"say which with `--layout`: {choices}"
        )
    what, remedy = _why_none(source)
    raise LabelrError(f"{what}{begins}", f"{remedy}name its layout with `--layout`: {', '.join(LAYOUTS)}")


def _checked(records: LabelTable, source: Source) -> LabelTable:
    """The records, unless a label of them could never be written.

    Raises:
        LabelrError: If a label holds half a character, as JSON may where a text was cut.
    """
    halves = [label for label in records.labels if HALF_CHARACTER.search(label)]
    if halves:
        raise LabelrError(f"{source.path}: the label {halves[0]!r} holds half a character", "correct it in the file")
    return records


def _why_none(source: Source) -> tuple[str, str]:
    """Why a source fits no layout, and the remedy: what it lacks to be a wide table, or one of tags."""
    try:
        if source.sheet is not None:
            if len(tags.tag_columns(source.sheet, find_file_column(source.sheet), source.options)) > 1:
                tags.read(source)
            wide.read(source)
    except LabelrError as error:
        return error.message, f"{error.hint}, or " if error.hint else ""
    return f"{source.path} has no layout that labelr knows", ""
