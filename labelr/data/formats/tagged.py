"""The output of `labelr tag`: a CSV of labels for each image, and a table of all."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelr import files
from labelr.data.formats import wide
from labelr.data.formats.source import Source, read_text
from labelr.data.formats.table import read_table
from labelr.data.formats.words import NUMBERS, column_key
from labelr.data.label_table import Annotation, LabelTable
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, pluralize, preview

HEADER = ["label", "probability"]
MAX_HEADER = 1000
"""Bytes of a first line in which this header is looked for."""
TABLE, LINES = "labels.csv", "labels.jsonl"


def fits(source: Source) -> int:
    """Confidence that this is a folder with a CSV file for each image, such as ``a.jpg.csv``: 0 or 3."""
    return 3 if source.is_folder and any(_read_header(path) == HEADER for path in _find_files(source)) else 0


def _read_header(path: Path) -> list[str]:
    """The header of a file; empty for one that cannot be read, which is reported when all of it is read."""
    with suppress(OSError), files.open_regular(path) as file:
        line = file.readline(MAX_HEADER).decode("utf-8-sig", "surrogateescape")
        return line.strip().lower().replace(";", ",").split(",")
    return []


def read(source: Source) -> LabelTable:
    """The label table of a folder that `labelr tag` wrote and people may have corrected.

    The files of single images contain the labels that apply. The table beside them adds labels that no image has. It
    must agree with the files, since otherwise it is ambiguous which of the two was corrected.

    Raises:
        LabelrError: If a file is not in the format of `labelr tag`, or the table disagrees with the files.
    """
    if not source.is_folder:
        raise LabelrError(f"{source.path} is not a folder that `labelr tag` wrote", "name another `--layout`")
    annotations = [
        Annotation(path.relative_to(source.path).as_posix().removesuffix(".csv"), _read_labels(source, path))
        for path in _find_files(source)
    ]
    if not annotations:
        raise LabelrError(f"{source.path} has no CSV files of images", "name a folder that `labelr tag` wrote")
    vocabulary: tuple[str, ...] | None = None
    if os.path.isfile(source.path / TABLE):
        table = _read_table(source)
        vocabulary = table.labels
        _check_agreement(source.path, annotations, table)
    return LabelTable.of(
        annotations, "files of images that `labelr tag` wrote", vocabulary=vocabulary, limits=source.limits
    )


def _read_table(source: Source) -> LabelTable:
    """The label table of the table, in which a column such as ``score`` is a label like any other."""
    path, options = source.path / TABLE, source.options
    numbers = [name for name in source.beside(path).require_table().header if column_key(name) in NUMBERS]
    return wide.read(Source(path, source.images, replace(options, only=(*options.only, *numbers))))


def _find_files(source: Source) -> Iterator[Path]:
    """The files of images, some of which may have no ending."""
    for path in source.files(".csv"):
        if has_image_suffix(path.stem) or ("." not in path.stem and _read_header(path) == HEADER):
            yield path


def _read_labels(source: Source, path: Path) -> set[str]:
    """The labels in the file of an image; one with a probability of 0 was taken back by its editor."""
    table = read_table(path, read_text(path, limits=source.limits).content, source.limits)
    if table.keys[0] != HEADER[0]:
        raise LabelrError(
            f'{path}: expected "label" as the first column, got "{table.header[0]}"',
            "rename the column, or delete the file",
        )
    return {row[0] for row in table.body if row[0] and (len(row) < 2 or row[1] not in ("0", "0.0"))}


def _check_agreement(folder: Path, annotations: list[Annotation], table: LabelTable) -> None:
    """Raises LabelrError where the table and the files of images disagree."""
    labels_in_files = {annotation.name: set(annotation.present) for annotation in annotations}
    differing = []
    for name, row in zip(table.names, table.targets, strict=True):
        labels_in_table = {table.labels[column] for column in np.flatnonzero(row == 1)}
        if labels_in_files.get(name, set()) != labels_in_table:
            differing.append(name)
    if differing:
        raise LabelrError(
            f"{folder / TABLE} and the files of images disagree on {pluralize(len(differing), 'image')}: "
            f"{preview(differing)}",
            f"name the table with `--labels {folder / TABLE}` if it is right, else delete it and name the folder",
        )
