"""From data folders to a label table: label files found and read, and their images looked for."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelr.config import ReadOptions
from labelr.data.find import are_parts, find_sources, part_of
from labelr.data.formats.layouts import read_source
from labelr.data.formats.records import Records
from labelr.data.formats.source import Source
from labelr.data.labels import LabelTable, Targets
from labelr.data.names import Found, ImageFinder
from labelr.errors import LabelrError, nearest, some


@dataclass(frozen=True)
class Reading:
    """What was understood of a data set.

    Attributes:
        table: The images that are named and there.
        missing: The images that are named and not there.
        unlisted: The images that are there and not named, relative to the table's root.
        unlabelled: The images that are named and of which no label is known; they are left out of the table.
        notes: What was assumed, left out or odd, a sentence each.
        invalid: The rows that were left out, each with its reason.
    """

    table: LabelTable
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()


def read_labels(data: Sequence[Path], options: ReadOptions) -> Reading:
    """What the label files of data folders say; several folders are one data set.

    Args:
        data: The folders.
        options: Where label files and images are, how they are read, and which labels are wanted.

    Raises:
        LabelrError: If a folder or label file is not there or cannot be understood, or none of the images is there.
    """
    readings = [_read_folder(folder, options) for folder in data]
    whole = readings[0] if len(readings) == 1 else _join(readings)
    return replace(whole, table=_with_wanted_labels(whole.table, options))


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
    found = [_find(finder, source, one, images, data) for source, one in zip(sources, records, strict=True)]
    return _assemble(data, images, sources, _merge(sources, records), found, finder)


def _find(finder: ImageFinder, source: Source, records: Records, images: Path, data: Path) -> Found:
    """Where the images of a source's records are, and what to say of their names."""
    folder = source.path if source.is_folder else source.path.parent
    inside = folder != data and folder.is_relative_to(finder.folder)
    bases = [folder, images, finder.folder] if inside else [images, finder.folder]
    return finder.find(records.names, bases, records.parts)


def _merge(sources: Sequence[Source], records: Sequence[Records]) -> Records:
    """The records of several label files of one folder as one; each file may be a part."""
    if len(records) == 1:
        return records[0]
    labels = tuple(dict.fromkeys(label for one in records for label in one.labels))
    if all(one.closed for one in records):
        labels = tuple(sorted(labels))
    parts = [part_of(source) for source in sources] if are_parts(sources) else [""] * len(sources)
    spread = [one.parts or (part,) * len(one.names) for one, part in zip(records, parts, strict=True)]
    return Records(
        records[0].layout,
        tuple(name for one in records for name in one.names),
        labels,
        np.concatenate([_spread(one.labels, one.targets, labels, closed=one.closed) for one in records]),
        groups=tuple(group for one in records for group in one.groups or ()) or None,
        parts=tuple(part for one in spread for part in one) if any(map(any, spread)) else None,
        notes=tuple(dict.fromkeys(note for one in records for note in one.notes)),
        invalid=tuple(reason for one in records for reason in one.invalid),
    )


