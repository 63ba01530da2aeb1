"""Labels that a caller of the Python API passes beside the paths of images, as a table."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelr import files
from labelr.buckets.addresses import parse, path_or_address
from labelr.data.walk import has_image_suffix
from labelr.errors import pluralize, preview
from labelr.fields import SettingError, describe_value

if TYPE_CHECKING:
    import pandas as pd

TABLES_FOLDER = "tables"
"""In the cache directory: the tables that callers of the Python API pass."""
COMPLETE = "images"
"""Marks a table that lists all images, so that none are searched for: as an attribute, and in its file's name."""
HINT = "pass a list of labels for each image, or a 0/1 matrix with `label_names`"
FRAME = "dataframe"
"""How the name of the file of any other table begins."""
NO_LABELS_HINT = "name the folder that holds images and a label file; from Python, `labels` may be given too"
NO_IMAGES_HINT = "pass a folder of labelled images, image files with their labels, or a DataFrame"


def is_from_python(path: Path) -> bool:
    """Whether a label file is a table that a caller of the Python API passed."""
    return path.parent.name == TABLES_FOLDER


def name_tables(text: str) -> str:
    """A message in which the files of passed tables are called the list and the DataFrame, and rows are positions."""

    def name(found: re.Match[str]) -> str:
        table = "the list" if found[1] == COMPLETE else "the DataFrame"
        return f"{table}, position {int(found[2]) - 2}" if found[2] else table

    folder = re.escape(f"{files.home() / TABLES_FOLDER}{os.sep}")
    return re.sub(rf"(?:{folder})?({COMPLETE}|{FRAME})-[0-9a-f]{{12}}\.csv(?:, row (\d+))?", name, text)


