"""CVAT for images, an XML of tags and shapes."""

from xml.etree.ElementTree import Element

from labelr.data.formats.source import Source
from labelr.data.label_table import Annotation, LabelTable, split_in_name
from labelr.errors import LabelrError

SNIFFED = 2000  # characters at the beginning of a file among which its root element stands


def fits(source: Source) -> int:
    """Whether this is an XML of CVAT: 3 it is, 0 not."""
    return 3 if source.suffix == ".xml" and "<annotations" in source.text.content[:SNIFFED] else 0


def read(source: Source) -> LabelTable:
    """The records of a CVAT XML: a label applies where a tag or a shape of it stands in the image.

    Labels that the file declares and no image has are kept; in images without any annotation no label applies.
    """
    root = source.xml_root()
    if root is None or root.tag != "annotations":
        raise LabelrError(f"{source.path} is no XML of CVAT", "name another layout with `--layout`")
    images = root.findall("image")
    if not images and root.find("track") is not None:
        raise LabelrError(f"{source.path} holds tracks of a video", 'export it from CVAT as "CVAT for images"')
    meta = root.find("meta")
    declared = (
        [] if meta is None else [name.text.strip() for name in meta.iterfind(".//labels/label/name") if name.text]
    )
    bare = sum(not _labels_of(image) for image in images)
    notes = [f"images without an annotation, to which no label applies: {bare:,}"] if bare else []
    divided = len({image.get("subset") for image in images}) > 1  # names may come again in another subset
    entries = (
        Annotation(
            f"{image.get('subset')}/{image.get('name')}" if divided else image.get("name", ""),
            _labels_of(image),
            split=split_in_name(image.get("subset", "")),
        )
        for image in images
    )
    return LabelTable.of(entries, "CVAT for images", vocabulary=declared or None, notes=notes)


def _labels_of(image: Element) -> set[str]:
    return {label.strip() for shape in image if (label := shape.get("label"))}
