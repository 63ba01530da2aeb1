"""Matches the names in a label file to image files: with or without suffix, or with paths of another machine."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from labelr.data.label_table import relative_name, split_in_name
from labelr.data.limits import MAX_NAME
from labelr.data.walk import OTHER_PICTURES, SUFFIXES, FileIndex, has_image_suffix, has_other_suffix
from labelr.errors import LabelrError, preview

MAX_DEPTH = 8
"""The number of leading folders of a name, at most, that may belong to another machine."""
ATTACHMENT = re.compile(r"(.+) \(https?://\S+\)")
"""A cell of Airtable: the name of an attached file, and its address."""
UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""Stands for a byte of a file name that is not UTF-8."""

SPACES = re.compile(r"(?:\s|%20)+")
"""Spaces of any kind, such as those that systems write into names of screenshots, and escaped ones."""
SPACE_AT_END = re.compile(" ?/ ?")
INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
"""Marks that copying a name from a window brings along."""
NAMED_INSTEAD = frozenset({".avi", ".gz", ".json", ".mat", ".mov", ".mp4", ".npy", ".npz", ".txt", ".xml"})
"""Endings of what tables name instead of an image: its video, array or annotations."""
ENDINGS = re.compile(
    rf"(?<=[^/\s])(?:\s*\.\s*(?:{'|'.join(ending[1:] for ending in SUFFIXES | OTHER_PICTURES | NAMED_INSTEAD)}))+\s*$"
)
"""The endings at the end of a name in lower case, those that labelr does not open too, such as ``.dcm.png``."""
PADDED = re.compile(r"(?:^|(?<=/))\s+|\s+(?=/|$)")
"""Spaces around a name, or that of a folder."""
UNUSUAL = re.compile(rf"[^\S ]|%20|  |^ | $| /|/ |{INVISIBLE.pattern}")
"""What `_loosen` changes."""


class Match(NamedTuple):
    """The image files of some names.

    Attributes:
        files: The file of each of N names, relative to the finder's folder with forward slashes, absolute if it is
            outside; None for a name without a file.
        notes: How names and files differ, one sentence each.
        similar: What there is instead of each of the N names without a file, such as ``there is a.jpeg and a.png``;
            empty for a name that has one, or without anything similar.
    """

    files: list[str | None]
    notes: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()

    @classmethod
    def concat(cls, matches: Sequence["Match"]) -> Self:
        """The matches of the names of several label files as one."""
        return cls(
            [file for match in matches for file in match.files],
            tuple(dict.fromkeys(note for match in matches for note in match.notes)),
            tuple(text for match in matches for text in match.similar),
        )

    def take(self, rows: Sequence[int]) -> Self:
        """The match of some names."""
        files, similar = [self.files[row] for row in rows], tuple(self.similar[row] for row in rows)
        return self._replace(files=files, similar=similar)

    @property
    def total(self) -> int:
        """The number of names that have a file."""
        return sum(file is not None for file in self.files)


