"""Pascal VOC: a folder with one XML file for each image."""

from collections import defaultdict
from itertools import islice
from pathlib import Path, PurePosixPath

from labelr.data.formats.source import Source, parse_xml, read_text
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, note_empty_images
from labelr.errors import LabelrError

PROBED_FILES = 3
LISTS = "ImageSets/Main"


def fits(source: Source) -> int:
    """Confidence that this is a folder of Pascal VOC: 0 or 3."""
    if not source.is_folder:
        return 0
    probed = list(islice(source.files(".xml"), PROBED_FILES))
    return 3 if probed and all(parse_xml(path).tag == "annotation" for path in probed) else 0


def read(source: Source) -> LabelTable:
    """The label table of a folder of Pascal VOC: a label applies if the image has an object of it.

    An image has the name of its XML, with the suffix of the file name inside, which is often that of another machine.
    Lists such as ``ImageSets/Main/train.txt`` name its split. Lists such as ``cat_train.txt``, which CVAT writes for
    tags of whole images, add labels.

    Raises:
        LabelrError: If the source is not a folder, or a file cannot be parsed.
    """
    if not source.is_folder:
        raise LabelrError(f"{source.path} is not a folder of Pascal VOC", "name another layout with `--layout`")
    splits, tags = _read_splits(source.path), _read_tags(source.path)
    annotations = []
    for path in source.files(".xml"):
        root = parse_xml(path)
        if root.tag != "annotation":
            raise LabelrError(f"{path} is not an XML of Pascal VOC", "move it out of the folder")
        labels = {(item.findtext("name") or "").strip() for item in root.iterfind("object")}
        named = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/"))
        stem = path.relative_to(source.path).with_suffix("").as_posix().removeprefix("Annotations/")
        labels |= tags.get(stem, set())
        split = splits.get(stem) or SPLIT_NAMES.get(stem.split("/")[0].lower(), "")
        annotations.append(Annotation(stem + named.suffix, labels, split=split))
    notes = note_empty_images(annotations, "an object")
    return LabelTable.of(annotations, "Pascal VOC, the objects in an image", notes=notes)


def _read_tags(folder: Path) -> dict[str, set[str]]:
    """The labels of each image, by its name without suffix, from the lists of single labels."""
    tags = defaultdict(set)
    for path in sorted((folder / LISTS).glob("*_*.txt")):
        label = path.stem.rpartition("_")[0]
        for line in read_text(path).content.split("\n") if path.is_file() else ():
            name, _, mark = line.strip().rpartition(" ")
            if mark == "1" and label != "background":
                tags[name.strip()].add(label)
    return dict(tags)


def _read_splits(folder: Path) -> dict[str, str]:
    """The split of each image, by its name without suffix; empty without lists of splits."""
    splits = {}
    for path in sorted((folder / LISTS).glob("*.txt")):
        if path.stem.lower() in SPLIT_NAMES and path.is_file():
            lines = read_text(path).content.split("\n")
            splits.update({line.strip(): SPLIT_NAMES[path.stem.lower()] for line in lines if line.strip()})
    return splits
