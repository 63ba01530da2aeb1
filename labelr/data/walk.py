"""Finds files below folders, and accounts for what is passed over: other formats, system folders, ignored files."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from labelr import files
from labelr.errors import LabelrError, pluralize, preview

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
SUFFIXES = HEIF_SUFFIXES | {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf",
    ".jpg", ".jpx", ".mpo", ".pjp", ".pjpeg", ".png", ".tif", ".tiff", ".webp",
}  # fmt: skip
"""Endings of image files that labelr opens."""
OTHER_PICTURES = frozenset({
    ".3fr", ".afphoto", ".ai", ".ari", ".arw", ".avifs", ".bay", ".bpg", ".btf", ".cap", ".cin", ".cine", ".clip",
    ".cr2", ".cr3", ".crw", ".cur", ".czi", ".dcm", ".dcr", ".dcx", ".dds", ".dic", ".dicom", ".djvu", ".dng", ".dpx",
    ".ecw", ".eip", ".emf", ".eps", ".erf", ".exr", ".fff", ".fit", ".fits", ".flif", ".fts", ".gbr", ".gpr", ".hdp",
    ".hdr", ".heics", ".heifs", ".icns", ".ico", ".iiq", ".indd", ".insp", ".jb2", ".jbig2", ".jls", ".jng", ".jph",
    ".jpm", ".jxl", ".jxr", ".jxs", ".kdc", ".kra", ".ktx", ".lif", ".lsm", ".mdc", ".mef", ".mha", ".mhd", ".mng",
    ".mos", ".mrw", ".mrxs", ".nd2", ".ndpi", ".nef", ".nii", ".nrrd", ".nrw", ".oib", ".oif", ".ora", ".orf", ".ori",
    ".pam", ".pbm", ".pct", ".pcx", ".pdf", ".pef", ".pfm", ".pgm", ".pict", ".pnm", ".ppm", ".procreate", ".psb",
    ".psd", ".psp", ".pspimage", ".ptx", ".qoi", ".qtk", ".raf", ".ras", ".raw", ".rgbe", ".rw2", ".rwl", ".rwz",
    ".scn", ".sgi", ".sid", ".sr2", ".srf", ".srw", ".svg", ".svgz", ".svs", ".svslide", ".tf8", ".tga", ".vsi",
    ".wbmp", ".wdp", ".wmf", ".x3f", ".xbm", ".xcf", ".xpm",
})  # fmt: skip
"""Endings of pictures that labelr does not open: raw files of cameras, medical images, slides, vector graphics."""
_COPY = re.compile(
    r"\.(\d+|backup|bak|crdownload|download|filepart|icloud|old|orig|part|partial|tmp|temp)", re.IGNORECASE
)
"""What editors, downloads and clouds append to the names of copies, unfinished files and placeholders."""
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|BM.{4}\0{4}|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF.{4}WEBP|.{4}ftyp(avi|hei|hev|mif)"
    rb"|\0{3}\x0cjP {2}|\xff\x4f\xff\x51",
    re.DOTALL,
)
"""How the content of image files that labelr opens begins."""
SYSTEM_FOLDERS = frozenset({
    "#recycle", "#snapshot", "#thumbs", "$extend", "$recycle.bin", "$sysreset", "$windows.~bt", "$windows.~ws",
    "$winreagent", "@__thumb", "@appconf", "@appdata", "@apphome", "@appstore", "@apptemp", "@database", "@docker",
    "@eadir", "@eadir@synoeastream", "@recently-snapshot", "@recycle", "@sharebin", "@sharesnap", "@synoeastream",
    "@synologydrive", "@synoresource", "@tmp", "__macosx", "_gsdata_", "backups.backupdb", "config.msi",
    "ipod photo cache", "lost+found", "lost.dir", "network trash folder", "picasaoriginals", "recycled", "recycler",
    "resource.frk", "system volume information", "temporary items", "thumbs.db", "trashbox",
    "~snapshot",
})  # fmt: skip
"""Names, in lower case, of folders that network drives and systems keep thumbnails, trash and snapshots in."""
_SYSTEM = re.compile(r"found\.\d{3}|.*\.lrdata", re.IGNORECASE)
"""Folders of Windows' disk check, and of the previews of Lightroom."""
REPORT_FOLDER, PAGE_FILE = "report", "report.html"
"""A folder of this name with this file is a report of labelr; its images are charts, not photographs."""

