"""Labels that a caller of the Python API passes beside the paths of images, as a table."""

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelr import files
from labelr.data.walk import has_image_suffix
from labelr.errors import pluralize
from labelr.fields import SettingError

if TYPE_CHECKING:
    import pandas as pd

COMPLETE = "images"
"""Marks a table that lists all images, so that none are searched for: as an attribute, and in its file's name."""
HINT = "pass a list of labels for each image, or a 0/1 matrix with `label_names`"


def with_label_table(data: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The data and settings that a caller passes; labels of image files become a DataFrame, other data is unchanged.

    Args:
        data: The paths of N image files, with their labels among the settings, or a mapping from paths to labels; or
            other data.
        settings: The settings. ``labels`` may hold N labels or lists of labels, or a matrix of 1, 0 and NaN (unknown)
            of shape ``(N, L)`` with the names of its columns in ``label_names``. Without ``images``, the paths are
            relative to the working directory.

    Raises:
        SettingError: If there are no labels of image files, or the shapes do not fit.
    """
    settings = dict(settings)
    if isinstance(data, (str, os.PathLike)) or hasattr(data, "columns") or not isinstance(data, Iterable):
        return data, settings
    images = list(data)
    if not (images and has_image_suffix(str(images[0]))):
        return data, settings
    if isinstance(data, Mapping):
        settings["labels"] = list(data.values())
    labels, names = settings.pop("labels", None), settings.pop("label_names", None)
    if hasattr(labels, "columns"):
        labels, names = labels.to_numpy(), list(labels.columns)
    if labels is None or isinstance(labels, (str, os.PathLike)) or len(labels) != len(images):
        number = 0 if labels is None else 1 if isinstance(labels, (str, os.PathLike)) else len(labels)
        raise SettingError(f"there are {pluralize(len(images), 'image')}, but labels of {number:,}", HINT)
    paths = [files.local_path(path) for path in images]
    if settings.get("images") is None:
        paths = [Path(os.path.abspath(path)) for path in paths]
        settings["images"] = folder = files.common_folder(path.parent for path in paths)
        paths = [path.relative_to(folder) for path in paths]
    columns = _tag_columns(labels) if names is None else _marks(labels, list(map(str, names)))
    settings.setdefault("layout", "tags" if names is None else "wide")
    if names is not None:
        settings.setdefault("only", list(columns))  # also those that are called as other columns are, such as "id"
    return _complete_table({"filename": [path.as_posix() for path in paths], **columns}), settings


def _tag_columns(labels: Sequence[Any]) -> dict[str, list[list[str]]]:
    """A column of lists of labels."""
    tags = [list(item) if isinstance(item, Iterable) and not isinstance(item, str) else [item] for item in labels]
    for tag in (tag for row in tags for tag in row if not isinstance(tag, str)):
        raise SettingError(f"labels: expected texts, got {tag!r}", HINT)
    return {"labels": tags}


def _marks(labels: Sequence[Any], names: list[str]) -> dict[str, list[float]]:
    """A column of 1, 0 and NaN for each label."""
    if any(not isinstance(row, Sized) or len(row) != len(names) for row in labels):
        raise SettingError(f"labels: expected rows of {pluralize(len(names), 'number')}, one for each label", HINT)
    return {name: list(column) for name, column in zip(names, zip(*labels, strict=True), strict=True)}


def _complete_table(columns: Mapping[str, Sequence[Any]]) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame(columns)
    frame.attrs[COMPLETE] = True
    return frame
