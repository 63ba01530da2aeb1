"""Matches the names in a label file to image files: with or without suffix, or with paths of another machine."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from labelr.data.images import FileIndex, has_image_suffix
from labelr.data.label_table import split_in_name
from labelr.errors import LabelrError, preview

MAX_DEPTH = 8
"""The number of leading folders of a name, at most, that may belong to another machine."""
UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""Stands for a byte of a file name that is not UTF-8."""


class Match(NamedTuple):
    """The image files of some names.

    Attributes:
        files: The file of each of N names, relative to the finder's folder with forward slashes, absolute if it is
            outside; None for a name without a file.
        how: How names and files differ, in a few words; empty where they do not.
    """

    files: list[str | None]
    how: str = ""

    @property
    def total(self) -> int:
        """The number of names that have a file."""
        return sum(file is not None for file in self.files)


class ImageFinder:
    """Finds the images that a label file names among the image files below a folder.

    Attributes:
        folder: The folder.
        files: The image files below it, relative to it with forward slashes.
    """

    def __init__(self, folder: Path, index: FileIndex) -> None:
        self.folder = folder
        prefix = "" if folder == Path() else f"{folder}{os.sep}"
        self.files = [str(path).removeprefix(prefix).replace(os.sep, "/") for path in index.find_images(folder)]
        self._exact = set(self.files)

    @cached_property
    def _index(self) -> dict[tuple[str, str], list[str]]:
        """The files by ``path`` and ``name``, and by ``path stem`` and ``stem``, which lack the suffix."""
        index = defaultdict(list)
        for file in self.files:
            path = _fold(file)
            stem, _ = os.path.splitext(path)  # noqa: PTH122
            keys = {"path": path, "path stem": stem, "name": path.rpartition("/")[2], "stem": stem.rpartition("/")[2]}
            for kind, key in keys.items():
                index[kind, key].append(file)
        return dict(index)

    @cached_property
    def _folder_names(self) -> set[str]:
        """The names of the folders that hold images."""
        return {folder for file in self.files for folder in _fold(file).split("/")[:-1]}

    def find(
        self, names: Sequence[str], bases: Iterable[Path], splits: Sequence[str] | None = None, *, own_split: str = ""
    ) -> Match:
        """The image files of some names.

        Names are relative to the first of `bases` under which most of them exist, with as many leading folders left out
        as gives the most matches. Names without a folder, and all names if none exists in its folder, are then matched
        by the file's name alone if it is unique. So a missing ``cats/1.jpg`` never matches ``dogs/1.jpg``.

        Args:
            names: N names as the label file writes them.
            bases: Folders that they may be relative to, the most likely first.
            splits: The split of each image, which decides between two files of the same name.
            own_split: The split of the label file, if it has one. If some folders are of that split, files in folders
                of other splits never match.

        Raises:
            LabelrError: If a name matches several files.
        """
        plain = [name if name in self._exact else _plain(name) for name in names]
        max_depth = min(MAX_DEPTH, max((name.count("/") for name in plain), default=0))
        places = list(dict.fromkeys(os.path.relpath(base, self.folder).replace(os.sep, "/") for base in bases))
        best = Match([None] * len(names))
        for depth in range(max_depth + 1):
            for place in places:
                how = f"without the first {f'{depth} folders' if depth > 1 else 'folder'} of each name" if depth else ""
                match = Match([self._find_below(place, name, depth) for name in plain], how)
                best = match if match.total > best.total else best
                if best.total == len(names):
                    return best
        excluded = self._files_of_other_splits(own_split)
        return self._find_by_name(plain, places[0], splits or [own_split] * len(plain), best, excluded)

    def _files_of_other_splits(self, split: str) -> set[str]:
        """The files in folders of other splits than this one; none if no folder is of this one."""
        if not split:
            return set()
        splits = {file: {split_in_name(folder) for folder in file.split("/")[:-1]} - {""} for file in self.files}
        if not any(split in own for own in splits.values()):
            return set()
        return {file for file, own in splits.items() if own and split not in own}

    def _find_by_name(
        self, names: Sequence[str], place: str, splits: Sequence[str], best: Match, excluded: Collection[str]
    ) -> Match:
        """The best match so far, completed by the files' names alone where that is allowed; see `find`."""
        in_folders = any(file is not None and "/" in name for name, file in zip(names, best.files, strict=True))
        files: list[str | None] = []
        for name, file, split in zip(names, best.files, splits, strict=True):
            settled = file is not None or ("/" in name and in_folders)
            found = [] if settled else self._files_called(name, place, split, excluded)
            if len(found) > 1:
                raise LabelrError(
                    f"{name} may mean any of {len(found)} images in {self.folder}: {preview(found)}",
                    "write names with their folders and suffixes, join a column of folders with `--image-column FOLDER "
                    "--image-column FILE`, or name the right folder with `--images`",
                )
            files.append(found[0] if found else file)
        match = Match(files, "by the names of the files alone")
        return match if match.total > best.total else best

    def _find_below(self, place: str, name: str, depth: int) -> str | None:
        """The file of a name without its first `depth` folders, below a folder."""
        tail = name.split("/", depth)[-1] if name.count("/") >= depth else ""
        if not tail:
            return None
        inside = os.path.normpath(f"{place}/{tail}" if not tail.startswith("/") else tail).replace(os.sep, "/")
        if inside in self._exact:
            return inside
        folded = _fold(inside)
        similar = self._index.get(("path", folded)) or self._index.get(("path stem", folded), [])
        if len(similar) == 1:
            return similar[0]
        path = os.path.join(self.folder, inside)  # noqa: PTH118
        if depth or not os.path.isfile(path):
            return None
        return os.path.abspath(path) if inside.startswith(("../", "/")) else inside

    def _files_called(self, name: str, place: str, split: str, excluded: Collection[str]) -> list[str]:
        """The image files with a name, with or without suffix, in a folder of its folder's name if one exists."""
        folders, _, own = _fold(name).rpartition("/")
        parent = folders.rpartition("/")[2]
        kind = "name" if has_image_suffix(own) else "stem"
        found = self._index.get((kind, own)) or self._index.get((kind, UPLOAD_PREFIX.sub("", own, count=1)), [])
        found = [file for file in found if file not in excluded]
        if parent in self._folder_names:
            found = [file for file in found if parent in _fold(file).split("/")[:-1]]
        for preferred in (
            [file for file in found if file.startswith(f"{place}/")],
            [file for file in found if split and split in map(split_in_name, file.split("/")[:-1])],
        ):
            if len(found) > 1 and preferred:
                found = preferred
        return found


def _fold(name: str) -> str:
    """A name without what file systems and machines differ in: case, and the composition of accents.

    Bytes that are not UTF-8 are decoded as Windows-1252, as they are in a label file that has no others.
    """
    decoded = ESCAPED_BYTE.sub(
        lambda byte: byte[0].encode("ascii", "surrogateescape").decode("cp1252", "surrogateescape"), name
    )
    return unicodedata.normalize("NFC", decoded).casefold()


def _plain(name: str) -> str:
    """A name as a path with forward slashes: the path of a URL, the file of a Label Studio upload.

    In a web or file URL, characters are escaped and a query may follow; in a bucket's URL they are literal.
    """
    scheme, is_url, rest = name.partition("://")
    if is_url and scheme.lower() not in ("http", "https", "file"):
        return rest.partition("/")[2].lstrip("/")
    if is_url or name.startswith("/data/local-files/"):
        try:
            url = urlsplit(name)
        except ValueError:  # a bracket that would start an IPv6 address
            return name
        return (parse_qs(url.query).get("d") or [unquote(url.path)])[0].lstrip("/")
    return re.sub(r"^/data/upload/\d+/", "", name.replace("\\", "/"))