SORTED_FILE = ".labelr-sorted"
"""A folder with this file holds links or copies of images that `labelr tag` has sorted."""


def has_image_suffix(name: str) -> bool:
    """Whether a file name has the suffix of an image format."""
    return _suffix(name) in SUFFIXES


def has_other_suffix(name: str) -> bool:
    """Whether a file name has the suffix of a picture that labelr does not open, such as ``.cr2``."""
    return _suffix(name) in OTHER_PICTURES


def is_image(path: Path | str) -> bool:
    """Whether a file is an image by its suffix, or by its content if its name has no suffix."""
    name = os.path.basename(path)  # noqa: PTH119 - no `Path` for each of many files
    if "." in name:
        return has_image_suffix(name)
    try:
        with files.open_regular(Path(path)) as file:
            return _SIGNATURES.match(file.read(32)) is not None
    except OSError:
        return False


def _suffix(name: str) -> str:
    # of every file of a folder: three times as fast; copies from old discs have spaces after their names
    return os.path.splitext(name)[1].lower().rstrip()  # noqa: PTH122


def is_hidden(name: str) -> bool:
    """Whether a folder is hidden, or one that a system keeps its own files in."""
    return name.startswith(".") or name.lower().rstrip() in SYSTEM_FOLDERS or _SYSTEM.fullmatch(name) is not None


def _other_picture(name: str) -> str:
    """The ending of a picture that labelr does not open: ``.cr2``, ``.jpg_original``, ``.jpg.bak``; else empty."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    if _COPY.fullmatch(suffix) and has_image_suffix(stem):
        return _suffix(stem) + suffix.lower()
    suffix = _suffix(name)
    known = re.match(r"\.[a-z0-9]+", suffix)  # editors and browsers append to the ending: .jpg_large, .jpg~
    is_other = suffix in OTHER_PICTURES or (known is not None and known[0] != suffix and known[0] in SUFFIXES)
    return suffix if is_other else ""


def ending_of(name: str) -> str:
    """The ending of a file name in lower case, such as ``.mp4``; ``(none)`` without one."""
    suffix = _suffix(name)
    return suffix if re.fullmatch(r"\.\w+", suffix) else "(none)"


def count_endings(counts: Mapping[str, int]) -> str:
    """Numbers by ending, the largest first: ``12 .mp4, 3 .xmp``."""
    return preview([f"{count:,} {ending}" for ending, count in Counter(counts).most_common()], 10)


@dataclass
class PassedOver:
    """What a walk did not take.

    Attributes:
        formats: Number of pictures that labelr does not open, by ending.
        others: Number of files that are no pictures, by ending; counted only while images are searched.
        folders: Number of hidden and system folders, by name.
        hidden: Number of image files whose name starts with a dot.
        ignored: Number of image files that match a pattern.
        ignored_folders: Number of folders that match a pattern.
        unused_patterns: The patterns that have matched nothing yet.
        unreadable: The reason for each folder that cannot be listed.
    """

    formats: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    ignored: int = 0
    ignored_folders: int = 0
    unused_patterns: list[str] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What was left out, one sentence each; folders that cannot be listed are not among it."""
        notes = []
        if self.formats:
            notes.append(f"pictures in formats that labelr does not read, left out: {count_endings(self.formats)}")
        if self.others:
            notes.append(f"other files, left out: {count_endings(self.others)}")
        if self.hidden:
            notes.append(f"images whose names start with a dot, left out: {self.hidden:,}")
        if self.folders:
            names = preview([name for name, _ in self.folders.most_common()], 10)
            notes.append(f"hidden and system folders, not searched: {self.folders.total():,} ({names})")
        if self.ignored or self.ignored_folders:
            ignored = {"image": self.ignored, "folder": self.ignored_folders}
            named = " and ".join(pluralize(count, noun) for noun, count in ignored.items() if count)
            notes.append(f"left out by `--ignore`: {named}")
        notes += [f"`--ignore {pattern}` leaves out no image and no folder" for pattern in self.unused_patterns]
        return notes


