"""Recognises and reads label files: today the wide CSV, one row an image and one column a label."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from labelr.config import ReadOptions
from labelr.data.images import find_images, has_image_suffix
from labelr.data.labels import LabelTable
from labelr.data.splits import PART_NAMES
from labelr.errors import LabelrError, nearest, some

FILE_COLUMNS = frozenset({
    "file", "filename", "file_name", "filepath", "file_path",
    "image", "image_name", "image_path", "img", "name", "path",
})  # fmt: skip
CELLS = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0, "": np.nan}
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_dataset(data: Path, options: ReadOptions) -> LabelTable:
    """The images of a folder and their labels.

    Args:
        data: The folder of the data set.
        options: Where its label file and images are, and what to leave out.

    Raises:
        LabelrError: If the folder, the label file or the images are not there or cannot be understood.
    """
    if not data.is_dir():
        what = "is a file" if data.exists() else "does not exist"
        raise LabelrError(f"the data folder {data} {what}", "name a folder that holds images and a label file")
    root = Path(options.images) if options.images else _image_folder(data)
    if not root.is_dir():
        raise LabelrError(f"the image folder {root} does not exist", "name the folder of the images with `--images`")
    source = Path(options.labels) if options.labels else find_label_file(data)
    return _without_missing(_read_wide(source, root, options), options.skip_missing)


def _image_folder(data: Path) -> Path:
    return data / "images" if (data / "images").is_dir() else data


def find_label_file(data: Path) -> Path:
    """The one file in a data folder that reads as labels.

    Raises:
        LabelrError: If none does, or more than one.
    """
    found = [path for folder in (data, data / "annotations") if folder.is_dir() for path in _list(folder)]
    tables = [path for path in found if path.suffix.lower() in (".csv", ".tsv") and path.is_file()]
    candidates = tables if len(tables) <= 1 else [path for path in tables if _reads_as_labels(path)]
    if len(candidates) == 1:
        return candidates[0]
    names = some([path.relative_to(data) for path in candidates or tables])
    if candidates:
        raise LabelrError(f"{len(candidates)} files in {data} read as labels: {names}", "name one with `--labels FILE`")
    if tables:
        raise LabelrError(
            f"none of the tables in {data} reads as labels: {names}", "name the right one with `--labels`"
        )
    if next(find_images(data), None) is None:
        raise LabelrError(f"no images and no label file in {data}", "name a folder that holds images and a labels.csv")
    raise LabelrError(
        f"no label file in {data}",
        "add a labels.csv (a column `filename` and one column of 0 and 1 a label), or name the file with `--labels`",
    )


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise LabelrError(f"cannot list the folder {folder}: {error.strerror}") from error


def _reads_as_labels(path: Path) -> bool:
    """Whether a table has a column of file names, and 0, 1 or nothing in most of its other cells."""
    try:
        cells, _ = _read_cells(path, rows=100)
        file_column = _file_column(path, cells)
    except LabelrError:
        return False
    others = cells.iloc[1:].drop(columns=file_column)
    return others.size > 0 and bool(others.isin(list(CELLS)).to_numpy().mean() > 0.5)


def _read_cells(path: Path, rows: int | None = None) -> tuple[pd.DataFrame, str]:
    """The cells of a table as stripped text, its header as the first row, and its separator.

    Rows without any content are left out. The index is the row in the file, counted in records from 1.
    """
    if not _is_there(path):
        raise LabelrError(f"the label file {path} does not exist", "name an existing file with `--labels`")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelrError(f"{path} is not text in UTF-8: {error.reason}", "save the table as CSV in UTF-8") from error
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror}") from error
    separator = max(SEPARATORS, key=lambda one: _fitness(path, text, one))
    records = dict(islice(_records(path, text, separator), None if rows is None else rows + 1))
    if not records:
        raise LabelrError(f"{path} is empty", "give it a header and one row an image")
    width = len(next(iter(records.values())))
    for row, cells in records.items():
        if len(cells) != width:
            raise LabelrError(
                f"{path}, row {row}: expected {width} cells as in the header, got {len(cells)}", "correct the row"
            )
    return pd.DataFrame.from_dict(records, orient="index", dtype=str), separator


def _fitness(path: Path, text: str, separator: str) -> tuple[int, int]:
    """How well a separator fits a table: first rows as wide as the header, then the header's width."""
    widths = [len(cells) for _, cells in islice(_records(path, text, separator), 20)]
    return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that have any content, each with its number from 1."""
    try:
        for row, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator), start=1):
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield row, stripped
    except csv.Error as error:
        raise LabelrError(f"{path} is not a table: {error}", "save it as CSV again") from error


def _is_there(path: Path) -> bool:
    """Whether something is at `path`; a name that no file system takes is nowhere."""
    try:
        return path.exists()
    except OSError:
        return False


def _file_column(path: Path, cells: pd.DataFrame) -> int:
    """The number of the column of file names: by its name, else the first one whose cells end like images."""
    if len(cells) < 2:
        raise LabelrError(f"{path} has no rows below its header", "give it one row an image")
    for column in cells.columns:
        if cells[column].iloc[0].lower() in FILE_COLUMNS:
            return int(column)
    for column in cells.columns:
        if cells[column].iloc[1:101].map(has_image_suffix).all():
            return int(column)
    raise LabelrError(f"{path} has no column of file names: {some(list(cells.iloc[0]))}", "call it `filename`")


def _read_wide(path: Path, root: Path, options: ReadOptions) -> LabelTable:
    """A table of one row an image: a column of file names, and a column of 0, 1 or nothing for each label.

    A column that the user names as groups, and one called `split` that holds names of parts, are no labels.
    """
    cells, separator = _read_cells(path)
    file_column = _file_column(path, cells)
    group_column = _group_column(path, cells, options.group)
    part_column = _part_column(cells)
    no_labels = [column for column in (file_column, group_column, part_column) if column is not None]
    header = cells.iloc[0].drop(no_labels)
    _check_header(path, header)
    rows = cells.iloc[1:]
    values = rows[header.index].map(lambda cell: CELLS.get(cell, -1.0)).to_numpy(dtype=np.float32)
    invalid = values == -1.0
    if invalid.any() and (not options.skip_invalid or invalid.any(axis=1).all()):
        raise _invalid_cell(path, rows[header.index], header, invalid)
    kept = rows[~invalid.any(axis=1)]
    names = kept[file_column].map(lambda name: os.path.normpath(name) if name else "")
    _check_names(path, names)
    return LabelTable(
        source=path,
        layout=f"one column a label, {SEPARATORS[separator]}-separated",
        root=root,
        files=tuple(names),
        labels=tuple(header),
        targets=values[~invalid.any(axis=1)],
        groups=None if group_column is None else tuple(kept[group_column]),
        parts=None if part_column is None else _parts(path, kept[part_column]),
    )


def _group_column(path: Path, cells: pd.DataFrame, name: str | None) -> int | None:
    """The number of the column that the user named as groups."""
    if name is None:
        return None
    header = list(cells.iloc[0])
    if name not in header:
        raise LabelrError(f"{path} has no column {name!r}", nearest(name, header) or "name one with `--group`")
    return header.index(name)


def _part_column(cells: pd.DataFrame) -> int | None:
    """The number of the column `split`, if most of what it holds are names of parts."""
    for column in cells.columns:
        if (
            cells[column].iloc[0].lower() == "split"
            and cells[column].iloc[1:].str.lower().isin(list(PART_NAMES)).mean() > 0.5
        ):
            return int(column)
    return None


def _parts(path: Path, cells: "pd.Series[str]") -> tuple[str, ...]:
    """The part of each image, under labelr's names for them."""
    parts = cells.str.lower().map(PART_NAMES)
    unknown = cells[parts.isna()]
    if not unknown.empty:
        where = f'{path}, row {unknown.index[0]}, column "split"'
        raise LabelrError(f'{where}: expected train, val or test, got "{unknown.iloc[0]}"', "correct the cell")
    return tuple(parts)


