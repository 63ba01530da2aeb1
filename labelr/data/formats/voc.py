"""Pascal VOC, a folder of one XML an image."""

from collections import defaultdict
from itertools import islice
from pathlib import Path, PurePosixPath

from labelr.data.formats.source import Source, files_below, parse_xml, read_text
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable
from labelr.errors import LabelrError

PROBED = 3


def fits(source: Source) -> int:
    """Whether this is a folder of XML files of Pascal VOC: 3 it is, 0 not."""
    if not source.is_folder:
        return 0
    probed = list(islice(files_below(source.path, ".xml"), PROBED))
    try:
        return 3 if probed and all(parse_xml(path).tag == "annotation" for path in probed) else 0
    except LabelrError:
        return 0


def read(source: Source) -> LabelTable:
    """The records of a folder of XML files: a label applies where the image has an object of it.

    An image goes by the name of its XML, as the file name inside is often of another machine; the ending is taken
    from there. Lists ``ImageSets/Main/train.txt`` say which part it is in, and lists ``cat_train.txt`` give it labels
    too, which CVAT writes for tags of whole images.

    Raises:
        LabelrError: If a file cannot be parsed.
    """
    parts, tagged = _read_parts(source.path), _read_lists(source.path)
    entries = []
    for path in files_below(source.path, ".xml"):
        root = parse_xml(path)
        if root.tag != "annotation":
            raise LabelrError(f"{path} is no XML of Pascal VOC", "move it out of the folder")
        labels = {name.strip() for name in (one.findtext("name") or "" for one in root.iterfind("object"))}
        named = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/"))
        stem = path.relative_to(source.path).with_suffix("").as_posix().removeprefix("Annotations/")
        labels |= tagged.get(stem, set())
        part = parts.get(stem) or SPLIT_NAMES.get(stem.split("/")[0].lower(), "")
        entries.append(Annotation(stem + named.suffix, labels, split=part))
    bare = sum(not entry.present for entry in entries)
    notes = [f"images without an object, to which no label applies: {bare:,}"] if bare else []
    return LabelTable.of(entries, "Pascal VOC, the objects in an image", notes=notes)


def _read_lists(folder: Path) -> dict[str, set[str]]:
    """The labels of each image, by its name without ending, that have a list of images of their own."""
    tagged = defaultdict(set)
    for path in sorted((folder / "ImageSets" / "Main").glob("*_*.txt")):
        label = path.stem.rpartition("_")[0]
        for line in read_text(path).content.split("\n") if path.is_file() else ():
            name, _, mark = line.strip().rpartition(" ")
            if mark == "1" and label != "background":
                tagged[name.strip()].add(label)
    return dict(tagged)


def _read_parts(folder: Path) -> dict[str, str]:
    """The part of each image by its name without ending; empty where there are no lists of parts."""
    parts = {}
    for path in sorted((folder / "ImageSets" / "Main").glob("*.txt")):
        if path.stem.lower() in SPLIT_NAMES and path.is_file():
            lines = read_text(path).content.split("\n")
            parts.update({line.strip(): SPLIT_NAMES[path.stem.lower()] for line in lines if line.strip()})
    return parts
