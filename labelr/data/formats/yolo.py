"""YOLO: text files of numbered boxes beside images or in ``labels``, and a file that names the numbers."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from labelr.data.formats.sidecar import BOX
from labelr.data.formats.source import Source, files_below, is_file, is_there, read_text
from labelr.data.images import find_images
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, relative_name
from labelr.errors import LabelrError, preview

NAME_FILES = ("obj.names", "classes.txt", "data.names")
PROBED = 20


def fits(source: Source) -> int:
    """Whether this is a ``data.yaml``, or a folder of text files of boxes: 3 it is, 0 not.

    Beside a file that names the numbers other text files may lie, such as lists of images.
    """
    if not source.is_folder:
        document = source.document
        return 3 if isinstance(document, dict) and isinstance(document.get("names"), (list, dict)) else 0
    filled = (path for path in files_below(source.path, ".txt") if path.stat().st_size)
    texts = (read_text(path).content for path in islice(filled, PROBED))
    boxes = [bool(BOX.fullmatch(line)) for text in texts for line in text.splitlines() if line.strip()]
    named = _name_file(source.path) is not None
    return 3 if any(boxes) and (named or all(boxes)) else 0


def read(source: Source) -> LabelTable:
    """The records of boxes: a label applies where the image has a box of it; in images without boxes none does.

    Raises:
        LabelrError: If numbers have no names, or a line is no box (unless such images are to be left out).
    """
    names = _names(source)
    images, notes = _images(source)
    box_files = _find_box_files([path for path, _ in images], source.path if source.is_folder else source.path.parent)
    entries, invalid, aside, bare = [], [], [], 0
    for (path, part), box_file in zip(images, box_files, strict=True):
        try:
            labels = _read_boxes(box_file, names)
        except LabelrError as error:
            if not source.options.skip_invalid:
                raise
            invalid.append(error.message)
            aside.append(relative_name(path, source.images))
            continue
        bare += not labels
        entries.append(Annotation(relative_name(path, source.images), labels, split=part))
    if bare:
        notes.append(f"images without a box, to which no label applies: {bare:,}")
    vocabulary = [label for _, label in sorted(names.items())]
    layout = "YOLO, the boxes in an image"
    return LabelTable.of(entries, layout, vocabulary=vocabulary, notes=notes, invalid=invalid, aside=aside)


def _name_file(folder: Path) -> Path | None:
    """The file of a folder, or of ``labels`` in it, that names the numbers, a line each."""
    places = [place / name for place in (folder, folder / "labels") for name in NAME_FILES]
    return next((path for path in places if path.is_file()), None)


def _names(source: Source) -> dict[int, str]:
    """The label of each number.

    Raises:
        LabelrError: If there is no file of them, or it is no list.
    """
    if source.is_folder:
        if (source.path / "data.yaml").is_file():
            return _names(Source(source.path / "data.yaml", source.images, source.options))
        path = _name_file(source.path)
        if path is None:
            raise LabelrError(
                f"{source.path} holds boxes with numbers, and no file that names them",
                "write `names: [cat, dog]` into its data.yaml, or a classes.txt with a line for each number",
            )
        lines = [line.strip() for line in read_text(path).content.splitlines()]
        return {number: line for number, line in enumerate(lines) if line}
    if not isinstance(source.document, dict):
        raise LabelrError(f"{source.path} is no data.yaml of YOLO", "name another layout with `--layout`")
    said = source.document.get("names")
    if not said or not isinstance(said, (list, dict)):
        raise LabelrError(f"{source.path} does not name its labels", "write `names: [cat, dog]` into it")
    try:
        pairs: Iterable[tuple[Any, Any]] = said.items() if isinstance(said, dict) else enumerate(said)
        named = {int(number): label for number, label in pairs}
        if any(isinstance(label, (list, dict)) for label in named.values()):
            raise TypeError
        return {number: str(label).strip() for number, label in named.items() if str(label).strip()}
    except (TypeError, ValueError, OverflowError):
        raise LabelrError(f"{source.path}: `names` is no list of labels", "write `names: [cat, dog]`") from None


def _images(source: Source) -> tuple[list[tuple[Path, str]], list[str]]:
    """The images with the part that a ``data.yaml`` says they are in, and what to say of its entries."""
    document = _part_lists(source.path) if source.is_folder else source.document
    found: dict[Path, str] = {}
    lost = []
    for key, said in document.items():
        part = SPLIT_NAMES.get(str(key).lower())
        for entry in (said if isinstance(said, list) else [said]) if part else []:
            place = _resolve(source, document, entry) if isinstance(entry, str) and entry else None
            if place is not None and part:
                found.update({path: part for path in _images_at(place) if path not in found})
            elif isinstance(entry, str) and entry:
                lost.append(f"{key}: {entry}")
    notes = [f"places that {source.path.name} names are not there: {preview(lost)}"] if lost else []
    if found:
        return list(found.items()), notes
    return [(source.images / name, "") for name in source.image_files], notes


def _part_lists(folder: Path) -> dict[str, str]:
    """The lists ``train.txt``, ``valid.txt`` and the like of a folder, by the parts they speak of."""
    return {path.stem: path.name for path in sorted(folder.glob("*.txt")) if path.stem.lower() in SPLIT_NAMES}


def _resolve(source: Source, document: Mapping[str, Any], entry: str) -> Path | None:
    """Where an entry such as ``../train/images`` lies; exporters write it relative to another folder than their own."""
    folder = source.path if source.is_folder else source.path.parent
    path = document.get("path")
    bases = [folder / (path if isinstance(path, str) else ""), folder, source.images]
    plain = "/".join(part for part in PurePosixPath(entry.replace("\\", "/")).parts if part not in ("..", ".", "/"))
    candidates = [base / one for one in (entry, plain) for base in bases]
    return next((Path(os.path.normpath(path)) for path in candidates if is_there(path)), None)


def _images_at(place: Path) -> Iterator[Path]:
    """The images in a folder, or those that a text file lists, relative to its folder or to one above it."""
    if place.is_dir():
        yield from find_images(place)
    for line in read_text(place).content.splitlines() if is_file(place) else ():
        parts = PurePosixPath(line.strip()).parts
        tails = [place.parent.joinpath(*parts[start:]) for start in range(min(3, len(parts)))]
        if tails:
            yield Path(os.path.normpath(next((path for path in tails if is_file(path)), tails[0])))


def _find_box_files(images: Sequence[Path], folder: Path) -> list[Path | None]:
    """The text file of each image: its own by its place, else the only one of its name below `folder`.

    One that is another image's own is not taken, since images of several parts may have one name.
    """
    own = [_own_box_file(image) for image in images]
    taken = {os.path.abspath(path) for path in own if path}
    of_name = defaultdict(list)
    for path in files_below(folder, ".txt"):
        of_name[path.stem].append(path)
    free = {
        name: paths[0] for name, paths in of_name.items() if len(paths) == 1 and os.path.abspath(paths[0]) not in taken
    }
    return [path or free.get(image.stem) for image, path in zip(images, own, strict=True)]


def _own_box_file(image: Path) -> Path | None:
    """The text file of an image where its folder ``images`` is ``labels``, else that beside it, if there is one."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        moved = Path(*parts[:last], "labels", *parts[last + 1 :])
        if is_file(moved):
            return moved
    return beside if is_file(beside) else None


def _read_boxes(path: Path | None, names: Mapping[int, str]) -> set[str]:
    """The labels of the boxes in a text file; none where there is no such file."""
    if path is None:
        return set()
    labels = set()
    for number, line in enumerate(read_text(path).content.splitlines(), start=1):
        if not line.strip():
            continue
        label = names.get(int(line.split()[0])) if BOX.fullmatch(line) else None
        if label is None:
            raise LabelrError(
                f'{path}, line {number}: expected the number of a label and a box, got "{line.strip()[:60]}"',
                "correct the line, or leave such images out with `--skip-invalid`",
            )
        labels.add(label)
    return labels
