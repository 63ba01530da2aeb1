"""Labels in the photo software's own files: merged into the XMP file of an image, or into a JPEG image itself."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from labelr import files
from labelr.data.embedded import packet_in, read_embedded, with_packet
from labelr.errors import LabelrError
from labelr.tagging.pipeline import TaggedImage, Tagger
from labelr.xmp.merging import MAX_PROBABILITIES, merge
from labelr.xmp.packet import DamagedError, Packet, Record

MAX_SIDECAR, MAX_JPEG = 2**26, 2**29
"""Bytes of the files that labels are merged into: darktable keeps masks in its XMP files."""


class UnwritableFileError(LabelrError):
    """The file of an image cannot be written: its name is too long or taken, or a user has edited it."""


class PhotoFiles:
    """Merges the labels that a tagger selects.

    Attributes:
        num_reviewed: How often labels that labelr wrote before were left as they are, since somebody reviewed them.
    """

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self.num_reviewed = 0

    def merged_sidecar(self, path: Path, photo: Path, image: TaggedImage) -> bytes | None:
        """The content of the XMP file of an image with its labels; None if it needs none.

        A file that does not exist yet in the output directory starts as a copy of that beside the image, and without
        one with the keywords in the image itself: programs that find an XMP file read no others.

        Raises:
            UnwritableFileError: If the file is damaged, or a link.
        """
        beside = photo.with_name(path.name)
        source = path if os.path.lexists(path) else beside if os.path.lexists(beside) else None
        try:
            return self._merge(_read(source, MAX_SIDECAR) if source else None, image, lambda: _keywords_in(photo))
        except DamagedError as error:
            raise UnwritableFileError(f"{path.name} is damaged, and is kept: {error}") from error

    def embed(self, path: Path, image: TaggedImage) -> bool:
        """Merges the labels of an image into the XMP of its JPEG file, and returns whether that had to be changed.

        Raises:
            UnwritableFileError: If the file is a link or cannot hold the labels; it is as before.
            LabelrError: If it cannot be written.
        """
        jpeg = _read(path, MAX_JPEG)
        try:
            before = packet_in(jpeg)
            packet = self._merge(before, image, lambda: read_embedded(path)[1])
            content = jpeg if packet is None or packet == before else with_packet(jpeg, packet)
        except DamagedError as error:
            raise UnwritableFileError(f"labels cannot be embedded: {error}") from error
        if content == jpeg:
            return False
        if self._tagger.options.backup:
            _back_up(path)
        if _read(path, MAX_JPEG) != jpeg:
            raise UnwritableFileError(f"{path.name} was changed meanwhile by another program")
        files.write_atomically(path, content, like=path)
        return True

    def _merge(self, content: bytes | None, image: TaggedImage, keywords: Callable[[], list[str]]) -> bytes | None:
        """XMP with the labels of an image, and `keywords` where it has none of others."""
        model, selection, options = self._tagger.model, self._tagger.selection, self._tagger.options
        most_probable = (-image.probs).argsort(kind="stable")[:MAX_PROBABILITIES].tolist()
        probs = {selection.labels[index]: round(float(image.probs[index]), 6) for index in most_probable}
        labels = selection.tags(image)
        record = Record(model.info.digest, options.xmp_root, probabilities=probs)
        merged = merge(content, labels, record, keywords() if labels else ())
        if content is not None and merged is content:
            packet = Packet(content)
            self.num_reviewed += packet.record is not None and packet.is_reviewed
        return merged


def _read(path: Path, limit: int) -> bytes:
    if path.is_symlink():
        raise UnwritableFileError(f"{path.name} is a link, and is not changed")
    try:
        return files.read_bytes(path, limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnwritableFileError(f"{path.name} cannot be read: {reason}") from error


def _keywords_in(path: Path) -> list[str]:
    """The keywords in an image file."""
    packet, iptc = read_embedded(path)
    with suppress(DamagedError):
        return [keyword[-1] for keyword in Packet(packet or b"").keywords] or iptc
    return iptc


def _back_up(path: Path) -> None:
    """Keeps an image under another name, unless there is a file of that name: that may be the first original."""
    backup = path.with_name(f"{path.name}.bak")
    if os.path.lexists(backup):
        return
    with files.writing(backup):
        try:
            os.link(path, backup)
        except OSError:  # a file system without hard links
            copy = path.with_name(f"{files.DRAFT_PREFIX}{path.name}{files.DRAFT_SUFFIX}")
            shutil.copy2(path, copy)
            copy.rename(backup)