def _check_header(path: Path, header: "pd.Series[str]") -> None:
    if header.empty:
        raise LabelrError(f"{path} has no label columns", "add one column of 0 and 1 for each label")
    if (header == "").any():
        column = int(header.index[header == ""][0]) + 1
        raise LabelrError(f"{path}, row 1, column {column}: a label without a name", "name the column, or delete it")
    twice = sorted(set(header[header.duplicated()]))
    if twice:
        raise LabelrError(f"{path}: {len(twice)} labels stand twice in the header: {some(twice)}", "merge the columns")


def _invalid_cell(
    path: Path,
    cells: pd.DataFrame,
    header: "pd.Series[str]",
    invalid: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]",
) -> LabelrError:
    row, column = (int(index) for index in np.argwhere(invalid)[0])
    others = int(invalid.sum()) - 1
    found = str(cells.iloc[row, column])
    where = f'{path}, row {cells.index[row]}, column "{header.iloc[column]}"'
    message = f'{where}: expected 0, 1 or nothing, got "{found}"'
    more = f" ({others:,} more cells like it)" if others else ""
    return LabelrError(message + more, "correct the cell, or leave such rows out with `--skip-invalid`")


def _check_names(path: Path, names: "pd.Series[str]") -> None:
    unnamed = names.index[names == ""]
    if len(unnamed):
        raise LabelrError(f"{path}, row {unnamed[0]}: no file name", "name the image, or delete the row")
    twice = names[names.duplicated(keep=False)]
    if not twice.empty:
        rows = defaultdict(list)
        for row, name in zip(twice.index, twice, strict=True):
            rows[name].append(str(row))
        listed = some([f"{name} (rows {' and '.join(numbers)})" for name, numbers in rows.items()])
        raise LabelrError(f"{path} lists {len(rows):,} images more than once: {listed}", "keep one row for each image")


def _without_missing(table: LabelTable, skip_missing: bool) -> LabelTable:
    present = [_is_there(path) for path in table.paths]
    missing = [file for file, there in zip(table.files, present, strict=True) if not there]
    if not missing:
        return table
    listed = (
        f"{len(missing):,} of {len(table):,} images in {table.source.name} are not in {table.root}: {some(missing)}"
    )
    if len(missing) == len(table):
        above = table.root.parent
        exact = f"`--images {above}`" if _is_there(above / missing[0]) else "`--images`"
        raise LabelrError(listed, f"name the folder that the file's paths are relative to with {exact}")
    if not skip_missing:
        raise LabelrError(
            listed, "paths in the file are relative to the folder; leave these rows out with `--skip-missing`"
        )
    return table.take([row for row, there in enumerate(present) if there])
