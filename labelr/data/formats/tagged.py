"""What `labelr tag` writes: a CSV of labels for each image, and a table of all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelr.data.formats import wide
from labelr.data.formats.sheet import NUMBERS, key, read_sheet
from labelr.data.formats.source import Source, files_below, read_text
from labelr.data.images import has_image_suffix
from labelr.data.label_table import Annotation, LabelTable
from labelr.errors import LabelrError, preview

HEADER = ["label", "probability"]
TABLE, LINES = "labels.csv", "labels.jsonl"


def fits(source: Source) -> int:
    """Whether this is a folder of CSV files of images, ``a.jpg.csv``: 3 it is, 0 not."""
    if not source.is_folder:
        return 0
    return 3 if any(_header(path) == HEADER for path in _find(source.path)) else 0


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return file.readline().strip().lower().replace(";", ",").split(",")


def read(source: Source) -> LabelTable:
    """The records of a folder that `labelr tag` wrote: what a person corrected in it counts.

    The files of images say which labels apply. The table beside them names the labels that no image has, and must say
    the same, since else it is open which of the two was corrected.

    Raises:
        LabelrError: If a file is not what `labelr tag` writes, or the table says something else than the files.
    """
    entries = [
        Annotation(path.relative_to(source.path).as_posix().removesuffix(".csv"), _read(path))
        for path in _find(source.path)
    ]
    if not entries:
        raise LabelrError(f"{source.path} holds no CSV files of images", "name a folder that `labelr tag` wrote")
    labels: tuple[str, ...] | None = None
    if (source.path / TABLE).is_file():
        said = _read_table(source)
        labels = said.labels
        _check_same(source.path, entries, said)
    return LabelTable.of(entries, "files of images that `labelr tag` wrote", vocabulary=labels)


def _read_table(source: Source) -> LabelTable:
    """The records of the table, in which a column such as ``score`` is a label like any other."""
    table = Source(source.path / TABLE, source.images, source.options)
    numbers = tuple(name for name in table.table.header if key(name) in NUMBERS)
    return wide.read(replace(table, options=replace(source.options, only=(*source.options.only, *numbers))))


def _find(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder, ".csv") if has_image_suffix(path.stem))


def _read(path: Path) -> set[str]:
    """The labels that a file of an image says apply; a probability of 0 takes one back."""
    sheet = read_sheet(path, read_text(path).content)
    if sheet.keys[0] != HEADER[0]:
        raise LabelrError(
            f'{path}: expected "label" as the first column, got "{sheet.header[0]}"', "name it so, or delete the file"
        )
    return {row[0] for row in sheet.body if row[0] and (len(row) < 2 or row[1] not in ("0", "0.0"))}


def _check_same(folder: Path, entries: list[Annotation], said: LabelTable) -> None:
    """Raises LabelrError where the table and the files of images say different things."""
    of_files = {entry.name: set(entry.present) for entry in entries}
    differing = []
    for name, row in zip(said.names, said.targets, strict=True):
        of_table = {said.labels[column] for column in np.flatnonzero(row == 1)}
        if of_files.get(name, set()) != of_table:
            differing.append(name)
    if differing:
        what = f"say different things of {len(differing):,} images: {preview(differing)}"
        raise LabelrError(
            f"{folder / TABLE} and the files of images {what}",
            f"name the one that is right: `--labels {folder / TABLE}`, or delete the table and name the folder",
        )
