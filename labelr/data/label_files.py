"""Finds the label files of a data folder, and reads them as one table."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelr.buckets.mirror import local
from labelr.config import ReadOptions
from labelr.data.formats import sidecar, spreadsheet
from labelr.data.formats.layouts import recognise
from labelr.data.formats.source import Source
from labelr.data.label_table import (
    FEW_POSITIVES,
    SPLIT_NAMES,
    LabelTable,
    note_missing_labels,
    split_in_name,
    spread_targets,
)
from labelr.data.predicted import read_reviewed
from labelr.data.walk import FileIndex, has_image_suffix
from labelr.errors import LabelrError, preview
from labelr.fields import option_of

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".manifest", ".xml", ".yaml", ".yml", *spreadsheet.SUFFIXES)
"""Suffixes of label files."""
TEXT_SUFFIXES = (".txt", ".lst")
"""Suffixes of lists of images with their labels, which are looked for where nothing else is found."""
ARCHIVES = (".zip", ".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar")
"""Suffixes of archives and compressed files, which are not read."""
LOCK_PREFIX = "~$"
"""How the file begins that Excel writes while a spreadsheet is open."""
NUMBERS = ".numbers"
FOLDERS = ("annotations", "labels", *SPLIT_NAMES)
"""Folders, in lower case, in which label files are searched beside the data folder itself."""
WRITTEN_BY_LABELR = frozenset({
    "config.json", "errors.csv", "history.csv", "metrics.json", "model.json", "per_label.csv", "predictions.csv",
    "probabilities.csv", "splits.csv", "summary.json",
})  # fmt: skip
"""Files that labelr writes and that hold no labels."""
WEAK = 1
"""Confidence of a match that gives way to any better one: words in a column may be tags, or anything else."""
NO_POSITIVES = (
    "no label applies to any of its images: if they are still to be labelled, name only the other files with `--labels`"
)
"""A note on one of several files, such as the one in which a competition wants predictions."""
MAX_FILES = 50
"""More files of one suffix in a folder are annotations of single images, not label files."""


def find_sources(data: Path, images: Path, options: ReadOptions, index: FileIndex) -> list[Source]:
    """The label files of a data folder: those that the user names, else the one that reads as labels.

    Several files are read together if each is of another split by its name or its folder's, such as ``train.csv`` and
    ``val.csv``. Without a label file, the folder itself may have a layout, such as images with a text file beside each.

    Raises:
        LabelrError: If there is none, or it is ambiguous which is meant.
    """
    folder = Source(data, images, options, index)
    if options.labels:
        return [source for name in options.labels for source in _find_named(folder.beside(local(name)))]
    candidates = [folder.beside(path) for path in _candidates(folder)]
    sources, confidence = _find_readable(data, candidates)
    if sources and confidence > WEAK:
        return sources
    folder_confidence, folder_layouts = recognise(folder)
    if sources and folder_confidence == WEAK:
        others = "folder names" if "folders" in folder_layouts else "keywords in XMP files"
        raise LabelrError(
            f"labels may be in {preview([source.path for source in sources])}, or be {others} in {data}",
            f"name the file with `--labels`, or use `--layout {folder_layouts[0]}`",
        )
    if folder_layouts or options.layout == "folders":  # its reader says which images are in no folder
        return [folder]
    if not sources:
        lists = [folder.beside(path) for path in _candidates(folder, TEXT_SUFFIXES)]
        sources = _find_readable(data, lists)[0]
        candidates += [source for source in lists if not sources and _names_images(source)]
    if not sources and len(candidates) != 1:
        raise _nothing_found(folder, candidates)
    return sources or candidates  # the reader of a single candidate explains what is wrong with it


def _names_images(source: Source) -> bool:
    """Whether the beginning of a text has the name of an image."""
    try:
        return any(map(has_image_suffix, source.text.content[:2000].split()))
    except LabelrError:
        return False


def _find_readable(folder: Path, candidates: Sequence[Source]) -> tuple[list[Source], int]:
    """The label file among some candidates, or the files of several splits, and the confidence; empty for none."""
    best = max((recognise(source)[0] for source in candidates), default=0)
    sources = [source for source in candidates if 0 < recognise(source)[0] >= min(best, WEAK + 1)]
    sources = [source for row, source in enumerate(sources) if not any(map(source.is_same_table, sources[:row]))]
    same_layout = len({recognise(source)[1] for source in sources}) == 1
    if len(sources) > 1 and not (same_layout and _are_splits(sources)):
        names = preview([source.path.relative_to(folder) for source in sources])
        raise LabelrError(f"{len(sources)} files in {folder} read as labels: {names}", "name one with `--labels FILE`")
    return sources, best


def _find_named(source: Source) -> list[Source]:
    """A file that the user names, or a folder, which may have a layout or hold label files."""
    if not os.path.exists(source.path):
        raise LabelrError(f"the label file {source.path} does not exist", "name an existing file with `--labels`")
    if source.path.name.lower().endswith(ARCHIVES) and not source.is_folder:
        raise LabelrError(f"{source.path} is an archive", "unpack it, and name what it holds")
    if not source.is_folder or recognise(source)[1]:
        return [source]
    return _find_readable(source.path, [source.beside(path) for path in _candidates(source)])[0] or [source]


def _candidates(source: Source, suffixes: Collection[str] = SUFFIXES) -> Iterator[Path]:
    """The files with some suffixes in a data folder and in its folders that usually hold label files."""
    subfolders = [folder for folder in _list(source.path) if os.path.isdir(folder) and folder.name.lower() in FOLDERS]
    for folder in (source.path, *subfolders):
        by_suffix = defaultdict(list)
        for path in _list(folder, required=folder == source.path):
            if path.suffix.lower() in suffixes and path.name not in WRITTEN_BY_LABELR and os.path.isfile(path):
                if path.name == sidecar.LINES and sidecar.fits_tagged(source.beside(folder)):
                    continue  # people correct the files of single images beside it
                by_suffix[path.suffix.lower()].append(path)
        yield from (path for paths in by_suffix.values() if len(paths) <= MAX_FILES for path in paths)


def _list(folder: Path, *, required: bool = True) -> list[Path]:
    """The entries of a folder that are not hidden; empty for one that cannot be listed, unless it is required."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", LOCK_PREFIX)))
    except OSError as error:
        if not required:
            return []
        raise LabelrError(f"cannot list the folder {folder}: {error.strerror}") from error