class Walker:
    """Finds the files below folders, and counts what it passes over.

    Attributes:
        root: The folder that the paths of patterns are relative to.
        recursive: Whether subfolders are searched.
        ignore: Patterns of files and folders to pass over, as `matches` takes them.
        output: The folder of labelr's results, whose files are not counted.
        names_beside: Gives the names of labelr's results next to an image by its name; they are not counted either.
        passed_over: What was passed over so far.
    """

    def __init__(
        self,
        root: Path,
        *,
        recursive: bool = True,
        ignore: Sequence[str] = (),
        output: Path | None = None,
        names_beside: Callable[[str], Sequence[str]] | None = None,
        passed_over: PassedOver | None = None,
    ) -> None:
        self.root = root
        self._prefix = "" if root == Path() else f"{root}{os.sep}"
        self.recursive = recursive
        self.ignore = ignore
        self.output = output
        self.names_beside = names_beside
        self.passed_over = passed_over or PassedOver(unused_patterns=list(ignore))

    def images(self, folder: Path) -> Iterator[Path]:
        """The image files below a folder, as `is_image` tells; see `files`. All other files are counted."""
        for path in self.files(folder):
            if is_image(path):
                yield path
            elif not _other_picture(path.name) and not (self.output and path.is_relative_to(self.output)):
                self.passed_over.others[ending_of(path.name)] += 1

    def files(self, folder: Path, ancestors: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
        """The files below a folder, depth first, the entries of each folder sorted by name.

        Hidden files and folders, system folders, labelr's own charts and what it has sorted are passed over. Symbolic
        links are followed, but never back to a folder that contains them. Patterns pass over images and folders, no
        other files. Names are not interpreted: no globbing, and they need not be valid UTF-8. A folder that cannot be
        listed is among what is passed over. `ancestors` are the folders above `folder`, by device and inode.
        """
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            files.raise_if_exhausted(error)
            if ancestors and self.ignores(folder / "*"):  # as by `private/*`
                self.passed_over.ignored_folders += 1
                return
            self.passed_over.unreadable[folder] = (error.strerror or str(error)).lower()
            return
        identity = (status.st_dev, status.st_ino)
        is_report = folder.name == REPORT_FOLDER and any(entry.name == PAGE_FILE for entry in ordered)
        is_sorted = any(entry.name == SORTED_FILE for entry in ordered)
        if identity in ancestors or ((is_report or is_sorted) and ancestors):
            return
        results = self._results_among(ordered)
        for entry in ordered:
            path = folder / entry.name
            if not _is_folder(entry):
                if entry.name not in results and self._takes(path):
                    yield path
            elif self.recursive and self._enters(path):
                yield from self.files(path, ancestors | {identity})

    def require(self, folder: Path) -> None:
        """Raises LabelrError if a folder could not be listed."""
        if folder in self.passed_over.unreadable:
            reason = self.passed_over.unreadable[folder]
            raise LabelrError(f"cannot list the folder {folder}: {reason}", "check its permissions")

    def ignores(self, path: Path, *, is_folder: bool = False) -> bool:
        """Whether a file or folder matches a pattern by its name or its path."""
        if not self.ignore:
            return False
        name = str(path).removeprefix(self._prefix).replace(os.sep, "/")
        if not matches(name, self.ignore, is_folder=is_folder):
            return False
        unused = self.passed_over.unused_patterns
        unused[:] = [pattern for pattern in unused if not matches(name, [pattern], is_folder=is_folder)]
        return True

    def _results_among(self, entries: "Sequence[os.DirEntry[str]]") -> set[str]:
        """The names of labelr's results next to the images among the entries of a folder."""
        if self.names_beside is None:
            return set()
        images = (entry.name for entry in entries if has_image_suffix(entry.name))
        return {name for image in images for name in self.names_beside(image)}

    def _takes(self, path: Path) -> bool:
        """Whether a file is found; counts it if not, or if it is a picture that labelr does not open."""
        passed, name = self.passed_over, path.name
        ending = "" if has_image_suffix(name) else _other_picture(name)
        if name.startswith("."):
            passed.hidden += has_image_suffix(name)
            if ending.endswith(".icloud"):  # stands for an image that is not on this machine
                passed.formats[ending] += 1
            return False
        if self.ignore and (ending or is_image(path)) and self.ignores(path):
            passed.ignored += not ending
            return False
        if ending:
            passed.formats[ending] += 1
        return True

    def _enters(self, folder: Path) -> bool:
        """Whether a folder is searched; counts it if not."""
        if self.ignores(folder, is_folder=True):
            self.passed_over.ignored_folders += 1
            return False
        if is_hidden(folder.name):
            self.passed_over.folders[folder.name] += 1
            return False
        return True


def matches(name: str, patterns: Sequence[str], *, is_folder: bool = False) -> bool:
    """Whether the relative path of a file or folder, or the last part of it, matches a pattern.

    ``*`` matches any characters, ``/`` too, and ``**/`` may match no folder. Only folders match ``thumbs/``.
    """
    cleaned = [pattern.removeprefix("./") for pattern in patterns]
    wanted = [pattern.removesuffix("/") for pattern in cleaned] if is_folder else cleaned
    forms = (name, name.rpartition("/")[2], f"/{name}")
    return any(fnmatchcase(form, pattern) for pattern in wanted for form in forms)


def find_images(folder: Path, *, recursive: bool = True) -> Iterator[Path]:
    """The image files below a folder; see `Walker.images`. Raises LabelrError if the folder cannot be listed."""
    walker = Walker(folder, recursive=recursive)
    yield from walker.images(folder)
    walker.require(folder)


class FileIndex:
    """The files below folders, each folder walked once for all who look for files in it.

    They are kept as text: a `Path` takes three times the memory.

    Args:
        root: The data folder, which is walked as a whole; None for none.
        ignore: Patterns of files and folders to pass over, relative to the data folder or another that is walked.

    Attributes:
        passed_over: What was passed over so far.
    """

    def __init__(self, root: Path | None = None, ignore: Sequence[str] = ()) -> None:
        self._files: dict[Path, list[str]] = {}
        self._images: dict[Path, list[str]] = {}
        self._root = root
        self._ignore = ignore
        self._walkers: list[Walker] = []
        self.passed_over = PassedOver(unused_patterns=list(ignore))

    def _find(self, folder: Path) -> list[str]:
        if folder not in self._files:
            if self._root is not None and self._root in folder.parents:
                self._find(self._root)
            walked = next((parent for parent in folder.parents if parent in self._files), None)
            self._files[folder] = self._walk(folder) if walked is None else self._find_within(folder, walked)
        return self._files[folder]

    def _walk(self, folder: Path) -> list[str]:
        walker = Walker(folder, ignore=self._ignore, passed_over=self.passed_over)
        self._walkers.append(walker)
        found = list(map(str, walker.files(folder)))
        walker.require(folder)
        return found

    def _find_within(self, folder: Path, walked: Path) -> list[str]:
        """The files below a folder within one that was walked, and where it may have been passed over."""
        inside = [path for path in self._files[walked] if path.startswith(f"{folder}{os.sep}")]
        if inside:
            return inside
        hidden = [part for part in folder.relative_to(walked).parts if is_hidden(part)]
        self.passed_over.folders -= Counter(hidden[:1])  # it is searched after all
        return list(map(str, Walker(walked, ignore=self._ignore).files(folder)))

    def ignores(self, path: Path) -> bool:
        """Whether a file, or a folder above it and below the one that was walked, matches a pattern."""
        walker = next((walker for walker in self._walkers if self._ignore and walker.root in path.parents), None)
        if walker is None:
            return False
        above = [folder for folder in path.parents if walker.root in folder.parents]
        return walker.ignores(path) or any(walker.ignores(folder, is_folder=True) for folder in above)

    def find_images(self, folder: Path) -> Iterator[Path]:
        """The image files below a folder, as `is_image` tells. Raises LabelrError if a folder cannot be listed."""
        return map(Path, self._images_in(folder))

    def image_names(self, folder: Path) -> list[str]:
        """The image files below a folder, relative to it with forward slashes; raises as `find_images`."""
        prefix = "" if folder == Path() else f"{folder}{os.sep}"
        return [path.removeprefix(prefix).replace(os.sep, "/") for path in self._images_in(folder)]

    def _images_in(self, folder: Path) -> list[str]:
        if folder not in self._images:
            self._images[folder] = list(filter(is_image, self._find(folder)))
        return self._images[folder]

    def find_suffix(self, folder: Path, suffix: str) -> Iterator[Path]:
        """The files below a folder with a suffix, in any case, without broken links; raises as `find_images`."""
        length = len(suffix)
        found = (path for path in self._find(folder) if path[-length:].lower() == suffix and os.path.isfile(path))
        return map(Path, found)


def by_lower_suffix(paths: Iterable[Path]) -> dict[Path, Path]:
    """The paths by themselves with a suffix in lower case; of two that differ in its case, the one in lower case."""
    return {path.with_suffix(path.suffix.lower()): path for path in sorted(paths)}


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: it will be reported as a file that cannot be read
        return False