def with_label_table(data: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The data and settings that a caller passes; labels of image files become a DataFrame, other data is unchanged.

    Args:
        data: The paths of N image files, with their labels among the settings, or a mapping from paths to labels; or
            other data.
        settings: The settings. ``labels`` may hold N labels, lists of labels or mappings from labels to 1, 0 and NaN
            (unknown), or a matrix of these of shape ``(N, L)`` with the names of its columns in ``label_names``.
            Without ``images``, the paths are relative to the working directory.

    Raises:
        SettingError: If there are no images or no labels of image files, or the shapes do not fit.
    """
    settings = dict(settings)
    if isinstance(data, (str, os.PathLike)) or not isinstance(data, Iterable):
        return data, settings
    frame: Any = data if hasattr(data, "columns") else None
    items = list(data if frame is None else frame.index)
    if not items:
        raise SettingError(f"no images are given: the {type(data).__name__} is empty", NO_IMAGES_HINT)
    if frame is not None or not has_image_suffix(str(items[0])):
        return data if frame is not None or isinstance(data, Mapping) else items, settings
    if isinstance(data, Mapping):
        if settings.get("labels"):
            raise SettingError("labels: a mapping from images holds the labels itself", "leave `labels` out")
        settings["labels"] = data.values()
    paths = image_paths(items)
    _check_order(settings.get("labels"), paths)
    columns, is_matrix = _columns_of(settings.pop("labels", None), settings.pop("label_names", None), len(items))
    paths = _relative_to_images(paths, settings)
    settings.setdefault("layout", "wide" if is_matrix else "tags")
    if is_matrix:
        settings.setdefault("only", list(columns))  # also those that are called as other columns are, such as "id"
    file_column = "filename".ljust(max(map(len, columns)) + 1, "_")  # no label has this name
    settings.setdefault("image_column", file_column)
    return _complete_table({file_column: [path.as_posix() for path in paths], **columns}), settings


def _relative_to_images(paths: list[Path], settings: dict[str, Any]) -> list[Path]:
    """The paths relative to the folder of images, which is set to their common folder where it is not given."""
    if settings.get("images") is not None:
        return paths
    paths = [Path(os.path.abspath(path)) if parse(path) is None else path for path in paths]
    settings["images"] = folder = files.common_folder(path.parent for path in paths)
    return [path.relative_to(folder) for path in paths]


def image_paths(items: Iterable[Any], name: str = "data") -> list[Path]:
    """The paths in a list, which is the argument of some name. Raises SettingError for another item."""
    items = list(items)
    for number, item in enumerate(items):
        if not isinstance(item, (str, os.PathLike)):
            found = describe_value(item)
            raise SettingError(
                f"{name}[{number}]: expected a path, got {found}", "pass paths of folders or image files"
            )
    return [path_or_address(item) for item in items]


def _check_order(labels: Any, paths: Sequence[Path]) -> None:
    """Raises SettingError for a DataFrame or Series whose index names images in another order than the paths."""
    index = list(labels.index) if hasattr(labels, "iloc") else []
    if all(isinstance(name, str) for name in index) and any(
        Path(name).stem != path.stem for name, path in zip(index, paths, strict=False)
    ):
        raise SettingError(
            f"labels: the index of the {type(labels).__name__} names other images than the paths, or in another order",
            "pass it as the data, with `images=FOLDER`, or `labels.to_numpy()` in the order of the paths",
        )


def _columns_of(labels: Any, names: Any, number: int) -> tuple[Mapping[str, Sequence[Any]], bool]:
    """The columns of labels beside `number` images, and whether each is of one label."""
    if hasattr(labels, "columns"):
        names = list(labels.columns) if names is None else names
        labels = labels.to_numpy()
    if labels is None:
        raise SettingError(f"no labels are given for {pluralize(number, 'image file')}", NO_LABELS_HINT)
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(labels, (str, os.PathLike, Mapping, Set)) or not isinstance(labels, Iterable):
        raise SettingError(f"labels: expected labels of each image, got {describe_value(labels)}", HINT)
    rows = [_row(label) for label in labels]
    if len(rows) != number:
        raise SettingError(f"there are {pluralize(number, 'image')}, but labels of {len(rows):,}", HINT)
    mapped = all(isinstance(row, Mapping) for row in rows)
    if names is None and mapped:
        names = list(dict.fromkeys(name for row in rows for name in row))
        rows = [[row.get(name) for name in names] for row in rows]
    elif names is None:
        return {"labels": [_tags(place, row) for place, row in enumerate(rows)]}, False
    elif mapped or any(isinstance(item, str) for row in rows for item in row):
        raise SettingError(
            "label_names: names the columns of a 0/1 matrix, but the labels have names", "leave `label_names` out"
        )
    names = _checked_names(names)
    matrix = [_marks(place, row, names) for place, row in enumerate(rows)]
    return dict(zip(names, zip(*matrix, strict=True), strict=True)), True


def _row(label: Any) -> Any:
    """The labels of an image, as a mapping or a list."""
    label = label.tolist() if hasattr(label, "tolist") else label  # an array or a tensor
    if isinstance(label, Mapping):
        return label
    return list(label) if isinstance(label, Iterable) and not isinstance(label, str) else [label]


def _tags(place: int, row: Any) -> list[str]:
    for tag in [row] if isinstance(row, Mapping) else row:
        if not isinstance(tag, str):
            raise SettingError(f"labels[{place}]: expected texts, got {describe_value(tag)}", HINT)
    return list(row)


def _marks(place: int, row: Sequence[Any], names: Sequence[str]) -> list[float]:
    """The marks of an image: 1, 0, -1 or NaN."""
    if len(row) != len(names):
        expected, found = pluralize(len(names), "number"), pluralize(len(row), "value")
        raise SettingError(f"labels[{place}]: expected {expected}, one for each label, got {found}", HINT)
    marks = list(map(_mark, row))
    for name, value, mark in zip(names, row, marks, strict=True):
        if math.isinf(mark):
            raise SettingError(
                f"labels[{place}], label {name!r}: expected 1, 0 or NaN (unknown), got {describe_value(value)}",
                "correct the value",
            )
    return marks


def _mark(value: Any) -> float:
    """A mark as a number: 1, 0, -1 or NaN; infinite for any other value."""
    try:
        mark = float("nan" if value is None else value)
    except (TypeError, ValueError):
        return math.nan if str(value) == "<NA>" else math.inf
    return mark if math.isnan(mark) or mark in (0, 1, -1) else math.inf


def _checked_names(names: Any) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SettingError(f"label_names: expected a list of texts, got {describe_value(names)}", HINT)
    labels = [str(name).strip() for name in names]
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if not labels:
        raise SettingError("labels: no image has a label", "give some images at least one label")
    if repeated or "" in labels:
        problem = f"twice: {preview(repeated)}" if repeated else "an empty name"
        raise SettingError(
            f"label_names: expected a name for each label, got {problem}", "give each label its own name"
        )
    return labels


def _complete_table(columns: Mapping[str, Sequence[Any]]) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame(columns)
    frame.attrs[COMPLETE] = True
    return frame