def _assemble(
    data: Path,
    images: Path,
    sources: Sequence[Source],
    records: Records,
    found: Sequence[Found],
    finder: ImageFinder,
) -> Reading:
    """The reading of one data folder from its records and the files of their images."""
    every = [file for one in found for file in one.files]
    below = os.path.relpath(images, finder.folder).replace(os.sep, "/") + "/"
    inside = below != "./" and all(file.startswith(below) for file in every if file is not None)
    root, prefix = (images, below) if inside else (finder.folder, "")
    present = [row for row, file in enumerate(every) if file is not None]
    files = [file.removeprefix(prefix) for file in every if file is not None]
    _check_once(sources[0].path, files, [records.names[row] for row in present])
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
    known = ~np.isnan(table.targets).all(axis=1)
    if not known.any():
        raise LabelrError(f"{table.source}: no image has a known label", "mark with 1 which labels an image has")
    listed = set(files)
    others = [file.removeprefix(prefix) for file in finder.files if file.startswith(prefix)]
    return Reading(
        table.take(np.flatnonzero(known)),
        missing,
        unlisted=tuple(file for file in others if file not in listed),
        unlabelled=tuple(files[row] for row in np.flatnonzero(~known)),
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
    return f"{len(missing):,} of {total:,} images in {table.source.name} are not in {table.root}: {some(missing)}"


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else os.path.abspath(path)


def _check_once(source: Path, files: Sequence[str], names: Sequence[str]) -> None:
    """Raises LabelrError where several names mean one image."""
    names_of = defaultdict(list)
    for file, name in zip(files, names, strict=True):
        names_of[file].append(name)
    twice = [f"{file} (as {' and '.join(several)})" for file, several in names_of.items() if len(several) > 1]
    if twice:
        raise LabelrError(
            f"{source} names {len(twice):,} images more than once: {some(twice)}", "keep one row for each image"
        )


def _spread(labels: Sequence[str], targets: Targets, wanted: Sequence[str], *, closed: bool) -> Targets:
    """The targets of other labels, shape ``(N, len(wanted))``: one that is not among `labels` is unknown.

    With `closed` it does not apply to images of which anything is known.
    """
    spread = np.full((len(targets), len(wanted)), np.nan, dtype=np.float32)
    if closed:
        spread[~np.isnan(targets).all(axis=1)] = 0
    spread[:, [wanted.index(label) for label in labels]] = targets
    return spread


def _join(readings: Sequence[Reading]) -> Reading:
    """Several folders as one data set: a label that a folder does not name is unknown for its images."""
    tables = [reading.table for reading in readings]
    root = Path(os.path.commonpath([os.path.abspath(table.root) for table in tables]))
    labels = tuple(dict.fromkeys(label for table in tables for label in table.labels))
    files = [_relative(Path(os.path.abspath(path)), root) for table in tables for path in table.paths]
    _check_once(root, files, files)
    notes = [
        f"{table.source}: {note}" for table, reading in zip(tables, readings, strict=True) for note in reading.notes
    ]
    for table in tables:
        lacking = [label for label in labels if label not in table.labels]
        if lacking:
            notes.append(f"labels that {table.source} does not name, unknown for its images: {some(lacking, 10)}")
    if len({table.parts is None for table in tables}) > 1:
        notes.append("folders that say nothing of parts count as train")
    table = LabelTable(
        source=root,
        layout=f"{len(tables)} folders: " + "; ".join(dict.fromkeys(one.layout for one in tables)),
        root=root,
        files=tuple(files),
        labels=labels,
        targets=np.concatenate([_spread(one.labels, one.targets, labels, closed=False) for one in tables]),
        groups=_joined([one.groups for one in tables], tables, ""),
        parts=_joined([one.parts for one in tables], tables, "train"),
    )
    return Reading(
        table,
        missing=tuple(name for reading in readings for name in reading.missing),
        unlisted=_moved([(one.table.root, one.unlisted) for one in readings], root),
        unlabelled=_moved([(one.table.root, one.unlabelled) for one in readings], root),
        notes=tuple(notes),
        invalid=tuple(reason for reading in readings for reason in reading.invalid),
    )


def _moved(files: Sequence[tuple[Path, Sequence[str]]], root: Path) -> tuple[str, ...]:
    """Files relative to folders of their own as relative to `root`."""
    return tuple(_relative(Path(os.path.abspath(folder / file)), root) for folder, names in files for file in names)


def _joined(
    columns: Sequence[tuple[str, ...] | None], tables: Sequence[LabelTable], default: str
) -> tuple[str, ...] | None:
    """The columns of tables after one another, `default` for a table without one; None where none has one."""
    if all(column is None for column in columns):
        return None
    filled = (column or (default,) * len(table) for column, table in zip(columns, tables, strict=True))
    return tuple(value for column in filled for value in column)


def _with_wanted_labels(table: LabelTable, options: ReadOptions) -> LabelTable:
    for label in (*options.only, *options.exclude):
        if label not in table.labels and label in options.only:
            raise LabelrError(f"{table.source} has no label {label!r}", nearest(label, table.labels))
    kept = [label for label in options.only or table.labels if label not in options.exclude]
    if not kept:
        raise LabelrError("no label is left", "exclude fewer with `--exclude`")
    return table if kept == list(table.labels) else table.with_labels(kept)
