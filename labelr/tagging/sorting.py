"""Sorts images into a folder for each label, as links or copies; what labelr made there is updated, nothing else."""

import errno
import hashlib
import logging
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from labelr import files, signals
from labelr.config import SortKind, TagOptions
from labelr.data.images import UnreadableError, open_file
from labelr.data.walk import SORTED_FILE
from labelr.errors import LabelrError, pluralize, preview
from labelr.processors import in_batches
from labelr.tagging.journal import Journal, Link
from labelr.tagging.output import check_inside
from labelr.tagging.pipeline import Result, TaggedImage, Tagger

log = logging.getLogger(__name__)

BATCH = 1000
"""Links that are planned, and on disk in the journal, before they are made."""
MAX_NAME_BYTES = 200
"""Longer names of folders and files are cut; systems allow 255, which the ending of a temporary file must fit into."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*~]|^[\s.]+|[\s.]+$')
"""What the name of a file may not hold on every system, or at its ends; also `~`, which the gallery separates with."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names of devices under Windows."""
_AMBIGUOUS = re.compile("__|_/|/_")
"""In the path of an image, what could be confused with the separator of folders in the name of a link."""
_REFUSED = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ENOENT)
"""Errors of a single link: its name does not suit the file system, or the image is gone."""
_NOT_LINKED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)


def safe_names(labels: Sequence[str]) -> list[str]:
    """A name for each label that every file system takes, and that differs from the others in more than case."""
    cleaned = [_shortened(_UNSAFE.sub("_", label) or "_") for label in labels]
    cleaned = [f"{name}_" if _RESERVED.fullmatch(name) else name for name in cleaned]
    keys = [unicodedata.normalize("NFC", name).casefold() for name in cleaned]
    count = Counter(keys)
    return [
        name if count[key] == 1 else f"{name}-{_short_digest(label)}"
        for label, name, key in zip(labels, cleaned, keys, strict=True)
    ]


def link_name(image: str) -> str:
    """The name of the link to an image: its relative path with ``__`` for ``/``; no two images have the same.

    Where that is ambiguous, or not every system takes it, a digest follows.
    """
    flat = image.replace("/", "__")
    name = _UNSAFE.sub("_", flat)
    if name != flat or _AMBIGUOUS.search(image):
        name = f"{PurePath(name).stem}-{_short_digest(image)}{PurePath(name).suffix}"
    return _shortened(name)


def _shortened(name: str) -> str:
    """The name, cut if it is too long, with a digest instead of the rest and its ending."""
    if len(os.fsencode(name)) <= MAX_NAME_BYTES:
        return name
    ending = PurePath(name).suffix[:10]
    start = os.fsencode(name)[: MAX_NAME_BYTES - 50].decode("utf-8", "ignore")
    return f"{start}-{_short_digest(name)}{ending}"


def _short_digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def sorted_folder(options: TagOptions) -> Path:
    """The absolute path of the folder that images are sorted into."""
    return Path(os.path.abspath(files.local_path(options.sort_into or "")))


def prepare_folder(folder: Path, kind: SortKind, images: Path) -> None:
    """Creates the folder that images are sorted into, if it does not exist, before there is work to lose.

    Raises:
        LabelrError: If it holds something else, or links of this kind cannot be made there.
    """
    with files.writing(folder):
        _create(folder)
        if kind == "hardlink" and folder.stat().st_dev != images.stat().st_dev:
            raise _not_linked(folder, kind, "the images are on another drive")
        probe = folder / f"{files.DRAFT_PREFIX}link{files.DRAFT_SUFFIX}"
        probe.unlink(missing_ok=True)
        try:
            if kind == "symlink":
                probe.symlink_to(images)
                probe.unlink()
        except OSError as error:
            raise _not_linked(folder, kind, error.strerror or str(error)) from error


