"""From data folders to a label table: label files found and read, and their images looked for."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelr.config import ReadOptions
from labelr.data.find import find_sources, parts_of
from labelr.data.formats.layouts import read_source
from labelr.data.formats.records import Records, part_in
from labelr.data.formats.source import Source
from labelr.data.labels import LabelTable
from labelr.data.match_images import Found, ImageFinder
from labelr.data.reading import Reading, check_once, join_readings, merge_records
from labelr.errors import LabelrError, preview, suggest


def read_labels(data: Sequence[Path], options: ReadOptions) -> Reading:
    """What the label files of data folders say; several folders are one data set.

    Args:
        data: The folders; where label files are named, one for each.
        options: Where label files and images are, how they are read, and which labels are wanted.

    Raises:
        LabelrError: If a folder or label file is not there or cannot be understood, or none of the images is there.
    """
    readings = [_read_folder(folder, one) for folder, one in zip(data, _options_of_each(data, options), strict=True)]
    whole = readings[0] if len(readings) == 1 else join_readings(readings)
    table = _with_wanted_labels(whole, options)
    known = ~np.isnan(table.targets).all(axis=1)
    if not known.any():
        raise LabelrError(f"{table.source}: no image has a known label", "mark with 1 which labels an image has")
    unlabelled = tuple(table.files[row] for row in np.flatnonzero(~known))
    return replace(whole, table=table.take(np.flatnonzero(known)), unlabelled=unlabelled)


def _options_of_each(data: Sequence[Path], options: ReadOptions) -> list[ReadOptions]:
    """The options of each of several folders: label files that the user names belong to them in their order."""
    if len(data) == 1 or not options.labels:
        return [options] * len(data)
    if len(options.labels) != len(data):
        raise LabelrError(
            f"{len(data)} data folders, and {len(options.labels)} label files for them",
            "give `--labels` once for each folder, in the same order, or leave it out",
        )
    return [replace(options, labels=(file,)) for file in options.labels]


def _read_folder(data: Path, options: ReadOptions) -> Reading:
    if not data.is_dir():
        what = "is a file" if data.exists() else "does not exist"
        raise LabelrError(f"the data folder {data} {what}", "name a folder that holds images and a label file")
    usual = data / "images"
    images = Path(options.images) if options.images else usual if usual.is_dir() else data
    if not images.is_dir():
        raise LabelrError(f"the image folder {images} does not exist", "name the folder of the images with `--images`")
    sources = find_sources(data, images, options)
    records = [read_source(source) for source in sources]
    if options.group and any(one.groups is None for one in records):
        raise LabelrError(f"{sources[0].path} has no columns to take groups from", "leave `--group` out")
    finder = ImageFinder(images if options.images else data)
    triples = [
        (one, _bases(source, finder, images), part or _part_inside(source, finder))
        for one, source, part in zip(records, sources, parts_of(sources), strict=True)
    ]
    found = [finder.find(one.names, bases, one.parts, own_part=part) for one, bases, part in triples]
    aside = [finder.find(one.aside, bases, own_part=part) for one, bases, part in triples]
    others = {file for one in aside for file in one.files if file is not None}
    return _assemble(data, images, sources, merge_records(data, sources, records), found, others, finder)


def _bases(source: Source, finder: ImageFinder, images: Path) -> list[Path]:
    """The folders that a source's names may be relative to, the likeliest first."""
    return [*_folder_inside(source, finder), images, finder.folder]


def _part_inside(source: Source, finder: ImageFinder) -> str:
    """The part that the folder of a label file is named after, as ``train/_classes.csv``; empty for none."""
    return next((part_in(folder.name) for folder in _folder_inside(source, finder)), "")


def _folder_inside(source: Source, finder: ImageFinder) -> list[Path]:
    """The folder of a source if it is one inside of the finder's."""
    folder = source.path if source.is_folder else source.path.parent
    return [folder] if folder != finder.folder and folder.is_relative_to(finder.folder) else []


def _assemble(
    data: Path,
    images: Path,
    sources: Sequence[Source],
    records: Records,
    found: Sequence[Found],
    aside: Collection[str],
    finder: ImageFinder,
) -> Reading:
    """The reading of one data folder from its records and the files of their images."""
    every = [file for one in found for file in one.files]
    below = os.path.relpath(images, finder.folder).replace(os.sep, "/") + "/"
    inside = below != "./" and all(file.startswith(below) for file in every if file is not None)
    root, prefix = (images, below) if inside else (finder.folder, "")
    present = [row for row, file in enumerate(every) if file is not None]
    files = [file.removeprefix(prefix) for file in every if file is not None]
    check_once(sources[0].path if len(sources) == 1 else data, files, [records.names[row] for row in present])
    notes = [*records.notes, *dict.fromkeys(f"images are found {one.how}" for one in found if one.how)]
    parts, note = _complete_parts([records.parts[row] for row in present] if records.parts else [])
    table = LabelTable(
        source=sources[0].path if len(sources) == 1 else data,
        layout=_layout(sources, records),
        root=root,
        files=tuple(files),
        labels=records.labels,
        targets=records.targets[present],
        groups=tuple(records.groups[row] for row in present) if records.groups else None,
        parts=parts,
    )
    missing = tuple(name for name, file in zip(records.names, every, strict=True) if file is None)
    if not records.names:
        raise LabelrError(
            f"{table.source} names no images that are there", "see whether it is the right file or folder"
        )
    if missing and not files:
        raise LabelrError(missing_message(table, missing), "name the folder that holds the images with `--images`")
    listed = {*files, *(file.removeprefix(prefix) for file in aside)}
    others = [file.removeprefix(prefix) for file in finder.files if file.startswith(prefix)]
    return Reading(
        table,
        missing,
        unlisted=tuple(file for file in others if file not in listed),
        columns=frozenset(name for source in sources for name in (source.sheet.header if source.sheet else ())),
        notes=(*notes, *note),
        invalid=records.invalid,
    )


def _complete_parts(parts: Sequence[str]) -> tuple[tuple[str, ...] | None, list[str]]:
    """The part of each image, and what is to be said of it; None where all are train, which says nothing."""
    if not parts or set(parts) <= {"train", ""}:
        return None, []
    without = sum(not part for part in parts)
    note = [f"images without a part, which count as train: {without:,}"] if without else []
    return tuple(part or "train" for part in parts), note


def _layout(sources: Sequence[Source], records: Records) -> str:
    """How label files were read: their layout, their number, and encodings other than UTF-8."""
    number = [f"{len(sources)} files"] if len(sources) > 1 else []
    encodings = {source.text.encoding for source in sources if not source.is_folder} - {""}
    return ", ".join([records.layout, *number, *(f"in {one}" for one in sorted(encodings))])


def missing_message(table: LabelTable, missing: Sequence[str]) -> str:
    """How many images are named and not there, and the first of them."""
    total = len(table) + len(missing)
    return f"{len(missing):,} of {total:,} images in {table.source.name} are not in {table.root}: {preview(missing)}"


def _with_wanted_labels(reading: Reading, options: ReadOptions) -> LabelTable:
    table = reading.table
    for label in (*options.only, *options.exclude):
        known = {*table.labels, *(reading.columns if label in options.exclude else ())}
        if label not in known:
            raise LabelrError(f"{table.source} has no label {label!r}", suggest(label, known))
    kept = [label for label in dict.fromkeys(options.only or table.labels) if label not in options.exclude]
    if not kept:
        raise LabelrError("no label is left", "exclude fewer with `--exclude`")
    return table if kept == list(table.labels) else table.with_labels(kept)
