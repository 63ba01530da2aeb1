"""YOLO: text files of boxes with label numbers beside images or in ``labels``, and a file that names the numbers."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from labelr.data.formats.sidecar import BOX
from labelr.data.formats.source import Source, readable_lines
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable, note_empty_images, relative_name
from labelr.errors import LabelrError, preview

NAME_FILES = ("obj.names", "classes.txt", "data.names")
PROBED_FILES = 20


def fits(source: Source) -> int:
    """Confidence that this is a ``data.yaml``, or a folder of text files of boxes: 0 or 3.

    With a file of label names, other text files such as lists of images may be in the folder.
    """
    if not source.is_folder:
        document = source.document
        return 3 if isinstance(document, dict) and isinstance(document.get("names"), (list, dict)) else 0
    filled = (path for path in source.files(".txt") if path.stat().st_size)
    lines = readable_lines(islice(filled, PROBED_FILES), source.options.encoding)
    boxes = [bool(BOX.fullmatch(line)) for line in lines]
    named = _find_name_file(source.path) is not None
    return 3 if any(boxes) and (named or all(boxes)) else 0


def read(source: Source) -> LabelTable:
    """The label table of boxes: a label applies if the image has a box of it; none does to images without boxes.

    Raises:
        LabelrError: If label numbers have no names, or a line is not a box, unless such images are skipped.
    """
    names = _read_names(source)
    images, notes = _find_listed_images(source)
    box_files = _find_box_files([path for path, _ in images], source)
    annotations, invalid, aside = [], [], []
    for (path, split), box_file in zip(images, box_files, strict=True):
        name = relative_name(path, source.images)
        try:
            annotations.append(Annotation(name, _read_boxes(source, box_file, names), split=split))
        except LabelrError as error:
            if not source.options.skip_invalid:
                hint = error.hint or "correct the file or its permissions, or skip such images with `--skip-invalid`"
                raise LabelrError(error.message, hint) from error
            invalid.append(error.message)
            aside.append(name)
    return LabelTable.of(
        annotations,
        "YOLO, the boxes in an image",
        vocabulary=[label for _, label in sorted(names.items())],
        notes=[*notes, *note_empty_images(annotations, "a box")],
        invalid=invalid,
        aside=aside,
        limits=source.limits,
    )


def _find_name_file(folder: Path) -> Path | None:
    """The file in a folder, or in ``labels`` below it, that names the label numbers, one a line."""
    candidates = [place / name for place in (folder, folder / "labels") for name in NAME_FILES]
    return next((path for path in candidates if os.path.isfile(path)), None)


def _read_names(source: Source) -> dict[int, str]:
    """The label of each number."""
    if source.is_folder and os.path.isfile(source.path / "data.yaml"):
        return _read_names(source.beside(source.path / "data.yaml"))
    if source.is_folder:
        path = _find_name_file(source.path)
        if path is None:
            raise LabelrError(
                f"{source.path} holds boxes with numbers, and no file that names them",
                "write `names: [cat, dog]` into its data.yaml, or a classes.txt with a line for each number",
            )
        lines = [line.strip() for line in source.read(path).content.splitlines()]
        return {number: line for number, line in enumerate(lines) if line}
    if not isinstance(source.document, dict):
        raise LabelrError(f"{source.path} is not a data.yaml of YOLO", "name another layout with `--layout`")
    names = source.document.get("names")
    if not names or not isinstance(names, (list, dict)):
        raise LabelrError(f"{source.path} does not name its labels", "write `names: [cat, dog]` into it")
    try:
        pairs: Iterable[tuple[Any, Any]] = names.items() if isinstance(names, dict) else enumerate(names)
        numbered = {int(number): label for number, label in pairs}
        if any(isinstance(label, (list, dict)) for label in numbered.values()):
            raise TypeError
        return {number: str(label).strip() for number, label in numbered.items() if str(label).strip()}
    except (TypeError, ValueError, OverflowError):
        raise LabelrError(f"{source.path}: `names` is not a list of labels", "write `names: [cat, dog]`") from None


def _find_listed_images(source: Source) -> tuple[list[tuple[Path, str]], list[str]]:
    """The images with the split under which a ``data.yaml`` lists them, and a note on entries that do not exist."""
    if source.is_folder:  # lists such as ``train.txt`` and ``valid.txt``
        lists = sorted(source.path.glob("*.txt"))
        document = {path.stem: path.name for path in lists if path.stem.lower() in SPLIT_NAMES}
    else:
        document = source.document
    found: dict[Path, str] = {}
    missing = []
    for key, value in document.items():
        split = SPLIT_NAMES.get(str(key).lower())
        for entry in (value if isinstance(value, list) else [value]) if split else []:
            place = _resolve(source, document, entry) if isinstance(entry, str) and entry else None
            if place is not None and split:
                found.update({path: split for path in _images_at(source, place) if path not in found})
            elif isinstance(entry, str) and entry:
                missing.append(f"{key}: {entry}")
    notes = [f"paths in {source.path.name} that do not exist: {preview(missing)}"] if missing else []
    if found:
        return list(found.items()), notes
    return [(source.images / name, "") for name in source.image_files], notes


def _resolve(source: Source, document: Mapping[str, Any], entry: str) -> Path | None:
    """The path of an entry such as ``../train/images``; exporters write it relative to various folders."""
    folder = source.path if source.is_folder else source.path.parent
    path = document.get("path")
    bases = [folder / (path if isinstance(path, str) else ""), folder, source.images]
    steps = PurePosixPath(entry.replace("\\", "/")).parts
    plain = "/".join(step for step in steps if step not in ("..", ".", "/"))
    candidates = [base / name for name in (entry, plain) for base in bases]
    return next((Path(os.path.normpath(path)) for path in candidates if os.path.exists(path)), None)


def _images_at(source: Source, place: Path) -> Iterator[Path]:
    """The images in a folder, or those in a list file, relative to its folder or to one above it."""
    if os.path.isdir(place):
        yield from source.index.find_images(place)
    for line in source.read(place).content.splitlines() if os.path.isfile(place) else ():
        exact = place.parent / line
        if line != line.strip() and os.path.isfile(exact):
            yield Path(os.path.normpath(exact))
            continue
        steps = PurePosixPath(line.strip()).parts
        candidates = [place.parent.joinpath(*steps[start:]) for start in range(min(3, len(steps)))]
        if candidates:
            yield Path(os.path.normpath(next((path for path in candidates if os.path.isfile(path)), candidates[0])))


def _find_box_files(images: Sequence[Path], source: Source) -> list[Path | None]:
    """The text file of each image: its own by its place, else the only one of that name below the source.

    The file of another image is not taken, since images of several splits may have the same name.
    """
    own = [_own_box_file(image) for image in images]
    taken = {os.path.abspath(path) for path in own if path}
    by_stem = defaultdict(list)
    for path in source.files(".txt"):
        by_stem[path.stem].append(path)
    free = {
        stem: paths[0] for stem, paths in by_stem.items() if len(paths) == 1 and os.path.abspath(paths[0]) not in taken
    }
    return [path or free.get(image.stem) for image, path in zip(images, own, strict=True)]


def _own_box_file(image: Path) -> Path | None:
    """The text file of an image in ``labels`` instead of ``images``, or beside it; None if there is none."""
    folders, steps = [image.parent], list(image.parts[:-1])
    if "images" in steps:
        last = len(steps) - 1 - steps[::-1].index("images")
        folders.insert(0, Path(*steps[:last], "labels", *steps[last + 1 :]))
    paths = (folder / f"{image.stem}{suffix}" for folder in folders for suffix in (".txt", ".TXT"))
    return next(filter(os.path.isfile, paths), None)


def _read_boxes(source: Source, path: Path | None, names: Mapping[int, str]) -> set[str]:
    """The labels of the boxes in a text file; empty without a file."""
    labels = set()
    lines = source.read(path).content.splitlines() if path else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        label = names.get(int(line.split()[0])) if BOX.fullmatch(line) else None
        if label is None:
            raise LabelrError(
                f'{path}, line {number}: expected the number of a label and a box, got "{line.strip()[:60]}"',
                "correct the line, or skip such images with `--skip-invalid`",
            )
        labels.add(label)
    return labels