def _are_splits(sources: Sequence[Source]) -> bool:
    """Whether label files are each of another split by their names; one may be of CVAT's subset ``default``."""
    splits = [_split_of(source) or "default" * ("default" in source.path.stem) for source in sources]
    return all(splits) and len(set(splits)) == len(splits)


def splits_of(sources: Sequence[Source]) -> list[str]:
    """The split of each of several label files if each is of another one; otherwise empty strings."""
    return [_split_of(source) if len(sources) > 1 and _are_splits(sources) else "" for source in sources]


def _split_of(source: Source) -> str:
    """The split that the name of a label file or of its folder mentions; empty for none."""
    return split_in_name(source.path.stem) or split_in_name(source.path.parent.name)


def read_sources(sources: Sequence[Source]) -> list[LabelTable]:
    """The table of each label file of a folder.

    Raises:
        LabelrError: If one cannot be read, or has no sheets or columns that the user names.
    """
    options = sources[0].options
    if options.sheet is not None and not any(source.is_spreadsheet for source in sources):
        raise LabelrError(f"{sources[0].path} has no sheets", "leave `--sheet` out")
    for name in ("label_column", "image_column", "annotator"):
        if getattr(options, name) and all(source.table is None for source in sources):
            raise LabelrError(f"{sources[0].path} has no columns", f"leave `{option_of(name)}` out")
    if options.leaf_only and all(recognise(source)[1] != ("xmp",) for source in sources):
        raise LabelrError(f"{sources[0].path} has no keywords of photo software", "leave `--leaf-only` out")
    tables = [read_reviewed(source) for source in sources]
    if options.group and any(table.groups is None for table in tables):
        raise LabelrError(f"{sources[0].path} has no columns to take groups from", "leave `--group` out")
    return tables


