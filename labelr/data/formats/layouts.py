"""The layouts of label files: recognises the layout of a source, and reads it."""

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
from labelr.data.formats.source import Match, Source
from labelr.data.label_table import LabelTable
from labelr.errors import LabelrError

LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Half of a surrogate pair; ``\\udc80`` to ``\\udcff`` are surrogate escapes of bytes that are not UTF-8."""


class Layout(NamedTuple):
    """A way to write labels.

    Attributes:
        description: What it looks like, in a few words.
        fits: The confidence that a source has it; see `Match`. A LabelrError counts as 0.
        read: Reads a source that has it.
    """

    description: str
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
"""All layouts by their names in ``--layout``."""


def recognise(source: Source) -> Match:
    """The layouts that fit a source best, among those that the user allows; computed once for each source.

    None fits a source that cannot be parsed.
    """
    if source.match is None:
        source.match = _best_match(source)
    return source.match


def _best_match(source: Source) -> Match:
    if source.problem:
        return Match(0, ())
    wanted = source.options.layout
    confidences = {name: _confidence(name, source) for name in (LAYOUTS if wanted == "auto" else [wanted])}
    best = max(confidences.values())
    return Match(best, tuple(name for name, confidence in confidences.items() if confidence == best > 0))


def _confidence(name: str, source: Source) -> int:
    try:
        return LAYOUTS[name].fits(source)
    except LabelrError:
        return 0


def read_source(source: Source) -> LabelTable:
    """The labels of a label file, or of a folder of them.

    Raises:
        LabelrError: If no layout or more than one fits, or the source violates its layout.
    """
    if source.problem:
        raise source.problem
    wanted = source.options.layout
    layouts = recognise(source).layouts if wanted == "auto" else (wanted,)
    if len(layouts) == 1:
        table = LAYOUTS[layouts[0]].read(source)
        _check_encodable(source, table)
        return table
    lines = source.first_lines()
    first_lines = f"; its first lines:\n{lines}" if lines else ""
    if layouts:
        choices = " or ".join(f"`{name}` ({LAYOUTS[name].description})" for name in layouts)
        raise LabelrError(
            f"{source.path} fits {len(layouts)} layouts{first_lines}", f"choose one with `--layout`: {choices}"
        )
    reason, remedy = _why_none(source)
    raise LabelrError(f"{reason}{first_lines}", f"{remedy}name its layout with `--layout`: {', '.join(LAYOUTS)}")


def _check_encodable(source: Source, table: LabelTable) -> None:
    """Raises LabelrError where a label cannot be written as UTF-8, as in JSON that was cut within an escape."""
    broken = [label for label in table.labels if LONE_SURROGATE.search(label)]
    if broken:
        raise LabelrError(f"{source.path}: the label {broken[0]!r} has half a character", "correct it in the file")


def _why_none(source: Source) -> tuple[str, str]:
    """Why a source fits no layout, and the remedy: what it lacks to be a wide table, or one of tags."""
    try:
        if source.table is not None:
            if len(tags.tag_columns(source.columns)) > 1:
                tags.read(source)
            wide.read(source)
    except LabelrError as error:
        return error.message, f"{error.hint}, or " if error.hint else ""
    return f"{source.path} has no layout that labelr knows", ""
