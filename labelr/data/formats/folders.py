"""Folders that are named after labels; an image that lies in several has several."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from labelr.data.formats.source import Source
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable
from labelr.errors import LabelrError


def fits(source: Source) -> int:
    """Whether all images lie in two folders or more, one deep unless the user names this layout: 1 they do, 0 not."""
    if not source.is_folder or not source.image_files:
        return 0
    folders = {_folders_of(name)[1] for name in source.image_files}
    deep = source.options.layout == "folders"
    return 1 if len(folders) > 1 and all(len(one) == 1 or (deep and one) for one in folders) else 0


def read(source: Source) -> LabelTable:
    """The records of folders that are named after labels.

    Copies of one file, byte for byte, in several folders are one image with several labels, and go by the name of the
    first. In folders below folders the names of all those above an image are its labels.
    """
    outside = [name for name in source.image_files if not _folders_of(name)[1]]
    if outside or not source.image_files:
        what = f"{len(outside):,} images lie in no folder, such as {outside[0]}" if outside else "there are no images"
        raise LabelrError(f"{source.images}: {what}", "put each image into a folder named after its label")
    copies: dict[tuple[str, object], list[str]] = defaultdict(list)
    for name, content in zip(source.image_files, _contents(source.images, source.image_files), strict=True):
        copies[_folders_of(name)[0], content].append(name)
    entries = (
        Annotation(names[0], {label for name in names for label in _folders_of(name)[1]}, split=part)
        for (part, _), names in copies.items()
    )
    further = [name for names in copies.values() for name in names[1:]]
    shared = sum(len(names) > 1 for names in copies.values())
    notes = [f"images that lie in several folders and have several labels: {shared:,}"] if shared else []
    return LabelTable.of(entries, "folders named after labels", notes=notes, aside=further)


def _folders_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The part that an image's outermost folder is named after, if it is, and the folders below that."""
    folders = PurePosixPath(name).parts[:-1]
    if folders and folders[0].lower() in SPLIT_NAMES:
        return SPLIT_NAMES[folders[0].lower()], folders[1:]
    return "", folders


def _contents(root: Path, names: list[str]) -> list[object]:
    """What tells the contents of files apart: a file whose size no other has is not read."""
    sizes = [_size(root / name) for name in names]
    count = Counter(sizes)
    return [
        (size, _digest(root / name)) if size and count[size] > 1 else name
        for name, size in zip(names, sizes, strict=True)
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a broken link: it will be reported as a file that cannot be read
        return 0


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(path)
