"""What a caller passes as data: folders of labelled images, label files among them, or a DataFrame."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from labelr import files, serialization
from labelr.buckets.addresses import parse, path_or_address
from labelr.config import ReadOptions
from labelr.data.formats.spreadsheet import table_of_frame
from labelr.data.label_files import SUFFIXES, TEXT_SUFFIXES
from labelr.data.label_lists import COMPLETE, FRAME, TABLES_FOLDER, image_paths
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError
from labelr.fields import SettingError

if TYPE_CHECKING:
    import pandas as pd

Data: TypeAlias = "str | Path | Iterable[str | Path] | Mapping[str | Path, Any] | pd.DataFrame | None"
"""A folder of labelled images, several that form one data set, label files, a table of labels, paths of images with
``labels`` among the settings, or a mapping from paths to labels; None for synthetic images."""
OptionsT = TypeVar("OptionsT", bound=ReadOptions)


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
    """Whether a path of data is that of a file; what an address stands for is told by its ending.

    Raises:
        LabelrError: If the file is an image, or a label file does not exist.
    """
    has_suffix = path.suffix.lower() in (*SUFFIXES, *TEXT_SUFFIXES)
    if parse(path) is not None:
        return has_suffix
    if has_image_suffix(path.name) and path.is_file():
        raise LabelrError(f"{path} is an image", "name the folder that holds the images and a label file")
    if has_suffix and not path.exists():
        raise LabelrError(f"the label file {path} does not exist", "name an existing file, or the folder that holds it")
    return path.is_file()


def _save_frame(frame: "pd.DataFrame") -> Path:
    table = table_of_frame(frame, Path("DataFrame"))
    content = serialization.rows_text(table.rows)
    digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    kind = COMPLETE if frame.attrs.get(COMPLETE) else FRAME
    path = files.home() / TABLES_FOLDER / f"{kind}-{digest}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, content)
    return path


def name_of_data(folders: Sequence[Path]) -> str:
    """The default name of what is made from some data folders."""
    return folders[0].resolve().name if folders else "synthetic"