def concat_tables(data: Path, sources: Sequence[Source], tables: Sequence[LabelTable]) -> LabelTable:
    """The tables of the label files of one folder as one; its layout mentions encodings other than UTF-8.

    A label that a table does not name is unknown for its images, unless the table is closed.
    """
    layouts = [*dict.fromkeys(table.layout for table in tables)]
    encodings = sorted({source.encoding for source in sources} - {""})
    number = [f"{len(sources)} files"] if len(sources) > 1 else []
    layout = ", ".join(["; ".join(layouts), *number, *(f"in {encoding}" for encoding in encodings)])
    if len(tables) == 1:
        return replace(tables[0], layout=layout)
    labels = tuple(dict.fromkeys(label for table in tables for label in table.labels))
    if all(table.closed for table in tables):
        labels = tuple(sorted(labels))
    targets = [spread_targets(table.labels, table.targets, labels, closed=table.closed) for table in tables]
    splits = [
        split
        for table, own in zip(tables, splits_of(sources), strict=True)
        for split in table.splits or (own,) * len(table.names)
    ]
    notes = [
        [
            *table.notes,
            *([] if table.closed else note_missing_labels(table.labels, labels)),
            *([] if (table.targets == 1).any() or len(table.names) < FEW_POSITIVES else [NO_POSITIVES]),
        ]
        for table in tables
    ]
    described = [
        note if all(note in others for others in notes) else f"{os.path.relpath(source.path, data)}: {note}"
        for source, own in zip(sources, notes, strict=True)
        for note in own
    ]
    return LabelTable(
        layout,
        tuple(name for table in tables for name in table.names),
        labels,
        np.concatenate(targets),
        groups=tuple(group for table in tables for group in table.groups or ()) or None,
        splits=tuple(splits) if any(splits) else None,
        notes=tuple(dict.fromkeys(described)),
        invalid=tuple(reason for table in tables for reason in table.invalid),
        unconfirmed=tuple(name for table in tables for name in table.unconfirmed),
    )


def _nothing_found(folder: Source, candidates: list[Source]) -> LabelrError:
    data = folder.path
    if candidates:
        names = preview([source.path.relative_to(data) for source in candidates])
        return LabelrError(
            f"none of the {len(candidates)} files in {data} reads as labels: {names}",
            "name the right one with `--labels`, and its layout with `--layout` if that does not help",
        )
    sheets = [path.name for path in _list(data) if path.suffix.lower() == NUMBERS]
    if sheets:
        return LabelrError(
            f"no label file in {data}, but one of Apple Numbers: {preview(sheets)}", "export it as Excel or CSV there"
        )
    parts = [path.name for path in _list(data) if path.suffix.lower() in spreadsheet.COLUMNAR and os.path.isdir(path)]
    if parts:
        return LabelrError(
            f"no label file in {data}, but a folder of several: {preview(parts)}",
            f'write it as one file, such as with `pandas.read_parquet("{parts[0]}").to_csv("labels.csv", index=False)`',
        )
    has_images = next(folder.index.find_images(data), None) is not None
    notes = "".join(f"; {note}" for note in folder.index.passed_over.notes())
    if not has_images:
        return LabelrError(
            f"no images and no label file in {data}{notes}", "name a folder that holds images and a labels.csv"
        )
    return LabelrError(
        f"no label file in {data}{notes}",
        "add a labels.csv (a column `filename` and one column of 0 and 1 for each label), name the file with "
        "`--labels`, or use `--layout folders` if the names of folders are labels",
    )