def _create(folder: Path) -> None:
    """Creates the folder with the file that marks it; LabelrError if it is a file, or holds something else."""
    if folder.exists() and not folder.is_dir():
        raise LabelrError(f"sort_into: {folder} is a file", "name a folder with `--sort-into DIR`")
    if not (folder / SORTED_FILE).exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise LabelrError(
                f"sort_into: {folder} holds files that labelr did not sort", "name a new folder with `--sort-into DIR`"
            )
        files.make_folder(folder)
        files.write_atomically(folder / SORTED_FILE, "`labelr tag --sort-into` makes and updates this folder.\n")


def _not_linked(folder: Path, kind: SortKind, reason: str) -> LabelrError:
    what = {"symlink": "symbolic links", "hardlink": "hard links", "copy": "copies"}[kind]
    return LabelrError(f"{what} cannot be made in {folder}: {reason}", "make copies with `--sort-as copy`")


class Sorter:
    """Sorts images into a folder for each label, as links or copies.

    A link is recognised by its target, a hard link or a copy by the digest of its content. It is in the journal before
    it is made, so that after a kill it is still known as labelr's.

    Attributes:
        num_links: The number of labelr's links that are there now.
    """

    def __init__(self, tagger: Tagger, base: Path, journal: Journal) -> None:
        self.num_links = self._num_same = 0
        self._folder, self._kind = sorted_folder(tagger.options), tagger.options.sort_as
        self._names = safe_names(tagger.selection.labels)
        self._base = base
        self._journal = journal
        self._kept: list[Path] = []  # what is in the way of links and not labelr's
        self._last: list[Path] = []  # kept copies and hard links that may be all that is left of an image
        self._failed: dict[str, None] = {}  # the images that could not be linked
        self._wanted: set[bytes] = set()  # digests of paths, since these would take several times the memory
        with files.writing(self._folder):
            _create(self._folder)  # it may have vanished during the run
            self._existing = {path.name for path in self._folder.iterdir()}  # in others, all links are made
            files.delete_drafts(self._folder)
        self._unseen = {content for _, content in journal.links_below(self._folder) if content.startswith(b"copy ")}

    def sort(self, images: Iterable[TaggedImage]) -> list[str]:
        """Makes a link of each image in the folder of each of its labels, and removes those that no longer apply.

        A link that was removed by somebody else is not made again, unless its folder was removed as well. What labelr
        did not make, somebody has changed, or may be all that is left of an image is kept, and counted in a warning.

        Returns:
            Notes on what else is there.

        Raises:
            LabelrError: If links cannot be made.
            Stopped: If a signal has arrived.
        """
        pairs = ((image.result, self._names[index]) for image in map(self._see, images) for index in image.ranked)
        for batch in in_batches(pairs, BATCH):
            signals.raise_if_stopped()
            self._add(batch)
        self._remove_others()
        changed = "that labelr did not make, or somebody has changed"
        for paths, reason in ((self._kept, changed), (self._last, "whose image is gone or was replaced")):
            if paths:
                shown = preview([path.relative_to(self._folder).as_posix() for path in paths])
                log.warning("kept %s in %s %s: %s", pluralize(len(paths), "file"), self._folder, reason, shown)
        if self._failed:
            failed = pluralize(len(self._failed), "image")
            log.warning("%s could not be sorted: %s", failed, preview(list(self._failed)))
        unknown = self._count_unknown()
        what = f"files in {self._folder} that belong to no run into this output directory, left as they are"
        return [f"{what}: {unknown:,}"] if unknown else []

    def _see(self, image: TaggedImage) -> TaggedImage:
        """Takes note that an image exists, so that copies of it are not the last."""
        self._unseen.discard(f"copy {image.result.digest}".encode())
        return image

    def _add(self, batch: Sequence[tuple[Result, str]]) -> None:
        """Makes the links of some images in the folders of these names, unless they are there."""
        planned = list(self._plan(batch))
        self._journal.commit()
        for path, result, before, content in planned:
            if os.path.lexists(path) and _is_last_name(path, before):  # the image was replaced by another file
                self._last.append(path)
                continue
            try:
                self._make(path, result)
            except UnreadableError:
                self._failed[result.name] = None
            except OSError as error:
                if error.errno in _NOT_LINKED:
                    raise _not_linked(self._folder, self._kind, error.strerror or str(error)) from error
                if error.errno not in _REFUSED:
                    raise files.write_error(path, error) from error
                self._failed[result.name] = None
            else:
                self._journal.put_link(path, Link(content, made=True))
                self.num_links += 1

    def _plan(self, batch: Sequence[tuple[Result, str]]) -> Iterator[tuple[Path, Result, bytes, bytes]]:
        """The links to make, which are in the journal now, with what is recognised there before and after."""
        for result, name in batch:
            path, content = self._folder / name / link_name(result.name), self._content(result)
            self._wanted.add(_key(path))
            known, exists = self._journal.link(path), os.path.lexists(path)
            if known and known.made and (known.content == content if exists else name in self._existing):
                self.num_links += exists
                continue  # it is there, or somebody has removed it
            was_ours = known is not None and exists and _is_ours(path, known.content)
            if not exists or (known and was_ours and known.content != content):
                before = known.content if known and was_ours else content
                self._journal.put_link(path, Link(before, made=False))
                yield path, result, before, content
            elif known and (was_ours or _is_ours(path, content)):
                self._journal.put_link(path, Link(content, made=True))
                self.num_links += 1
            elif not _is_ours(path, content):
                self._kept.append(path)
            else:
                self._num_same += 1  # the link of another run to the same image

    def _content(self, result: Result) -> bytes:
        """What the link to an image is recognised by."""
        if self._kind == "symlink":
            return b"symlink " + os.fsencode(self._base / result.name)
        return f"{self._kind} {result.digest}".encode()

    def _make(self, path: Path, result: Result) -> None:
        image = self._base / result.name
        check_inside(path, self._folder)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # known as labelr's
        if self._kind == "symlink":
            path.symlink_to(image)
        elif self._kind == "hardlink":
            path.hardlink_to(os.path.realpath(image))
        else:
            with open_file(image) as source, files.replacing(path, durable=False) as copy:
                shutil.copyfileobj(source, copy)
            if not files.is_elsewhere(image):
                shutil.copystat(image, path)

    def _remove_others(self) -> None:
        """Removes the links of labelr's in the folder that were not wanted, and the folders that are empty then."""
        others = [path for path, _ in self._journal.links_below(self._folder) if _key(path) not in self._wanted]
        for path in others:
            known = self._journal.link(path)
            if known is None or not files.is_inside(path, self._folder):
                continue
            is_ours = os.path.lexists(path) and _is_ours(path, known.content)
            if is_ours and (known.content in self._unseen or _is_last_name(path, known.content)):
                self._last.append(path)  # and forgotten: from now on, it belongs to the user
            elif is_ours:
                with files.deleting(path):
                    path.unlink()
                with suppress(OSError):  # it is not empty
                    path.parent.rmdir()
            elif os.path.lexists(path) and known.made:
                self._kept.append(path)
            self._journal.forget_link(path)
        self._journal.commit()

    def _count_unknown(self) -> int:
        """The number of files in the folders of labels that are of no known run and were not counted otherwise."""
        counted = {*self._kept, *self._last}
        folders = ((Path(folder), names) for folder, _, names in os.walk(self._folder))
        found = (folder / name for folder, names in folders for name in names if folder != self._folder)
        others = (path for path in found if not path.name.startswith(".") and path not in counted)
        return self._num_same + sum(_key(path) not in self._wanted for path in others)


def _key(path: Path) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=16).digest()


def _is_ours(path: Path, content: bytes) -> bool:
    """Whether what is there is still the link or copy with this content."""
    kind, _, expected = content.partition(b" ")
    if kind == b"symlink":
        return path.is_symlink() and os.fsencode(path.readlink()) == expected
    return not path.is_symlink() and files.digest(path).encode() == expected


def _is_last_name(path: Path, content: bytes) -> bool:
    """Whether a hard link is the only name that a photograph still has."""
    return content.startswith(b"hardlink ") and path.lstat().st_nlink == 1