class ImageFinder:
    """Finds the images that a label file names among the image files below a folder.

    Attributes:
        folder: The folder.
        files: The image files below it, relative to it with forward slashes.
        unreadable_folders: The folders that cannot be listed, relative to it, each with the reason.
        passed_over: What the search for image files has passed over.
    """

    def __init__(self, folder: Path, index: FileIndex, files: Sequence[str] | None = None) -> None:
        """Finds images among `files`, relative to the folder; None takes all image files below it."""
        self.folder = folder
        if files is None:
            files = index.image_names(folder)
        self.files = list(files)
        self.unreadable_folders = tuple(
            (relative_name(path, folder) if path != folder else path.name, reason)
            for path, reason in index.passed_over.unreadable.items()
        )
        self.passed_over = index.passed_over
        self._exact = set(self.files)
        places = dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder)))
        self._absolute = [f"{place}/".replace(os.sep, "/") for place in places]

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

    @cached_property
    def _loose_index(self) -> dict[tuple[str, str], list[str]]:
        """The files by ``path`` and ``name`` as `_loosen` has them, and by ``words``; see `_words`."""
        index = defaultdict(list)
        for file in self.files:
            path = _loosen(file)
            keys = {"path": path, "name": path.rpartition("/")[2], "words": _words(path)}
            for kind, key in keys.items():
                index[kind, key].append(file)
        return dict(index)

    def find(
        self, names: Sequence[str], bases: Iterable[Path], splits: Sequence[str] | None = None, *, own_split: str = ""
    ) -> Match:
        """The image files of some names.

        Names are relative to the first of `bases` under which most of them exist, with as many leading folders left out
        as gives the most matches. Names without a folder, and all names if none exists in its folder, are then matched
        by the file's name alone if it is unique. So a missing ``cats/1.jpg`` never matches ``dogs/1.jpg``. A name that
        is still missing matches in the same way a file that no other name means, if it is the only one that differs
        in nothing but its ending and spaces. So does a name whose file labelr does not open, such as ``1.cr2`` with a
        ``1.jpg`` beside it.

        Args:
            names: N names as the label file writes them.
            bases: Folders that they may be relative to, the most likely first.
            splits: The split of each image, which decides between two files of the same name.
            own_split: The split of the label file, if it has one. If some folders are of that split, files in folders
                of other splits never match.

        Raises:
            LabelrError: If a name matches several files.
        """
        plain = [name if name in self._exact else plain_path(name[: MAX_NAME + 1]) for name in names]
        plain = [name if len(name) <= MAX_NAME else "" for name in plain]
        max_depth = min(MAX_DEPTH, max((name.count("/") for name in plain), default=0))
        places = list(dict.fromkeys(os.path.relpath(base, self.folder).replace(os.sep, "/") for base in bases))
        spots = [(place, depth) for depth in range(max_depth + 1) for place in places]
        best, spot = self._find_by_path(plain, spots)
        if any(map(_is_unsettled, best.files)):
            excluded = self._files_of_other_splits(own_split)
            is_by_path = best.total > 0
            best = self._find_by_name(plain, places[0], splits or [own_split] * len(plain), best, excluded)
            best = self._find_similar(plain, best, [spot] if is_by_path else spots, excluded, by_name=not is_by_path)
        similar = best.similar or ("",) * len(names)
        return best._replace(notes=(*best.notes, *_note_differences(plain, best.files)), similar=similar)

    def _find_by_path(self, names: Sequence[str], spots: Sequence[tuple[str, int]]) -> tuple[Match, tuple[str, int]]:
        """The match with the most files, and its folder and the number of leading folders of names left out."""
        best, best_spot = Match([None] * len(names)), spots[0]
        for place, depth in spots:
            left_out = f"{depth} folders" if depth > 1 else "folder"
            notes = (f"images are matched without the first {left_out} of each name",) if depth else ()
            match = Match([self._find_below(place, name, depth) for name in names], notes)
            if match.total > best.total:
                best, best_spot = match, (place, depth)
            if best.total == len(names):
                break
        return best, best_spot

    def _find_similar(
        self,
        names: Sequence[str],
        match: Match,
        spots: Sequence[tuple[str, int]],
        excluded: Collection[str],
        *,
        by_name: bool,
    ) -> Match:
        """The match completed by files whose names differ only in ending and spaces, and what else is similar."""
        missing = {row: _loosen(names[row]) for row, file in enumerate(match.files) if _is_unsettled(file)}
        likely = {row: name for row, name in missing.items() if ("name", name.rpartition("/")[2]) in self._loose_index}
        taken = {file for file in match.files if file is not None} | set(excluded)
        best: dict[int, str] = {}
        for place, depth in spots if likely else ():
            inside = {row: _inside(_loosen(place), name, depth) for row, name in likely.items()}
            found = self._unclaimed(inside, "path", taken)
            best = found if len(found) > len(best) else best
            if len(best) == len(likely):
                break
        if by_name:
            left = {row: name for row, name in likely.items() if row not in best and "/" not in name}
            best |= self._unclaimed(left, "name", taken | set(best.values()))
        files = [best.get(row, file) for row, file in enumerate(match.files)]
        similar = ["" if file else self._describe_similar(missing[row]) for row, file in enumerate(files)]
        return match._replace(files=files, similar=tuple(similar))

    def _unclaimed(self, names: Mapping[int, str], kind: str, taken: Collection[str]) -> dict[int, str]:
        """The only similar file of each row's name, as `_loosen` has it, unless it is taken or of several rows."""
        found = {}
        for row, name in names.items():
            files = [file for file in self._loose_index.get((kind, name), []) if file not in taken]
            if len(files) == 1:
                found[row] = files[0]
        count = Counter(found.values())
        return {row: file for row, file in found.items() if count[file] == 1}

    def _describe_similar(self, name: str) -> str:
        """What there is instead of a name, as `_loosen` has it: other endings, other folders, or the same words."""
        keys = [("name", name.rpartition("/")[2]), ("words", _words(name))] if name else []
        files = next((found for key in keys if (found := self._loose_index.get(key))), [])
        files = [file for file in files if f"/{_loosen(file)}".endswith(f"/{name}")] or files
        more = f" and {len(files) - 2:,} more" if len(files) > 2 else ""
        return f"there is {', '.join(files[:2]) if more else ' and '.join(files)}{more}" if files else ""

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
        match = Match(files, ("images are matched by the names of the files alone",))
        return match if match.total > best.total else best

    def _find_below(self, place: str, name: str, depth: int) -> str | None:
        """The file of a name without its first `depth` folders, below a folder; else that without spaces around it."""
        found = self._find_exactly(place, name, depth)
        if found is None and PADDED.search(name):
            return self._find_exactly(place, PADDED.sub("", name), depth)
        return found

    def _find_exactly(self, place: str, name: str, depth: int) -> str | None:
        """The file of a name without its first `depth` folders, below a folder."""
        inside = _inside(place, name, depth)
        for start in self._absolute if name.startswith("/") else ():
            inside = inside.removeprefix(start)  # so that an image has one name
        if not inside or inside in self._exact:
            return inside or None
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


