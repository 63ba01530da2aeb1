"""Labels in the photo software's own files: merged into the XMP file of an image, or into a JPEG image itself."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelr import files
from labelr.data.embedded import is_jpeg, packet_in, read_embedded, with_packet
from labelr.data.images import UnreadableError
from labelr.tagging.output import UnwritableFileError, check_unprotected, failing_alone
from labelr.tagging.pipeline import TaggedImage, Tagger
from labelr.xmp.merging import MAX_PROBABILITIES, merge
from labelr.xmp.packet import DamagedError, Packet, Record, key

MAX_SIDECAR, MAX_JPEG = 2**26, 2**29
"""Bytes of the files that labels are merged into: darktable keeps masks in its XMP files."""


class PhotoFiles:
    """Merges the labels that a tagger selects.

    Attributes:
        kept: The images whose XMP was left as it is, since somebody has reviewed the labels that labelr wrote before.
    """

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self.kept: set[Path] = set()

    def is_jpeg(self, photo: Path) -> bool:
        """Whether an image is JPEG by its content.

        Raises:
            UnwritableFileError: If it cannot be read.
        """
        with _readable(photo):
            return is_jpeg(photo)

    def reviewed(self, path: Path, photo: Path) -> bytes | None:
        """The XMP of an image whose labels somebody has reviewed, wherever it is; None where nobody has.

        Programs do not read all places alike: what was removed from one must not come back in another.
        """
        for content in _packets_of(path, photo):
            with suppress(DamagedError):
                packet = Packet(content)
                if packet.record and packet.is_reviewed:
                    self.kept.add(photo)
                    return content
        return None

    def merged_sidecar(self, path: Path, photo: Path, image: TaggedImage) -> bytes | None:
        """The content of the XMP file of an image with its labels; None if it needs none.

        A file that does not exist yet starts as a copy of that of the image's other name, or in the output directory of
        that beside the image, and without one with the keywords in the image itself: programs that find an XMP file
        read no others.

        Raises:
            UnwritableFileError: If the file is damaged, or a link.
        """
        source = next(filter(os.path.lexists, _sidecars_of(path, photo)), None)
        try:
            return self._merge(_read(source, MAX_SIDECAR) if source else None, image, lambda: _keywords_in(photo))
        except DamagedError as error:
            raise UnwritableFileError(f"{(source or path).name} is damaged, and is kept: {error}") from error

    def embed(self, path: Path, image: TaggedImage) -> bool:
        """Merges the labels of an image into the XMP of its JPEG file, and returns whether that had to be changed.

        Raises:
            UnwritableFileError: If the file is a link, is write-protected or cannot hold the labels; it is as before.
            LabelrError: If it cannot be written.
        """
        jpeg = _read(path, MAX_JPEG)
        try:
            before = packet_in(jpeg)
            packet = self._merge(before, image, lambda: _embedded_in(path)[1])
            content = jpeg if packet is None or packet == before else with_packet(jpeg, packet)
        except DamagedError as error:
            raise UnwritableFileError(f"labels cannot be embedded: {error}") from error
        if content == jpeg:
            return False
        check_unprotected(path)
        if self._tagger.options.backup:
            _back_up(path)
        if _read(path, MAX_JPEG) != jpeg:
            raise UnwritableFileError(f"{path.name} was changed meanwhile by another program")
        files.write_atomically(path, content, like=path)
        return True

    def _merge(self, content: bytes | None, image: TaggedImage, keywords: Callable[[], list[str]]) -> bytes | None:
        """XMP with the labels of an image, and `keywords` where it has none of others."""
        model, selection, options = self._tagger.model, self._tagger.selection, self._tagger.options
        most_probable = (-image.probs).argsort(kind="stable").tolist()
        kept = (i for rank, i in enumerate(most_probable) if rank < MAX_PROBABILITIES or image.applies[i])
        probs = {selection.labels[index]: round(float(image.probs[index]), 6) for index in kept}
        labels = selection.tags(image)
        record = Record(model.info.digest, options.xmp_root, probabilities=probs)
        return merge(content, labels, record, keywords() if labels else ())


def _sidecars_of(path: Path, photo: Path) -> dict[Path, None]:
    """Where the XMP file `path` of an image may be: also with its other name, and beside the image."""
    names = dict.fromkeys([path.name, f"{photo.name}.xmp", f"{photo.stem}.xmp"])
    return dict.fromkeys(folder / name for folder in (path.parent, photo.parent) for name in names)


def _packets_of(path: Path, photo: Path) -> Iterator[bytes]:
    """All XMP of an image, except behind links."""
    for sidecar in filter(os.path.isfile, _sidecars_of(path, photo)):
        if not sidecar.is_symlink():
            yield _read(sidecar, MAX_SIDECAR)
    yield _embedded_in(photo)[0] or b""


def _read(path: Path, limit: int) -> bytes:
    if path.is_symlink():
        raise UnwritableFileError(f"{path.name} is a link, and is not changed")
    with _readable(path):
        return files.read_bytes(path, limit)


def _embedded_in(photo: Path) -> tuple[bytes | None, list[str]]:
    with _readable(photo):
        return read_embedded(photo)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Lets an image fail where a file of it cannot be read: what a person wrote there would be lost without a word."""
    try:
        yield
    except (OSError, ValueError, UnreadableError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnwritableFileError(f"{path.name} cannot be read: {reason}") from error


def _keywords_in(path: Path) -> list[str]:
    """The keywords in an image file that labelr did not embed."""
    content, iptc = _embedded_in(path)
    with suppress(DamagedError):
        packet = Packet(content or b"")
        own = [keyword[-1] for keyword in packet.keywords if key(keyword[-1]) not in packet.written]
        return own or [word for word in iptc if key(word) not in packet.written]
    return iptc


def _back_up(path: Path) -> None:
    """Keeps an image under another name, unless there is a file of that name: that may be the first original.

    Raises:
        UnwritableFileError: If what has that name cannot be an older original.
    """
    backup = path.with_name(f"{path.name}.bak")
    with failing_alone(), files.writing(backup):
        try:
            os.link(path, backup)
        except FileExistsError:
            status = backup.lstat()
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                raise UnwritableFileError(f"{backup.name} is no copy of an original: rename or delete it") from None
        except OSError:  # a file system without hard links
            _copy(path, backup)


def _copy(path: Path, backup: Path) -> None:
    """Copies an image to a new name; one that another process takes meanwhile is left to it."""
    handle, name = tempfile.mkstemp(prefix=files.DRAFT_PREFIX, suffix=files.DRAFT_SUFFIX, dir=path.parent)
    os.close(handle)
    try:
        shutil.copy2(path, name)
        with suppress(FileExistsError):
            backup.open("xb").close()
            Path(name).replace(backup)
    finally:
        Path(name).unlink(missing_ok=True)
