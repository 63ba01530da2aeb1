"""The layouts of label files: recognises the layout of a source, and reads it."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from labelr.data.formats import camtrap, folders, json_files, keywords, listed, sidecar, vertex, wide, xml_files, yolo
from labelr.data.formats.source import Source
from labelr.data.formats.table import PROBE_SIZE
from labelr.data.label_table import LabelTable
from labelr.errors import LabelrError

SURROGATE = re.compile("[\ud800-\udfff]")
HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Half of a surrogate pair, as in JSON that was cut; the other surrogates escape bytes that are not UTF-8."""


class Layout(NamedTuple):
    """A way to write labels.

    Attributes:
        description: What it looks like, in a few words.
        fits: The confidence that a source has it; see `recognise`. A LabelrError counts as 0.
        read: Reads a source that has it.
    """

    description: str
    fits: Callable[[Source], int]
    read: Callable[[Source], LabelTable]


LAYOUTS = {
    "wide": Layout("one row an image, one column a label", wide.fits, wide.read),
    "tags": Layout("one row an image, all its labels in one cell", listed.fits_tags, listed.read_tags),
    "long": Layout("one row an image and label", listed.fits_long, listed.read_long),
    "classes": Layout("one row an image, several columns of classes", wide.fits_classes, wide.read_classes),
    "open-images": Layout("image labels or boxes of Open Images", listed.fits_open_images, listed.read_open_images),
    "camtrap-dp": Layout("media.csv and observations.csv of Camtrap DP", camtrap.fits, camtrap.read),
    "vertex": Layout("no header, an image and its labels; JSON Lines of Vertex AI", vertex.fits, vertex.read),
    "label-studio": Layout(
        "JSON, JSON-MIN or CSV of Label Studio", json_files.fits_label_studio, json_files.read_label_studio
    ),
    "cvat": Layout("CVAT for images", xml_files.fits_cvat, xml_files.read_cvat),
    "coco": Layout("COCO", json_files.fits_coco, json_files.read_coco),
    "voc": Layout("a folder of Pascal VOC", xml_files.fits_voc, xml_files.read_voc),
    "yolo": Layout("a data.yaml or folder of YOLO", yolo.fits, yolo.read),
    "tagged": Layout("a folder that `labelr tag` wrote", sidecar.fits_tagged, sidecar.read_tagged),
    "sidecar": Layout("a text file beside each image", sidecar.fits, sidecar.read),
    "xmp": Layout("keywords of photo software, in XMP", keywords.fits, keywords.read),
    "folders": Layout("folders named after labels", folders.fits, folders.read),
}
"""All layouts by their names in ``--layout``."""


def recognise(source: Source) -> tuple[int, tuple[str, ...]]:
    """The layouts that fit a source best, among those that the user allows, and the confidence in them.

    The confidence is 0 for none, 1 where they may fit, 2 where the shape fits, 3 where nothing else looks like it. None
    fits a source that cannot be parsed. The result is computed once for each source.
    """
    if source.match is None:
        wanted = source.options.layout
        allowed = () if source.problem else LAYOUTS if wanted == "auto" else (wanted,)
        confidences = {name: _confidence(name, source) for name in allowed}
        best = max(confidences.values(), default=0)
        source.match = best, tuple(name for name, confidence in confidences.items() if confidence == best > 0)
    return source.match


def _confidence(name: str, source: Source) -> int:
    try:
        return LAYOUTS[name].fits(source)
    except (LabelrError, RecursionError):
        return 0


def read_source(source: Source) -> LabelTable:
    """The labels of a label file, or of a folder of them.

    Raises:
        LabelrError: If no layout or more than one fits, or the source violates its layout.
    """
    if source.problem:
        raise source.problem
    wanted = source.options.layout
    layouts = recognise(source)[1] if wanted == "auto" else (wanted,)
    if len(layouts) == 1:
        try:
            table = LAYOUTS[layouts[0]].read(source)
        except RecursionError:
            raise LabelrError(f"{source.path} is nested too deeply", "export it again") from None
        broken = next(filter(SURROGATE.search, table.labels), None)
        if broken:
            what = "half a character" if HALF.search(broken) else "bytes that are not UTF-8"
            raise LabelrError(
                f"{source.path}: the label {broken!r} has {what}",
                "rename the folder" if source.is_folder else "name the encoding with `--encoding`, or correct it",
            )
        return replace(table, invalid=(*source.broken, *table.invalid))
    first_lines = _first_lines(source)
    if layouts:
        choices = " or ".join(f"`{name}` ({LAYOUTS[name].description})" for name in layouts)
        raise LabelrError(
            f"{source.path} fits {len(layouts)} layouts{first_lines}", f"choose one with `--layout`: {choices}"
        )
    reason, remedy = _why_none(source)
    raise LabelrError(f"{reason}{first_lines}", f"{remedy}name its layout with `--layout`: {', '.join(LAYOUTS)}")


def _first_lines(source: Source) -> str:
    """The first lines of a text file, indented, for a message; empty for a folder and for what is not text."""
    try:
        content = "" if source.is_folder else source.text.content
    except LabelrError:
        return ""
    lines = [line for line in content[:PROBE_SIZE].splitlines() if line.strip()][:3]
    shown = "\n".join(f"    {line[:120]}{'…' if len(line) > 120 else ''}" for line in lines)
    return f"; its first lines:\n{shown}" if lines else ""


def _why_none(source: Source) -> tuple[str, str]:
    """Why a source fits no layout, and the remedy: what it lacks to be a wide table, or one of tags."""
    try:
        if source.table is not None:
            if len(source.columns.label_columns) > 1:
                listed.read_tags(source)
            wide.read(source)
    except LabelrError as error:
        return error.message, f"{error.hint}, or " if error.hint else ""
    return f"{source.path} has no layout that labelr knows", ""