def _is_unsettled(file: str | None) -> bool:
    """Whether a name has no file, or one that labelr does not open."""
    return file is None or has_other_suffix(file)


def _inside(place: str, name: str, depth: int) -> str:
    """The path of a name without its first `depth` folders, below a folder; empty if it has fewer folders."""
    tail = name.split("/", depth)[-1] if name.count("/") >= depth else ""
    return os.path.normpath(f"{place}/{tail}" if not tail.startswith("/") else tail).replace(os.sep, "/") * bool(tail)


def _note_differences(names: Sequence[str], files: Sequence[str | None]) -> tuple[str, ...]:
    """The notes on names that are written differently than their files."""
    examples = defaultdict(list)
    for name, file in zip(names, files, strict=True):
        if file is not None and file != name:
            examples[_difference(name.rpartition("/")[2], file.rpartition("/")[2])].append(f"{name} ({_visible(file)})")
    return tuple(
        f"images found although {difference} their names differ: {len(found):,}, such as {found[0]}"
        for difference, found in sorted(examples.items())
        if difference
    )


def _visible(name: str) -> str:
    r"""A name with its unusual spaces as escapes, such as ``\u202f``."""
    return re.sub(r"[^\S ]", lambda space: space[0].encode("unicode_escape").decode(), name)


def _difference(name: str, file: str) -> str:
    """What differs between a name and the name of its file; empty for nothing, or for more than is looked for."""
    if _loosen(name) != _loosen(file):
        return ""
    (stem, ending), (file_stem, file_ending) = _split_ending(_fold(name)), _split_ending(_fold(file))
    if not ending:
        file, file_ending = os.path.splitext(file)[0], ""  # noqa: PTH122
    if name == file:
        return ""
    if _fold(name) == _fold(file):
        return "upper and lower case in" if name.casefold() == file.casefold() else "accents in"
    plain, file_plain = ("".join(text.split()) for text in (ending, file_ending))
    kinds = {
        "the endings of": plain != file_plain,
        "spaces in": stem != file_stem or ending != plain or file_ending != file_plain,
    }
    return " and ".join(kind for kind, differs in kinds.items() if differs)


def _split_ending(name: str) -> tuple[str, str]:
    """A folded name without its known endings, and these endings with the spaces around them."""
    found = ENDINGS.search(name)
    return (name[: found.start()], found[0]) if found else (name, "")


def _loosen(name: str) -> str:
    """A name without its endings, and without the differences between spaces: their kind, number, and at the ends."""
    path = _fold(name)
    if UNUSUAL.search(path):
        path = SPACE_AT_END.sub("/", SPACES.sub(" ", INVISIBLE.sub("", path))).strip()
    return _split_ending(path)[0]


def _words(name: str) -> str:
    """The words and numbers in the last part of a path: ``img 1`` for ``a/IMG_0001``."""
    words = re.findall(r"\d+|[^\W\d_]+", name.rpartition("/")[2])
    return " ".join(word.lstrip("0") or "0" if word.isdecimal() else word for word in words)


def _fold(name: str) -> str:
    """A name without what file systems and machines differ in: case, and the composition of accents.

    Bytes that are not UTF-8 are decoded as Windows-1252, as they are in a label file that has no others.
    """
    if name.isascii():
        return name.casefold()
    decoded = ESCAPED_BYTE.sub(
        lambda byte: byte[0].encode("ascii", "surrogateescape").decode("cp1252", "surrogateescape"), name
    )
    return unicodedata.normalize("NFC", decoded).casefold()


def plain_path(name: str) -> str:
    """A name as a path with forward slashes: the path of a URL, the file of a Label Studio upload, of an attachment.

    In a web or file URL, characters are escaped and a query may follow; in a bucket's URL they are literal.
    """
    if attachment := ATTACHMENT.fullmatch(name):
        return str(attachment[1])
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
