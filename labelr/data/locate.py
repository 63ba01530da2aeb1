"""What a caller passes as data: folders, label files, a DataFrame, or image files with their labels beside them.

The readers of label files are imported where they are used: `labelr tag`, which takes images alone, needs none of them.
"""

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from labelr import files, serialization
from labelr.buckets.addresses import parse, path_or_address
from labelr.config import ReadOptions
from labelr.data.label_table import TABLES_FOLDER
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, pluralize, preview
from labelr.fields import SettingError, describe_value

if TYPE_CHECKING:
    import pandas as pd

Data: TypeAlias = "str | Path | Iterable[str | Path] | Mapping[str | Path, Any] | pd.DataFrame | None"
"""A folder of labelled images, several that form one data set, label files, a table of labels, paths of images with
``labels`` among the settings, or a mapping from paths to labels; None for synthetic images."""
OptionsT = TypeVar("OptionsT", bound=ReadOptions)
COMPLETE = "images"
"""Marks a table that lists all images, so that none are searched for: as an attribute, and in its file's name."""
HINT = "pass a list of labels for each image, or a 0/1 matrix with `label_names`"
FRAME = "dataframe"
"""How the name of the file of any other table begins."""
NO_LABELS_HINT = "name the folder that holds images and a label file; from Python, `labels` may be given too"
NO_IMAGES_HINT = "pass a folder of labelled images, image files with their labels, or a DataFrame"


def locate_data(data: Data, options: OptionsT) -> tuple[list[Path], OptionsT]:
    """The data folders in what `with_label_table` returns, and the options with which they are read.

    Label files among the data become the setting ``labels``; without a folder, they are in that of their images. A
    DataFrame is saved as a CSV in the cache directory, by its content, and becomes the label file of the folder of
    images: so a run can be resumed, and other processes can read the same table. A table of `read` knows its folder.

    Raises:
        SettingError: If a DataFrame comes without the folder of its images, or it is open whose label files there are.
        LabelrError: If an image is given, or a label file that does not exist.
    """
    if data is None:
        return [], options
    if isinstance(data, (str, Path)):
        return _folders_and_labels([path_or_address(data)], options)
    if isinstance(data, Sequence):
        return _folders_and_labels(image_paths(data), options)
    if isinstance(data, Mapping) or not hasattr(data, "columns"):
        kind = type(data).__name__
        raise SettingError(f"data: expected a folder, several, or a DataFrame, got {kind}", "make it a DataFrame")
    frame: Any = data
    images = options.images or frame.attrs.get("root")
    if images is None:
        raise SettingError("images: expected the folder of the images of the DataFrame", "pass `images=FOLDER`")
    if options.labels:
        raise SettingError("labels: a DataFrame holds the labels itself", "leave `labels` out")
    return [Path(images)], replace(options, images=str(images), labels=(str(_save_frame(frame)),))


def _folders_and_labels(paths: Sequence[Path], options: OptionsT) -> tuple[list[Path], OptionsT]:
    """The data folders among paths, and the options with the label files among them.

    Label files alone are those of their own folders; otherwise, they follow the folder whose images they are about.
    """
    kinds = {path: _is_label_file(path) for path in paths}
    labels = [path for path, is_file in kinds.items() if is_file]
    folders = [path for path, is_file in kinds.items() if not is_file]
    is_label_file = list(kinds.values())
    if not labels:
        return list(paths), options
    if options.labels:
        raise SettingError(
            f"label files are given twice: as data, {labels[0].name}, and with `--labels`", "give them in one way"
        )
    if folders and is_label_file[0]:
        raise SettingError(
            f"the label file {labels[0]} comes before the folder {folders[0]}",
            "name the folder first, and its label file behind it",
        )
    if not folders:
        folders = [Path(options.images)] if options.images else list(dict.fromkeys(path.parent for path in labels))
        is_paired = len(labels) == len(folders)
    else:
        is_paired = is_label_file == [False, True] * len(folders)
    if len(folders) > 1 and not is_paired:
        raise SettingError(
            f"{len(folders)} folders need {len(folders)} label files, one behind each",
            "name them so, or read a table of several folders with the folder above them",
        )
    if not all(is_label_file):
        for folder, label_file in zip(folders * (len(labels) // len(folders)), labels, strict=True):
            _check_beside(folder, label_file)
    return folders, replace(options, labels=tuple(str(parse(path) or path) for path in labels))


def _check_beside(folder: Path, label_file: Path) -> None:
    """Raises SettingError if a label file that follows a data folder is that of other images, by where it is."""
    if parse(folder) is not None or parse(label_file) is not None:
        return
    own, other = folder.resolve(), label_file.resolve().parent
    if own.is_relative_to(other) or other.is_relative_to(own):
        return
    if (other / "images").is_dir() or any(has_image_suffix(path.name) for path in other.iterdir()):
        raise SettingError(
            f"{label_file} is beside other images than those of {folder}",
            f"name {label_file.parent} as a folder too, or take the file for {folder} with `--labels {label_file}`",
        )


def _is_label_file(path: Path) -> bool:
    """Whether data is a file; an address is told by its ending. Raises LabelrError for an image, or a missing file."""
    from labelr.data.label_files import SUFFIXES, TEXT_SUFFIXES

    has_suffix = path.suffix.lower() in (*SUFFIXES, *TEXT_SUFFIXES)
    if parse(path) is not None:
        return has_suffix
    if has_image_suffix(path.name) and path.is_file():
        raise LabelrError(f"{path} is an image", "name the folder that holds the images and a label file")
    if has_suffix and not path.exists():
        raise LabelrError(f"the label file {path} does not exist", "name an existing file, or the folder that holds it")
    return path.is_file()


def _save_frame(frame: "pd.DataFrame") -> Path:
    from labelr.data.formats.spreadsheet import table_of_frame

    table = table_of_frame(frame, Path("DataFrame"))
    content = serialization.rows_text(table.rows)
    digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    kind = COMPLETE if frame.attrs.get(COMPLETE) else FRAME
    path = files.home() / TABLES_FOLDER / f"{kind}-{digest}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, content)
    return path


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


def name_of_data(folders: Sequence[Path]) -> str:
    """The default name of what is made from some data folders."""
    return folders[0].resolve().name if folders else "synthetic"


def name_tables(text: str) -> str:
    """A message in which the files of passed tables are called the list and the DataFrame, and rows are positions."""

    def name(found: re.Match[str]) -> str:
        table = "the list" if found[1] == COMPLETE else "the DataFrame"
        return f"{table}, position {int(found[2]) - 2}" if found[2] else table

    folder = re.escape(f"{files.home() / TABLES_FOLDER}{os.sep}")
    return re.sub(rf"(?:{folder})?({COMPLETE}|{FRAME})-[0-9a-f]{{12}}\.csv(?:, row (\d+))?", name, text)


# --- labels beside image files ---------------------------------------------------------------------------------------


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
    import pandas as pd

    table = pd.DataFrame({file_column: [path.as_posix() for path in paths], **columns})
    table.attrs[COMPLETE] = True
    return table, settings


def _relative_to_images(paths: list[Path], settings: dict[str, Any]) -> list[Path]:
    """The paths relative to the folder of images, which is set to their common folder where it is not given."""
    if settings.get("images") is not None:
        return paths
    paths = [Path(os.path.abspath(path)) if parse(path) is None else path for path in paths]
    settings["images"] = folder = files.common_folder(path.parent for path in paths)
    return [path.relative_to(folder) for path in paths]


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
