"""What was understood of a data set, and how several label files or folders become one."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelr.data.find import parts_of
from labelr.data.formats.records import Records, relative
from labelr.data.formats.source import Source
from labelr.data.labels import LabelTable, Targets
from labelr.errors import LabelrError, preview
from labelr.files import common_folder


@dataclass(frozen=True)
class Reading:
    """What was understood of a data set.

    Attributes:
        table: The images that are named and there.
        missing: The images that are named and not there.
        unlisted: The images that are there and not named, relative to the table's root.
        unlabelled: The images that are named and of which no label is known; they are left out of the table.
        columns: What the columns of the label files are called, if they are tables.
        notes: What was assumed, left out or odd, a sentence each.
        invalid: The rows that were left out, each with its reason.
    """

    table: LabelTable
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()


def merge_records(data: Path, sources: Sequence[Source], records: Sequence[Records]) -> Records:
    """The records of several label files of a folder as one; each file may be a part."""
    if len(records) == 1:
        return records[0]
    labels = tuple(dict.fromkeys(label for one in records for label in one.labels))
    if all(one.closed for one in records):
        labels = tuple(sorted(labels))
    spread = [one.parts or (part,) * len(one.names) for one, part in zip(records, parts_of(sources), strict=True)]
    names = [os.path.relpath(source.path, data) for source in sources]
    notes = [[*one.notes, *_lacking(one, labels)] for one in records]
    return Records(
        "; ".join(dict.fromkeys(one.layout for one in records)),
        tuple(name for one in records for name in one.names),
        labels,
        np.concatenate([_spread(one.labels, one.targets, labels, closed=one.closed) for one in records]),
        groups=tuple(group for one in records for group in one.groups or ()) or None,
        parts=tuple(part for one in spread for part in one) if any(map(any, spread)) else None,
        notes=tuple(
            dict.fromkeys(
                note if all(note in others for others in notes) else f"{name}: {note}"
                for name, own in zip(names, notes, strict=True)
                for note in own
            )
        ),
        invalid=tuple(reason for one in records for reason in one.invalid),
    )


def _lacking(records: Records, labels: Sequence[str]) -> list[str]:
    """What to say of labels that only other files name."""
    lacking = [] if records.closed else [label for label in labels if label not in records.labels]
    return [f"labels that it does not name, unknown for its images: {preview(lacking, 10)}"] if lacking else []


def check_once(source: Path, files: Sequence[str], names: Sequence[str]) -> None:
    """Raises LabelrError where several names mean one image."""
    names_of = defaultdict(list)
    for file, name in zip(files, names, strict=True):
        names_of[file].append(name)
    twice = [
        f"{file} (as {' and '.join(several)})" if len(set(several)) > 1 else file
        for file, several in names_of.items()
        if len(several) > 1
    ]
    if twice:
        raise LabelrError(
            f"{source} names {len(twice):,} images more than once: {preview(twice)}", "keep one row for each image"
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


def join_readings(readings: Sequence[Reading]) -> Reading:
    """Several folders as one data set: a label that a folder does not name is unknown for its images.

    Raises:
        LabelrError: If two of them have an image in common, or they are on several drives.
    """
    tables = [reading.table for reading in readings]
    root = common_folder(Path(os.path.abspath(table.root)) for table in tables)
    labels = tuple(dict.fromkeys(label for table in tables for label in table.labels))
    files = [relative(Path(os.path.abspath(path)), root) for table in tables for path in table.paths]
    check_once(root, files, files)
    named = set(files)
    notes = [
        f"{table.source}: {note}" for table, reading in zip(tables, readings, strict=True) for note in reading.notes
    ]
    for table in tables:
        lacking = [label for label in labels if label not in table.labels]
        if lacking:
            notes.append(f"labels that {table.source} does not name, unknown for its images: {preview(lacking, 10)}")
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
        unlisted=tuple(
            file for file in _moved([(one.table.root, one.unlisted) for one in readings], root) if file not in named
        ),
        unlabelled=_moved([(one.table.root, one.unlabelled) for one in readings], root),
        columns=frozenset().union(*(one.columns for one in readings)),
        notes=tuple(notes),
        invalid=tuple(reason for reading in readings for reason in reading.invalid),
    )


def _moved(files: Sequence[tuple[Path, Sequence[str]]], root: Path) -> tuple[str, ...]:
    """Files relative to folders of their own as relative to `root`."""
    return tuple(relative(Path(os.path.abspath(folder / file)), root) for folder, names in files for file in names)


def _joined(
    columns: Sequence[tuple[str, ...] | None], tables: Sequence[LabelTable], default: str
) -> tuple[str, ...] | None:
    """The columns of tables after one another, `default` for a table without one; None where none has one."""
    if all(column is None for column in columns):
        return None
    filled = (column or (default,) * len(table) for column, table in zip(columns, tables, strict=True))
    return tuple(value for column in filled for value in column)
