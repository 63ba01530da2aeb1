"""Finds images, and other files, below a folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from labelr.errors import LabelrError

HEIF_SUFFIXES = frozenset({".heic", ".heif"})
SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}) | HEIF_SUFFIXES
JUNK_NAMES = frozenset({"Thumbs.db", "__MACOSX"})
REPORT_FOLDER, PAGE_FILE = "report", "report.html"
"""A folder of this name that holds such a page is labelr's own, and the images in it are charts."""


def has_image_suffix(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return PurePath(name).suffix.lower() in SUFFIXES


def find_images(folder: Path, *, recursive: bool = True) -> Iterator[Path]:
    """The image files below `folder`, by their suffix; see `find_files`."""
    return find_files(folder, has_image_suffix, recursive=recursive)


def find_files(folder: Path, wanted: Callable[[str], bool], *, recursive: bool = True) -> Iterator[Path]:
    """The files below `folder` with a wanted name, each folder's entries sorted and descended in place.

    Dot-files, ``Thumbs.db``, ``__MACOSX`` and labelr's own charts are passed over, and a folder that a symbolic link
    leads back to is visited once. Names are taken as they are: nothing is globbed, and a name need not be valid UTF-8.

    Raises:
        LabelrError: If the folder or one below it cannot be listed: to pass it over would falsify the result.
    """
    yield from _walk(folder, wanted, recursive, frozenset())


def _walk(
    folder: Path, wanted: Callable[[str], bool], recursive: bool, ancestors: frozenset[tuple[int, int]]
) -> Iterator[Path]:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise LabelrError(f"cannot list the folder {folder}: {error.strerror}") from error
    identity = (status.st_dev, status.st_ino)
    is_report = folder.name == REPORT_FOLDER and any(entry.name == PAGE_FILE for entry in ordered)
    if identity in ancestors or (is_report and ancestors):
        return
    for entry in ordered:
        if entry.name.startswith(".") or entry.name in JUNK_NAMES:
            continue
        if _is_folder(entry):
            if recursive:
                yield from _walk(folder / entry.name, wanted, recursive, ancestors | {identity})
        elif wanted(entry.name):
            yield folder / entry.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: it will be reported as a file that cannot be read
        return False
