"""From the names in a label file to image files: with or without ending, folder in front, or another machine's path."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from labelr.data.formats.records import part_in
from labelr.data.formats.source import is_file
from labelr.data.images import find_images, has_image_suffix
from labelr.errors import LabelrError, preview

MAX_DEPTH = 8
"""At most so many folders in front of a name are of another machine."""
UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of a file that is uploaded."""

STRAY_BYTE = re.compile("[\udc80-\udcff]")
"""What stands for a byte of a file name that is not UTF-8."""


class Found(NamedTuple):
    """Where images are.

    Attributes:
        files: The file of each of N names, relative to the finder's folder with forward slashes where it is inside of
            it, else whole; None where there is none.
        how: How names and files differ, in a few words; empty where they do not.
    """

    files: list[str | None]
    how: str = ""

    @property
    def total(self) -> int:
        """How many names have a file."""
        return sum(file is not None for file in self.files)


class ImageFinder:
    """Finds the images that a label file names among the image files of a folder.

    Attributes:
        folder: The folder.
        files: The image files below it, relative to it with forward slashes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        prefix = "" if folder == Path() else f"{folder}{os.sep}"
        self.files = [str(path).removeprefix(prefix).replace(os.sep, "/") for path in find_images(folder)]
        self._exact = set(self.files)

    @cached_property
    def _loose(self) -> dict[str, list[str]]:
        return _index(self.files, _fold)

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _index(self.files, lambda file: _fold(os.path.splitext(file)[0]))  # noqa: PTH122

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _index(self.files, lambda file: _fold(file.rpartition("/")[2]))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _index(self.files, lambda file: _fold(os.path.splitext(file.rpartition("/")[2])[0]))  # noqa: PTH122

    @cached_property
    def _folders(self) -> set[str]:
        """What folders with images are called."""
        return {folder for file in self.files for folder in _fold(file).split("/")[:-1]}

    def find(
        self, names: Sequence[str], bases: Iterable[Path], parts: Sequence[str] | None = None, *, own_part: str = ""
    ) -> Found:
        """The files of names.

        Names are taken to be relative to the first of `bases` under which most of them are found, without as many
        folders in front as let most be found. A name that has no folder, and all of them where none is found in its
        folder, may belong to a file in any folder, if only one is so called. So a missing ``cats/1.jpg`` is not taken
        for ``dogs/1.jpg``.

        Args:
            names: N names as the label file writes them.
            bases: Folders that they may be relative to, the likeliest first.
            parts: The part of each image, which decides between two files of the same name.
            own_part: The part of the label file, if it is of one. Where folders are of that part too, a file in a
                folder of another part only is never meant.

        Raises:
            LabelrError: If two files have a name that the label file names alone.
        """
        plain = [name if name in self._exact else _plain(name) for name in names]
        deepest = min(MAX_DEPTH, max((name.count("/") for name in plain), default=0))
        places = list(dict.fromkeys(os.path.relpath(base, self.folder).replace(os.sep, "/") for base in bases))
        best = Found([None] * len(names))
        for depth in range(deepest + 1):
            for place in places:
                how = f"without the first {f'{depth} folders' if depth > 1 else 'folder'} of each name" if depth else ""
                found = Found([self._look(place, name, depth) for name in plain], how)
                best = found if found.total > best.total else best
                if best.total == len(names):
                    return best
        return self._find_alone(plain, places[0], parts or [own_part] * len(plain), best, self._of_others(own_part))

    def _of_others(self, part: str) -> set[str]:
        """The files in folders of other parts than this; none where no folder is of this."""
        parts = {file: {part_in(folder) for folder in file.split("/")[:-1]} - {""} for file in self.files if part}
        known = any(part in said for said in parts.values())
        return {file for file, said in parts.items() if known and said and part not in said}

    def _find_alone(
        self, names: Sequence[str], place: str, parts: Sequence[str], best: Found, of_others: Collection[str]
    ) -> Found:
        """The best so far, and files by their own names: of names without a folder, or of all if none is right."""
        in_folders = any(file is not None and "/" in name for name, file in zip(names, best.files, strict=True))
        files: list[str | None] = []
        for name, file, part in zip(names, best.files, parts, strict=True):
            settled = file is not None or ("/" in name and in_folders)
            several = [] if settled else self._owners(name, place, part, of_others)
            if len(several) > 1:
                raise LabelrError(
                    f"{len(several)} images in {self.folder} may be meant by {name}: {preview(several)}",
                    "write names with their folders and endings, or name the right folder with `--images`",
                )
            files.append(several[0] if several else file)
        alone = Found(files, "by the names of the files alone")
        return alone if alone.total > best.total else best

    def _look(self, place: str, name: str, depth: int) -> str | None:
        """The file of a name without its first `depth` folders, below a folder."""
        tail = name.split("/", depth)[-1] if name.count("/") >= depth else ""
        if not tail:
            return None
        inside = os.path.normpath(f"{place}/{tail}" if not tail.startswith("/") else tail).replace(os.sep, "/")
        if inside in self._exact:
            return inside
        similar = self._loose.get(_fold(inside)) or self._stems.get(_fold(inside), [])
        if len(similar) == 1:
            return similar[0]
        whole = os.path.join(self.folder, inside)  # noqa: PTH118
        if depth or not is_file(Path(whole)):
            return None
        return os.path.abspath(whole) if inside.startswith(("../", "/")) else inside

    def _owners(self, name: str, place: str, part: str, of_others: Collection[str]) -> list[str]:
        """The image files that have a name, with or without ending, below its own folder if there is one so called."""
        folders, _, own = _fold(name).rpartition("/")
        above = folders.rpartition("/")[2]
        index = self._by_name if has_image_suffix(own) else self._by_stem
        found = index.get(own) or index.get(UPLOADED.sub("", own, count=1), [])
        found = [file for file in found if file not in of_others]
        if above in self._folders:
            found = [file for file in found if above in _fold(file).split("/")[:-1]]
        for narrower in (
            [file for file in found if file.startswith(f"{place}/")],
            [file for file in found if part and part in map(part_in, file.split("/")[:-1])],
        ):
            if len(found) > 1 and narrower:
                found = narrower
        return found


def _index(files: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    index = defaultdict(list)
    for file in files:
        index[key(file)].append(file)
    return dict(index)


def _fold(name: str) -> str:
    """A name without what file systems and machines differ in: case, and how accents are put together.

    Bytes that are not UTF-8 are read as Windows-1252, as in a label file that has no others.
    """
    return unicodedata.normalize("NFC", STRAY_BYTE.sub(_as_windows_reads, name)).casefold()


def _as_windows_reads(stray: re.Match[str]) -> str:
    return stray[0].encode("ascii", "surrogateescape").decode("cp1252", "surrogateescape")


def _plain(name: str) -> str:
    """A name as a path with forward slashes: of an address its path, of Label Studio's files and uploads the file's.

    In an address of the web, or of a file, characters are escaped and a query may follow; in one of a bucket they stand
    for themselves.
    """
    scheme, divided, rest = name.partition("://")
    if divided and scheme.lower() not in ("http", "https", "file"):
        return rest.partition("/")[2].lstrip("/")
    if divided or name.startswith("/data/local-files/"):
        try:
            address = urlsplit(name)
        except ValueError:  # a bracket that would begin an IPv6 address
            return name
        return (parse_qs(address.query).get("d") or [unquote(address.path)])[0].lstrip("/")
    return re.sub(r"^/data/upload/\d+/", "", name.replace("\\", "/"))
