"""Labels in the photo software's own files: merged into the XMP file of an image, or into a JPEG image itself."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from labelr import files
from labelr.data.embedded import Embedded, packet_in, read_embedded, with_packet
from labelr.data.images import UnreadableError
from labelr.errors import LabelrError
from labelr.tagging.pipeline import TaggedImage, Tagger
from labelr.xmp.merging import MAX_PROBABILITIES, merge
from labelr.xmp.packet import DamagedError, Packet, Record

MAX_SIDECAR, MAX_JPEG = 2**26, 2**29
"""Bytes of the files that labels are merged into: darktable keeps masks in its XMP files."""


class UnwritableFileError(LabelrError):
    """The file of an image cannot be written: its name is too long or taken, or a user has edited it."""


def merged_sidecar(path: Path, photo: Path, image: TaggedImage, tagger: Tagger) -> bytes | None:
    """The content of the XMP file of an image with its labels; None if it needs none.

    A file that does not exist yet in the output directory starts as a copy of that beside the image, and without one
    with the keywords in the image itself: programs that find an XMP file read no others.

    Raises:
        UnwritableFileError: If the file is damaged, or a link.
    """
    beside = photo.with_name(path.name)
    source = path if os.path.lexists(path) else beside if os.path.lexists(beside) else None
    try:
        content = _read(source, MAX_SIDECAR) if source else None
        keywords = _keywords_in(photo) if image.ranked else []
        return merge(content, *_labels_of(image, tagger), keywords)
    except DamagedError as error:
        raise UnwritableFileError(f"{path.name} is damaged, and is kept: {error}") from error


def is_reviewed(content: bytes) -> bool:
    """Whether somebody has reviewed the labels in XMP that labelr wrote, so that it is left as it is."""
    packet = Packet(content)
    return packet.record is not None and packet.is_reviewed


def embed(path: Path, image: TaggedImage, tagger: Tagger) -> bool:
    """Merges the labels of an image into the XMP of its JPEG file, and returns whether that had to be changed.

    Raises:
        UnwritableFileError: If the file is a link or cannot hold the labels; it is as before.
        LabelrError: If it cannot be written.
    """
    jpeg = _read(path, MAX_JPEG)
    try:
        before = packet_in(jpeg)
        keywords = _embedded(path).iptc if image.ranked else []
        packet = merge(before, *_labels_of(image, tagger), keywords)
        content = jpeg if packet is None or packet == before else with_packet(jpeg, packet)
    except DamagedError as error:
        raise UnwritableFileError(f"labels cannot be embedded: {error}") from error
    if content == jpeg:
        return False
    if tagger.options.backup:
        _back_up(path)
    if _read(path, MAX_JPEG) != jpeg:
        raise UnwritableFileError(f"{path.name} was changed meanwhile by another program")
    files.write_atomically(path, content, like=path)
    return True


def _labels_of(image: TaggedImage, tagger: Tagger) -> tuple[list[str], Record]:
    """The labels of an image, the most probable first, and what is kept of the model."""
    labels, ranked = tagger.selection.labels, (-image.probs).argsort(kind="stable")[:MAX_PROBABILITIES].tolist()
    probs = {labels[index]: round(float(image.probs[index]), 6) for index in ranked}
    record = Record(tagger.model.info.digest, tagger.options.xmp_root, probabilities=probs)
    return [labels[index] for index in image.ranked], record


def _read(path: Path, limit: int) -> bytes:
    if path.is_symlink():
        raise UnwritableFileError(f"{path.name} is a link, and is not changed")
    try:
        return files.read_bytes(path, limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnwritableFileError(f"{path.name} cannot be read: {reason}") from error


def _embedded(path: Path) -> Embedded:
    with suppress(UnreadableError):
        return read_embedded(path)
    return Embedded(None, [])


def _keywords_in(path: Path) -> list[str]:
    """The keywords in an image file."""
    packet, iptc = _embedded(path)
    with suppress(DamagedError):
        own = [keyword[-1] for keyword in Packet(packet).keywords] if packet else []
        return own or iptc
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
