"""Keywords of photo software: in XMP files beside images, and in the images themselves."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from labelr.data.embedded import read_embedded
from labelr.data.formats import folders
from labelr.data.formats.source import Source
from labelr.data.images import UnreadableError
from labelr.data.label_table import Annotation, LabelTable
from labelr.data.limits import read_bytes
from labelr.data.walk import by_lower_suffix
from labelr.errors import LabelrError, pluralize, preview
from labelr.xmp.packet import MARKS, DamagedError, KeywordPath, Packet, key, most_specific

SUFFIX = ".xmp"
PROBED_FILES = 20


class _Photo(NamedTuple):
    """The keywords of an image, and its XMP if labelr wrote some of them."""

    name: str
    keywords: Sequence[KeywordPath]
    tagged: Packet | None = None

    @property
    def is_unconfirmed(self) -> bool:
        """Whether keywords are predictions that nobody has reviewed."""
        return self.tagged is not None and not self.tagged.is_reviewed

    @property
    def own(self) -> list[KeywordPath]:
        """The keywords that labelr did not write."""
        return [path for path in self.keywords if self.tagged is None or key(path[-1]) not in self.tagged.written]


def fits(source: Source) -> int:
    """Confidence that images have XMP files with keywords beside them: 2 if the user names this layout, else 0 or 1.

    Those in images are not looked for. Predictions that nobody reviewed do not compete with the names of folders.
    """
    if not source.is_folder or source.options.layout == "xmp":
        return 2 * source.is_folder
    has_predictions = False
    for path in islice(_sidecars(source), PROBED_FILES):
        with suppress(LabelrError):  # reported when it is read
            photo = _of_packet("", read_bytes(path, source.limits), path)
            if photo and photo.keywords and (photo.own or not photo.is_unconfirmed):
                return 1
            has_predictions |= photo is not None
    return int(has_predictions and not folders.fits(source))


def read(source: Source) -> LabelTable:
    """The label table of keywords; images without any are not labelled, and left out.

    A keyword in a hierarchy is a label for each level, or with `leaf_only` for the lowest. Keywords that `labelr tag`
    wrote are predictions until somebody has reviewed them.

    Raises:
        LabelrError: If no image has keywords, or an XMP file is damaged.
    """
    if not source.is_folder:
        raise LabelrError(f"{source.path} is not a folder", "name the folder of the photographs, or of the XMP files")
    invalid: dict[str, str] = {}
    photos = list(_read_photos(source, invalid))
    trust, leaf_only = source.options.trust_predictions, source.options.leaf_only
    partial = {photo.name for photo in photos if photo.is_unconfirmed and trust is False}
    kept = [photo._replace(keywords=photo.own) if photo.name in partial else photo for photo in photos]
    kept = [photo for photo in kept if photo.keywords or photo.name not in partial]
    if not kept:
        what = "are predictions that nobody reviewed" if photos else f"cannot be read: {preview([*invalid.values()])}"
        what = what if photos or invalid else "do not exist"
        hint = f"write keywords in your photo software, or give an image a keyword `{MARKS[0]}` if its labels are right"
        raise LabelrError(f"{source.path}: the keywords of its images {what}", hint)
    records = [photo.tagged.record for photo in photos if photo.tagged and photo.tagged.record]
    roots = {record.path("")[:-1] for record in records}
    marks = MARKS if records else ()
    annotations = []
    for photo in kept:
        labels = {label for path in photo.keywords for label in _labels_of(path, roots, leaf_only=leaf_only)}
        labels -= {label for label in labels if key(label) in marks}
        annotations.append(Annotation(photo.name, labels, complete=photo.name not in partial))
    table = LabelTable.of(
        annotations,
        f"keywords of photo software in XMP beside images{' and in them' * (source.options.layout == 'xmp')}",
        notes=_notes(photos, source),
        invalid=list(invalid.values()),
        aside=[*invalid, *(partial - {photo.name for photo in kept})],
        limits=source.limits,
    )
    unconfirmed = (photo.name for photo in photos if photo.is_unconfirmed and trust is None)
    return replace(table, unconfirmed=tuple(unconfirmed))


def _notes(photos: Sequence[_Photo], source: Source) -> list[str]:
    options = source.options
    deep = sum(any(len(path) > 1 for path in photo.keywords) for photo in photos)
    empty = [photo.name for photo in photos if not (photo.keywords or photo.is_unconfirmed)]
    tagged = sum(photo.tagged is not None for photo in photos)
    without = len(source.image_files) - len(photos)
    unreviewed = sum(photo.is_unconfirmed for photo in photos)
    levels = "only the lowest level is a label" if options.leaf_only else "each level is a label"
    use = {True: ", used as labels", False: ", left out", None: ""}[options.trust_predictions]
    notes = {
        f"keywords in a hierarchy, of which {levels}: on {pluralize(deep, 'image')}": deep,
        f"images from which all keywords were removed: {len(empty):,} ({preview(empty)})": empty,
        f"keywords that `labelr tag` wrote: on {pluralize(tagged, 'image')}, {tagged - unreviewed:,} reviewed": tagged,
        f"predictions that nobody reviewed{use}: on {pluralize(unreviewed, 'image')}": unreviewed,
        f"images without keywords, left out: {without:,}": without,
    }
    return [note for note, applies in notes.items() if applies]


def _labels_of(path: KeywordPath, roots: set[KeywordPath], *, leaf_only: bool) -> KeywordPath:
    """The labels of a keyword, without the parent keyword that labelr gave its labels."""
    size = max((len(root) for root in roots if path[: len(root)] == root and len(root) < len(path)), default=0)
    return tuple(unicodedata.normalize("NFC", level) for level in (path[-1:] if leaf_only else path[size:]))


def _read_photos(source: Source, invalid: dict[str, str]) -> Iterator[_Photo]:
    """The images that have keywords, or had those of labelr; what is wrong with an XMP file goes into `invalid`."""
    root, sidecars = _root(source), by_lower_suffix(_sidecars(source))
    stems = Counter(map(_stem, source.image_files))
    for name in source.image_files:
        paths = [sidecars[path] for base in (name, _stem(name)) if (path := root / f"{base}{SUFFIX}") in sidecars]
        if stems[_stem(name)] > 1:
            del paths[1:]  # it may be of another image
        try:
            found = filter(None, _packets_of(name, paths, source))
            photo = next(found, None)
            if photo and photo.is_unconfirmed:  # unless somebody has reviewed it elsewhere
                photo = next((other for other in found if other.tagged and not other.is_unconfirmed), photo)
        except LabelrError as error:
            if not source.options.skip_invalid:
                hint = "save it again, or leave such images out with `--skip-invalid`"
                raise LabelrError(error.message, hint) from error
            invalid[name] = error.message
            continue
        if photo:
            yield photo


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _packets_of(name: str, paths: Sequence[Path], source: Source) -> Iterator[_Photo | None]:
    """The keywords of an image in each of its XMP files, and with `--layout xmp` in itself."""
    for path in paths:
        yield _of_packet(name, read_bytes(path, source.limits), path)
    if source.options.layout == "xmp":
        yield _of_image(name, source.images / name)


def _root(source: Source) -> Path:
    """Where the XMP files are: beside the images, or in a tree like theirs that the user names."""
    if not source.options.labels:
        return source.images
    below = source.path / source.images.name  # `labelr tag` names images from the folder above `images`
    return below if below.name == "images" and os.path.isdir(below) else source.path


def _sidecars(source: Source) -> Iterator[Path]:
    return source.index.find_suffix(_root(source), SUFFIX)


def _of_packet(name: str, content: bytes, path: Path) -> _Photo | None:
    """The keywords in an XMP packet; None where it has none, and labelr wrote none."""
    try:
        packet = Packet(content)
    except DamagedError as error:
        raise LabelrError(f"the XMP in {path} is damaged: {error}") from error
    tagged = packet if packet.record else None
    return _Photo(name, packet.keywords, tagged) if packet.keywords or tagged else None


def _of_image(name: str, path: Path) -> _Photo | None:
    """The keywords in an image; None where it has none. One that cannot be read is reported when it is decoded."""
    try:
        packet, keywords = read_embedded(path)
    except UnreadableError:
        return None
    photo = _of_packet(name, packet, path) if packet else None
    iptc = most_specific((keyword,) for keyword in keywords if keyword)
    return photo or (_Photo(name, iptc) if iptc else None)
