"""Folders named after labels; an image that is in several of them has several labels."""

import os
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from labelr import files
from labelr.data.formats.source import Source
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable
from labelr.errors import LabelrError


def fits(source: Source) -> int:
    """Confidence that folders are labels: 1 if all images are in at least two folders, 0 if not.

    Nested folders count only if the user names this layout.
    """
    if not source.is_folder or not source.image_files:
        return 0
    paths = {_split_and_labels(name)[1] for name in source.image_files}
    nested = source.options.layout == "folders"
    return 1 if len(paths) > 1 and all(len(path) == 1 or (nested and path) for path in paths) else 0


def read(source: Source) -> LabelTable:
    """The label table of folders named after labels.

    Exact copies of a file in several folders are one image with several labels and the name of the first copy. With
    nested folders the names of all folders above an image are its labels.
    """
    outside = [name for name in source.image_files if not _split_and_labels(name)[1]]
    if outside or not source.image_files:
        problem = f"{len(outside):,} images are in no folder, such as {outside[0]}" if outside else "no images"
        raise LabelrError(f"{source.images}: {problem}", "put each image into a folder named after its label")
    copies: dict[tuple[str, object], list[str]] = defaultdict(list)
    for name, content in zip(source.image_files, _contents(source.images, source.image_files), strict=True):
        copies[_split_and_labels(name)[0], content].append(name)
    annotations = (
        Annotation(names[0], {label for name in names for label in _split_and_labels(name)[1]}, split=split)
        for (split, _), names in copies.items()
    )
    shared = sum(len(names) > 1 for names in copies.values())
    notes = [f"images in several folders, which have several labels: {shared:,}"] if shared else []
    further = [name for names in copies.values() for name in names[1:]]
    return LabelTable.of(annotations, "folders named after labels", notes=notes, aside=further)


def _split_and_labels(name: str) -> tuple[str, tuple[str, ...]]:
    """The split that the outermost folder of an image names, empty if none, and the folders below it."""
    folders = PurePosixPath(name).parts[:-1]
    if folders and folders[0].lower() in SPLIT_NAMES:
        return SPLIT_NAMES[folders[0].lower()], folders[1:]
    return "", folders


def _contents(root: Path, names: list[str]) -> list[object]:
    """A key for the content of each file; a file whose size is unique is not read."""
    # a broken link counts as empty: it will be reported as a file that cannot be read
    sizes = [(root / name).stat().st_size if os.path.isfile(root / name) else 0 for name in names]
    count = Counter(sizes)
    return [
        (size, files.digest(root / name) or name) if size and count[size] > 1 else name
        for name, size in zip(names, sizes, strict=True)
    ]
