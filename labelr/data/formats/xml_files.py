"""XML: CVAT for images, which is one file, and Pascal VOC, which is a folder with a file for each image."""

from collections import defaultdict
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from labelr.data.formats.parsers import parse_xml
from labelr.data.formats.source import Source
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, note_empty_images, split_in_name
from labelr.errors import LabelrError, preview

CVAT_HEAD = 2000
"""The root element of CVAT is searched in this many characters."""
VOC_PROBED_FILES = 10
VOC_LISTS = "ImageSets/Main"


def fits_cvat(source: Source) -> int:
    """Confidence that this is an XML of CVAT: 0 or 3."""
    return 3 if source.suffix == ".xml" and "<annotations" in source.text.content[:CVAT_HEAD] else 0


def read_cvat(source: Source) -> LabelTable:
    """The label table of a CVAT XML: a label applies if the image has a tag or shape of it.

    Declared labels that no image has are kept. To images without annotations no label applies. Attributes, such as the
    weather of a scene, are not read.
    """
    root = parse_xml(source.path, source.limits) if source.suffix == ".xml" else None
    if root is None or root.tag != "annotations":
        raise LabelrError(f"{source.path} is not an XML of CVAT", "name another layout with `--layout`")
    images = root.findall("image")
    if not images and root.find("track") is not None:
        raise LabelrError(f"{source.path} holds tracks of a video", 'export it from CVAT as "CVAT for images"')
    declared = [name.text.strip() for name in root.iterfind("meta[1]//labels/label/name") if name.text]
    has_subsets = len({image.get("subset") for image in images}) > 1  # names may repeat in another subset
    annotations = [
        Annotation(
            f"{image.get('subset')}/{image.get('name')}" if has_subsets else image.get("name", ""),
            {label.strip() for shape in image if (label := shape.get("label"))},
            split=split_in_name(image.get("subset", "")),
        )
        for image in images
    ]
    attributes = dict.fromkeys(item.get("name", "") for item in root.iterfind("image/*/attribute"))
    notes = note_empty_images(annotations, "an annotation")
    if attributes:
        notes.append(f"attributes of annotations, not read: {preview(list(attributes), 10)}")
    return LabelTable.of(annotations, "CVAT for images", vocabulary=declared or None, notes=notes, limits=source.limits)


def fits_voc(source: Source) -> int:
    """Confidence that this is a folder of Pascal VOC: 0 or 3."""
    if not source.is_folder:
        return 0
    tags = []
    for path in islice(source.files(".xml"), VOC_PROBED_FILES):
        with suppress(LabelrError):  # reported when it is read
            tags.append(parse_xml(path, source.limits).tag)
    return 3 if 2 * tags.count("annotation") > len(tags) else 0


def read_voc(source: Source) -> LabelTable:
    """The label table of a folder of Pascal VOC: a label applies if the image has an object of it.

    An image has the name of its XML, with the suffix of the file name inside, which is often that of another machine.
    Lists such as ``ImageSets/Main/train.txt`` name its split. Lists such as ``cat_train.txt``, which CVAT writes for
    tags of whole images, add labels.

    Raises:
        LabelrError: If the source is not a folder, or a file cannot be parsed, unless such files are skipped.
    """
    if not source.is_folder:
        raise LabelrError(f"{source.path} is not a folder of Pascal VOC", "name another layout with `--layout`")
    splits, tags = _read_voc_splits(source), _read_voc_tags(source)
    annotations: list[Annotation] = []
    invalid: dict[str, str] = {}
    for path in source.files(".xml"):
        stem = path.relative_to(source.path).with_suffix("").as_posix().removeprefix("Annotations/")
        try:
            root = parse_xml(path, source.limits)
            if root.tag != "annotation":
                raise LabelrError(f"{path} is not an XML of Pascal VOC", "move it out of the folder")
            labels = _read_objects(path, root)
        except LabelrError as error:
            if not source.options.skip_invalid:
                others = f"{error.hint}, or " if error.hint else ""
                raise LabelrError(error.message, f"{others}leave it out with `--skip-invalid`") from error
            invalid[stem] = error.message
            continue
        named = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/"))
        labels |= tags.get(stem, set())
        split = splits.get(stem) or SPLIT_NAMES.get(stem.split("/")[0].lower(), "")
        annotations.append(Annotation(stem + named.suffix, labels, split=split))
    notes = note_empty_images(annotations, "an object")
    layout = "Pascal VOC, the objects in an image"
    return LabelTable.of(
        annotations, layout, notes=notes, invalid=list(invalid.values()), aside=list(invalid), limits=source.limits
    )


def _read_objects(path: Path, root: Element) -> set[str]:
    """The names of the objects in an image. Raises LabelrError if one has none."""
    names = [(item.findtext("name") or "").strip() for item in root.iterfind("object")]
    if "" in names:
        raise LabelrError(f"{path}: object {names.index('') + 1} has no name", "name it")
    return set(names)


def _read_voc_tags(source: Source) -> dict[str, set[str]]:
    """The labels of each image, by its name without suffix, from the lists of single labels."""
    tags = defaultdict(set)
    for path in sorted((source.path / VOC_LISTS).glob("*_*.txt")):
        label = path.stem.rpartition("_")[0]
        for line in source.read(path).content.split("\n") if path.is_file() else ():
            name, _, mark = line.strip().rpartition(" ")
            if mark == "1" and label != "background":
                tags[name.strip()].add(label)
    return tags


def _read_voc_splits(source: Source) -> dict[str, str]:
    """The split of each image, by its name without suffix; empty without lists of splits."""
    splits = {}
    for path in sorted((source.path / VOC_LISTS).glob("*.txt")):
        if path.stem.lower() in SPLIT_NAMES and path.is_file():
            lines = source.read(path).content.split("\n")
            splits.update({line.strip(): SPLIT_NAMES[path.stem.lower()] for line in lines if line.strip()})
    return splits
