"""CVAT for images: an XML of tags and shapes."""

from xml.etree.ElementTree import Element

from labelr.data.formats.source import Source, parse_xml
from labelr.data.label_table import Annotation, LabelTable, note_empty_images, split_in_name
from labelr.errors import LabelrError

HEAD = 2000
"""The root element is searched in this many characters."""


def fits(source: Source) -> int:
    """Confidence that this is an XML of CVAT: 0 or 3."""
    return 3 if source.suffix == ".xml" and "<annotations" in source.text.content[:HEAD] else 0


def read(source: Source) -> LabelTable:
    """The label table of a CVAT XML: a label applies if the image has a tag or shape of it.

    Declared labels that no image has are kept. To images without annotations no label applies.
    """
    root = parse_xml(source.path) if source.suffix == ".xml" else None
    if root is None or root.tag != "annotations":
        raise LabelrError(f"{source.path} is not an XML of CVAT", "name another layout with `--layout`")
    images = root.findall("image")
    if not images and root.find("track") is not None:
        raise LabelrError(f"{source.path} holds tracks of a video", 'export it from CVAT as "CVAT for images"')
    meta = root.find("meta")
    names = [] if meta is None else [name.text for name in meta.iterfind(".//labels/label/name")]
    declared = [name.strip() for name in names if name]
    has_subsets = len({image.get("subset") for image in images}) > 1  # names may repeat in another subset
    annotations = [
        Annotation(
            f"{image.get('subset')}/{image.get('name')}" if has_subsets else image.get("name", ""),
            _labels_of(image),
            split=split_in_name(image.get("subset", "")),
        )
        for image in images
    ]
    notes = note_empty_images(annotations, "an annotation")
    return LabelTable.of(annotations, "CVAT for images", vocabulary=declared or None, notes=notes)


def _labels_of(image: Element) -> set[str]:
    return {label.strip() for shape in image if (label := shape.get("label"))}
